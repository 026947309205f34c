"""Networks with binary weights as files: the format is told by the suffix."""

from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from dyadnet.binary.gguf_file import read_gguf, write_gguf
from dyadnet.binary.onnx_file import OnnxModule, write_onnx
from dyadnet.binary.pack import pack, unpacked_layers
from dyadnet.binary.packed_file import read_packed, write_packed

FormatName = Literal["packed", "gguf", "onnx"]
SUFFIXES: dict[FormatName, str] = {"packed": ".safetensors", "gguf": ".gguf", "onnx": ".onnx"}


def save(model: nn.Module, path: Path | str, example: Tensor | None = None) -> list[str]:
    """Write a network with binary weights, one bit each, and return what the file could not hold that way, in words.

    Args:
        model: the network; its binary weights are packed (see `pack`) if they are not yet.
        path: ends with `.safetensors`, `.gguf` (needs the package gguf) or `.onnx` (onnx and onnxscript).
        example: inputs, `(batch, ...)`; an ONNX file has to know the shape of a sample.

    Raises:
        ValueError: if no weight is binary, the suffix is unknown, or the example is missing.
        TypeError: naming a layer that the file cannot hold.
        ImportError: naming a package that is not installed.
    """
    path, packed = Path(path), pack(model)
    notes = [f"layer {name} has float weights" for name in unpacked_layers(packed)]
    match path.suffix:
        case ".safetensors":
            write_packed(packed, path)
        case ".gguf":
            notes += write_gguf(packed, path)
        case ".onnx":
            if example is None:
                raise ValueError(f"{path}: an ONNX file needs an example of the inputs")
            write_onnx(packed, path, example)
        case _:
            raise _unknown(path)
    return notes


def load(path: Path | str) -> nn.Module:
    """Return the network that `save` wrote, for inference, with packed layers that compute on the bits.

    An ONNX file is run by onnxruntime instead.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is truncated, altered, or none of that kind.
        ImportError: naming a package that is not installed.
    """
    path = Path(path)
    readers = {".safetensors": read_packed, ".gguf": read_gguf, ".onnx": OnnxModule}
    if path.suffix not in readers:
        raise _unknown(path)
    return readers[path.suffix](path)


def _unknown(path: Path) -> ValueError:
    return ValueError(f"{path} must end with one of {', '.join(SUFFIXES.values())}")
