"""Packed networks in GGUF files, whose type `Q1_0` llama.cpp computes with.

`Q1_0` holds 128 weights of a row in 18 bytes: a scale in half precision, then their signs, the first in the lowest bit
of the first byte, a set bit for +. Linear layers whose inputs are a multiple of 128 take it. Other binary weights are
stored in half precision where their scales fit into it exactly, else in single precision, as all other numbers are.
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dyadnet.binary.architecture import build, describe
from dyadnet.binary.packed import AbstractPacked, PackedLinear
from dyadnet.binary.packed_file import restore, tensors_of
from dyadnet.binary.packing import pack_signs

ARCHITECTURE = "dyadnet.architecture"
BLOCK = 128
"""Weights with one scale."""


def write_gguf(model: nn.Module, path: Path) -> list[str]:
    """Write a packed network; return what could not be stored as `Q1_0`, a line for every such layer.

    Raises:
        TypeError: naming a layer that a file cannot hold.
        ImportError: if the package gguf is not installed.
    """
    import gguf

    writer, notes = gguf.GGUFWriter(path, "dyadnet"), list[str]()
    writer.add_string(ARCHITECTURE, json.dumps(describe(model)))
    tensors = tensors_of(model)
    for name, layer in model.named_modules():
        if isinstance(layer, AbstractPacked):
            prefix = f"{name}." if name else ""
            del tensors[f"{prefix}bits"], tensors[f"{prefix}scale"]
            reason = _unfit(layer)
            if reason is None:
                writer.add_tensor(f"{prefix}weight", _blocks(layer).numpy(), raw_dtype=gguf.GGMLQuantizationType.Q1_0)
            else:
                tensors[f"{prefix}weight"] = _dense(layer)
                precision = "half" if tensors[f"{prefix}weight"].dtype == torch.float16 else "single"
                notes.append(f"layer {name} is not Q1_0 but in {precision} precision: {reason}")
            if reason is None and _half(layer.scale).float().ne(layer.scale).any():
                notes.append(f"layer {name}: its scales are rounded to half precision")
    for name, tensor in tensors.items():
        writer.add_tensor(name, np.atleast_1d(tensor.numpy()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return notes


def read_gguf(path: Path) -> nn.Module:
    """Return the network of a file that `write_gguf` wrote, for inference. The format has no checksum.

    Raises:
        ValueError: if the file is none of that kind.
        ImportError: if the package gguf is not installed.
    """
    import gguf

    try:
        reader = gguf.GGUFReader(path)
        description = json.loads(reader.fields[ARCHITECTURE].contents())
        stored = {tensor.name: torch.from_numpy(np.array(tensor.data)) for tensor in reader.tensors}
        model = build(description)
        for name, layer in model.named_modules():
            if isinstance(layer, AbstractPacked):
                _take(stored, f"{name}." if name else "", layer)
        shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
        return restore(description, {name: tensor.reshape(shapes[name]) for name, tensor in stored.items()})
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged or no network that dyadnet wrote: {error}") from error


def _unfit(layer: AbstractPacked) -> str | None:
    """Say why a layer's weight cannot be `Q1_0`, if it cannot."""
    if not isinstance(layer, PackedLinear):
        return "Q1_0 is for linear layers"
    if layer.inputs.numel() % BLOCK:
        return f"its {layer.inputs.numel()} inputs are no multiple of {BLOCK}"
    half = _half(layer.scale)
    return None if bool((half.isfinite() & (half > 0)).all()) else "its scales are no numbers in half precision"


def _half(scale: Tensor) -> Tensor:
    return scale.to(torch.float16)


def _dense(layer: AbstractPacked) -> Tensor:
    """Return the weight as it is, in half precision where that is exact."""
    scale = layer.scale.view(-1, *[1] * len(layer.inputs))
    exact = bool((_half(layer.scale).to(scale.dtype) == layer.scale).all())
    weight = (layer.signs() * scale).cpu()
    return weight.half() if exact else weight


def _blocks(layer: AbstractPacked) -> Tensor:
    """Return the bytes of the weight, `(outputs, 18 * inputs / 128)`."""
    bits = layer.bits.cpu().unflatten(1, (-1, BLOCK // 8))
    scale = _half(layer.scale.cpu()).view(-1, 1, 1).expand(*bits.shape[:2], 1).contiguous().view(torch.uint8)
    return torch.cat([scale, bits], 2).flatten(1)


def _take(stored: dict[str, Tensor], prefix: str, layer: AbstractPacked) -> None:
    """Replace a stored weight by bits and scale."""
    weight = stored.pop(f"{prefix}weight")
    if weight.dtype == torch.uint8:
        blocks = weight.view(len(weight), -1, 2 + BLOCK // 8)
        bits, scale = blocks[..., 2:].flatten(1), blocks[:, 0, :2].contiguous().view(torch.float16)[:, 0].float()
    else:
        bits, scale = pack_signs(weight.flatten(1)), weight.flatten(1)[:, 0].abs().float()
    stored[f"{prefix}bits"] = bits
    stored[f"{prefix}scale"] = scale if layer.per_output else scale[:1]
