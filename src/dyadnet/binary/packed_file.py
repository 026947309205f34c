"""Packed networks in safetensors files: tensors, the architecture as data, and a checksum over every byte.

The metadata holds `format`, `version`, `bit_order`, `architecture` (JSON, see `architecture.py`) and `sha256`: the
digest of the whole file with 64 zeros in the digest's own place.
"""

import hashlib
import json
import os
import re
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from dyadnet.binary.architecture import build, describe
from dyadnet.binary.packing import BIT_ORDER

FORMAT, VERSION = "dyadnet-packed", "1"

_BLANK = b"0" * 64
_DIGEST = re.compile(rb'"sha256":"([0-9a-f]{64})"')


def write_packed(model: nn.Module, path: Path) -> None:
    """Write a packed network; the file appears under its name when it is complete.

    Raises:
        TypeError: naming a layer that a file cannot hold.
    """
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "bit_order": BIT_ORDER,
        "architecture": json.dumps(describe(model)),
        "sha256": _BLANK.decode(),
    }
    aside = path.with_name(path.name + ".tmp")
    aside.write_bytes(_seal(safetensors.torch.save(tensors_of(model), metadata)))
    os.replace(aside, path)


def read_packed(path: Path) -> nn.Module:
    """Return the network of a file that `write_packed` wrote, for inference.

    Raises:
        ValueError: if the file is truncated, altered, or none of that kind.
    """
    data = path.read_bytes()
    if not _sealed(data):
        raise ValueError(f"{path} is damaged or no packed network: it is not as it was written")
    try:
        metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        if (metadata["format"], metadata["version"]) != (FORMAT, VERSION):
            raise ValueError(f"it has format {metadata['format']} {metadata['version']}, not {FORMAT} {VERSION}")
        return restore(json.loads(metadata["architecture"]), safetensors.torch.load(data))
    except (AttributeError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise ValueError(f"{path} is not usable: {error}") from error


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Return what a file stores: the state of a model, each tensor in memory of its own."""
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in model.state_dict().items()}


def restore(description: dict[str, object], tensors: dict[str, Tensor]) -> nn.Module:
    """Return the network that was described, with its tensors, for inference.

    Raises:
        ValueError: if they do not fit.
    """
    model = build(description)
    try:
        model.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise ValueError(" ".join(str(error).split())) from error
    return model.eval().requires_grad_(False)


def _seal(data: bytes) -> bytes:
    """Put the digest in its place, which holds zeros."""
    return _DIGEST.sub(b'"sha256":"' + hashlib.sha256(data).hexdigest().encode() + b'"', data, count=1)


def _sealed(data: bytes) -> bool:
    """Whether the digest is that of the file with zeros in its place."""
    place = _DIGEST.search(data)
    if place is None:
        return False
    blank = data[: place.start(1)] + _BLANK + data[place.end(1) :]
    return hashlib.sha256(blank).hexdigest().encode() == place[1]
