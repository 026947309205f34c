"""Commands on a trained run: `dyadnet evaluate | export`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import tyro
from rich.console import Console

from dyadnet import data
from dyadnet.binary import diagnostics
from dyadnet.binary.files import FormatName
from dyadnet.binary.optimizer import BinaryOptimizer
from dyadnet.names import RequestError
from dyadnet.progress import percent
from dyadnet.train import checkpoint, folder
from dyadnet.train.export import export
from dyadnet.train.loop import Training, evaluate, final_weights
from dyadnet.train.rehearsal import rehearse
from dyadnet.train.run import Request, load_dataset, read_request, restored

CheckpointName = checkpoint.Name


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Measure a trained network on the test samples again.

    Example: dyadnet evaluate runs/first
    """

    run: tyro.conf.Positional[Path]
    """The run folder."""
    checkpoint: CheckpointName = checkpoint.NAME
    """What to measure: the latest one, or the one before."""
    data_root: str | None = None
    """Where the data lies, if not where the run read it."""

    def __call__(self, console: Console) -> None:
        """Print accuracy and loss."""
        request, dataset = _trained(self.run, self.data_root, console)
        settings = request.settings
        training = restored(request, self.run, dataset, self.checkpoint)
        with final_weights(training):
            found, exact = evaluate(training), _exact(training)
        console.print(
            f"{request.rule} after epoch {len(training.history)} on {len(dataset.test)} test samples of "
            f"{settings.dataset}: accuracy {100 * found['accuracy']:.2f} %, loss {found['loss']:.4f}"
            + (f", {percent(found['unconverged'])} unsettled" if "unconverged" in found else ""),
            soft_wrap=True,
        )
        if exact:
            console.print(exact, soft_wrap=True)


@dataclasses.dataclass(frozen=True)
class Export:
    """Write the network of a run with binary weights to a file, one bit a weight, and check that it computes the same.

    Example: dyadnet export runs/binary --format packed --out exported
    """

    run: tyro.conf.Positional[Path]
    """The run folder."""
    out: Path
    """The folder to write to."""
    format: FormatName = "packed"
    """safetensors with packed bits, gguf (Q1_0, linear layers) or onnx; these two need pip install -e '.[export]'."""
    checkpoint: CheckpointName = checkpoint.NAME
    """What to export: the latest one, or the one before."""
    data_root: str | None = None
    """Where the data lies, if not where the run read it."""
    overwrite: bool = False
    """Replace the file that the folder holds."""

    def __call__(self, console: Console) -> None:
        """Write, read back, compare, and print sizes and differences."""
        request, dataset = _trained(self.run, self.data_root, console)
        with console.status("exporting"):
            found = export(
                restored(request, self.run, dataset, self.checkpoint), self.out, self.format, overwrite=self.overwrite
            )
        for note in found.notes:
            console.print(f"note: {note}", soft_wrap=True)
        console.print(
            f"{found.path}: {found.size} bytes; in floats it would be {found.float_size}, "
            f"{found.float_size / found.size:.1f} times as many",
            soft_wrap=True,
        )
        console.print(
            f"read back, on {found.samples} test samples: largest difference {found.difference:.1e} of outputs up to "
            f"{found.largest:.3g}, {found.changed} predictions changed",
            soft_wrap=True,
        )


def _trained(run: Path, data_root: str | None, console: Console) -> tuple[Request, data.Dataset]:
    """Return what a run with a checkpoint was asked for, and its data, which may lie elsewhere by now."""
    request = read_request(run)
    if not checkpoint.exists(run):
        raise RequestError(f"{run} has no checkpoint yet; {folder.resuming(run)} goes on with it")
    settings = dataclasses.replace(request.settings, data_root=data_root or request.settings.data_root)
    request = dataclasses.replace(request, settings=settings)
    dataset = load_dataset(settings)
    tried([request], dataset, console)
    return request, dataset


def tried(requests: Sequence[Request], dataset: data.Dataset, console: Console) -> None:
    """Refuse now what could only fail later."""
    with console.status("trying one step"):
        for request in requests:
            rehearse(request, dataset)


def _exact(training: Training) -> str:
    """Say how many of the weights in use are exactly binary, as counted on the tensors; nothing where none is to be."""
    if not isinstance(training.optimizer, BinaryOptimizer):
        return ""
    found, total = diagnostics.exact(training.optimizer)
    values = "-1 or 1" + (" times the scale of their channel" if training.settings.binary_scale else "")
    return f"binary weights: {found} of {total} in use are exactly {values}"
