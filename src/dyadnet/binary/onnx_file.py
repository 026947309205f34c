"""Packed networks in ONNX files, where signs stay packed: the graph unpacks them with `Cast`, `Gather` and `Reshape`.

Any runtime of operator set 18 or later takes them. It unpacks when it loads or runs, so that memory and time are those
of the float network: only the file is small.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dyadnet.activation import Sign
from dyadnet.binary.pack import swapped

INPUT, OUTPUT = "x", "y"


def write_onnx(model: nn.Module, path: Path, example: Tensor) -> None:
    """Write a packed network for batches of any size.

    Args:
        model: the network, packed or not.
        path: of the file.
        example: inputs, `(batch, ...)`, which tell the shape of a sample.

    Raises:
        ImportError: if the packages onnx and onnxscript are not installed.
    """
    two = torch.cat([example[:1]] * 2)  # a batch of one would be taken for a constant
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            swapped(model, _exportable),
            (two,),
            dynamo=True,
            verbose=False,
            optimize=False,  # which would unpack small layers
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
    assert program is not None
    for node in program.model.graph:
        node.metadata_props.clear()  # how the exporter came to it, with places on this machine
    program.save(path, external_data=False)


class OnnxModule(nn.Module):
    """A network in an ONNX file, run by onnxruntime on the CPU.

    Raises:
        ValueError: if onnxruntime cannot read the file.
        ImportError: if it is not installed.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        import onnxruntime

        try:
            self.session: Any = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
        except Exception as error:  # every kind of fault has a class of its own, below Exception
            raise ValueError(f"{path} is damaged or no ONNX network: {error}") from error

    def forward(self, x: Tensor) -> Tensor:
        """Return the output for inputs of shape `(batch, ...)`."""
        (y,) = self.session.run([OUTPUT], {INPUT: x.detach().cpu().numpy()})
        return torch.from_numpy(y)


class _Step(nn.Module):
    """The sign by a comparison: the exporter does not know how to copy a sign."""

    def forward(self, a: Tensor) -> Tensor:
        return torch.where(a < 0, -1.0, 1.0).to(a.dtype)


def _exportable(module: nn.Module) -> nn.Module:
    return _Step() if isinstance(module, Sign) else module


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what the exporter says of its own parts."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
