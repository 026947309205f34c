"""A run with binary weights as a file of one bit a weight, read back and compared with the run."""

from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import nn

from dyadnet import data
from dyadnet.binary.files import SUFFIXES, FormatName, load, save
from dyadnet.binary.pack import as_sequential
from dyadnet.binary.packed_file import tensors_of
from dyadnet.names import RequestError
from dyadnet.train import folder
from dyadnet.train.loop import Training, final_weights, first_batch

ROUNDING = 0.01
"""A difference of outputs, relative to the largest, that may change a prediction: half precision leaves the most."""


class Disagreement(RuntimeError):
    """A file does not compute what the run does."""


@dataclass(frozen=True)
class Exported:
    """A file, and how it compares with the run on the test samples.

    Attributes:
        path: of the file.
        size: in bytes.
        float_size: of a file that holds the same network in floats.
        notes: what the file does not hold in one bit a weight.
        samples: how many were compared.
        difference: the largest of two outputs.
        largest: the size of the largest output.
        changed: how many predictions differ.
    """

    path: Path
    size: int
    float_size: int
    notes: list[str]
    samples: int
    difference: float
    largest: float
    changed: int


def export(training: Training, out: Path, format: FormatName = "packed", *, overwrite: bool = False) -> Exported:
    """Write the network of a run into the folder `out`, read it back, and compare the two on the test samples.

    Raises:
        RequestError: if the run has no binary weights or a network that is no chain of layers, if the file exists, or
            if a package is missing.
        Disagreement: if predictions change by more than rounding; the file is then removed.
    """
    path = out / f"model{SUFFIXES[format]}"
    if path.exists() and not overwrite:
        raise RequestError(f"{path} exists; --overwrite replaces it")
    try:
        with final_weights(training):
            return _export(training, as_sequential(training.net).eval(), path)
    except ImportError as error:
        raise RequestError(f"{format} needs the package {error.name}: pip install -e '.[export]'") from error
    except (TypeError, ValueError) as error:
        raise RequestError(f"this run cannot be exported: {error}") from error


def _export(training: Training, model: nn.Sequential, path: Path) -> Exported:
    folder.made(path.parent)
    notes = save(model, path, first_batch(training, 2)[0])
    difference, largest, changed = _compared(training, model, load(path))
    if changed and difference > ROUNDING * largest:
        path.unlink()
        raise Disagreement(
            f"the file would not compute what the run does: {changed} predictions change, and outputs up to "
            f"{largest:.3g} by {difference:.2g}"
        )
    float_size = len(safetensors.torch.save(tensors_of(model)))
    samples = len(training.dataset.test)
    return Exported(path, path.stat().st_size, float_size, notes, samples, difference, largest, changed)


@torch.no_grad()
def _compared(training: Training, model: nn.Module, loaded: nn.Module) -> tuple[float, float, int]:
    """Return the largest difference of outputs, the largest output, and how many predictions differ."""
    difference, largest, changed = 0.0, 0.0, 0
    for x, _ in data.batches(training.dataset, training.dataset.test, 1000, normalise=training.settings.normalise):
        expected, found = model(x).cpu(), loaded(x.cpu())
        difference = max(difference, float((found - expected).abs().max()))
        largest = max(largest, float(expected.abs().max()))
        changed += int((found.argmax(1) != expected.argmax(1)).sum())
    return difference, largest, changed
