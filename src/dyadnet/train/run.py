"""One run in its folder: train, checkpoint after every epoch, resume, and the record that is left at the end."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from statistics import median
from typing import Any

from dyadnet import data, names
from dyadnet.audit.alignment import residual
from dyadnet.names import RequestError
from dyadnet.rule.backprop import Backprop
from dyadnet.train import checkpoint, folder
from dyadnet.train.environment import environment
from dyadnet.train.loop import Diverged, Metrics, Tick, Training, finite, first_batch, prepare, step, train_epoch
from dyadnet.train.settings import Settings, from_dict
from dyadnet.train.timing import interleaved, ratio

Record = dict[str, Any]
Watch = Callable[[Metrics], None]
"""Called after every epoch with its metrics, and with the last one's when a run goes on from a checkpoint."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What a run is: a rule, a seed, and the settings that all runs of a comparison share."""

    rule: str
    seed: int
    settings: Settings

    def __post_init__(self) -> None:
        if not isinstance(self.seed, int) or not 0 <= self.seed < 2**32:
            raise RequestError(f"a seed must be a whole number between 0 and {2**32 - 1}, not {self.seed!r}")

    def config(self) -> dict[str, Any]:
        """Return what `config.json` holds."""
        return {
            "command": "train",
            "rule": self.rule,
            "seed": self.seed,
            "settings": dataclasses.asdict(self.settings),
            "environment": environment(),
        }


def read_request(path: Path) -> Request:
    """Read a run's request back from its folder.

    Raises:
        RequestError: if the folder holds no run, or a comparison of runs, or its configuration is damaged.
    """
    config = folder.read_config(path)
    if config["command"] == "compare":
        runs = sorted(part.parent.name for part in path.glob(f"*/{folder.CONFIG}"))
        raise RequestError(f"{path} is a comparison; name one of its runs: {', '.join(runs) or 'it has none yet'}")
    try:
        request = Request(config["rule"], config["seed"], from_dict(config["settings"]))
        names.rule(request.rule)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RequestError(f"{path / folder.CONFIG} is not a run's configuration: {error}") from error
    return request


def load_dataset(settings: Settings) -> data.Dataset:
    """Return the data set that the settings name, cut to the samples that they ask for.

    Raises:
        RequestError: if a file cannot be read.
        DataError: if the data is not to be had, or unusable.
    """
    root = Path(settings.data_root) if settings.data_root else None
    try:
        whole = data.subset(data.load(settings.dataset, root), settings.train_samples, settings.test_samples)
        return data.hold_out(whole, settings.validation)
    except OSError as error:
        raise RequestError(f"{settings.dataset} cannot be read: {error}") from error


def restored(request: Request, path: Path, dataset: data.Dataset, name: checkpoint.Name = checkpoint.NAME) -> Training:
    """Set up a run and go back to its checkpoint, where it has one."""
    training = prepare(request.settings, request.rule, request.seed, dataset)
    if checkpoint.exists(path) or name != checkpoint.NAME:
        state = checkpoint.load(path, name)
        try:
            training.restore(state)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise RequestError(
                f"the checkpoint in {path} does not fit the run that its {folder.CONFIG} describes: {error}"
            ) from error
    return training


def execute(
    request: Request,
    path: Path,
    dataset: data.Dataset,
    *,
    tick: Tick = lambda step, steps, loss: None,
    watch: Watch = lambda metrics: None,
    from_checkpoint: checkpoint.Name = checkpoint.NAME,
) -> Record:
    """Train in the folder `path` from where it stands, to the end; return the record of the run.

    Raises:
        Diverged: naming the epoch and the last good checkpoint.
    """
    training = restored(request, path, dataset, from_checkpoint)
    if from_checkpoint != checkpoint.NAME:
        checkpoint.make_latest(path, from_checkpoint)
    folder.rewrite_metrics(path, training.history)
    if training.history:
        watch(training.history[-1])
    with _scalars(path, request.settings, len(training.history)) as scalars:
        while len(training.history) < request.settings.epochs:
            try:
                metrics = train_epoch(training, tick)
            except Diverged as error:
                raise Diverged(f"{request.rule}, seed {request.seed}: {error}; {_last_good(path, training)}") from error
            checkpoint.save(path, training.state())
            folder.append_metrics(path, metrics)
            scalars(metrics)
            watch(metrics)
    record = summarise(request, training)
    folder.write_json(path / folder.RESULT, record)
    return record


def summarise(request: Request, training: Training) -> Record:
    """Return the record of a finished run."""
    settings, last, best = request.settings, training.history[-1], chosen(training.history)
    training.net.eval()
    x, y = first_batch(training, settings.align_samples)
    distance = residual(training.rule, training.net, training.loss, x, y)
    passes = training.rule.estimate(training.net, training.loss, x, y, keep_states=False).passes
    return {
        "rule": request.rule,
        "dataset": settings.dataset,
        "network": describe(training),
        "seed": request.seed,
        "epochs": settings.epochs,
        "test_accuracy": best["test_accuracy"],
        "train_loss": last["train_loss"],
        "step_ms": last["step_ms"],
        "step_ratio_to_backprop": None,
        "alignment": last.get("alignment", []),
        "norm_ratio": last.get("norm_ratio", []),
        "straddling": last.get("straddling", []),
        "relaxation": {"iterations": passes, "residual": finite(distance), "converged": None},
        "history": training.history,
        "environment": environment(training.device),
    }


def chosen(history: list[Metrics]) -> Metrics:
    """Return the first of the epochs that were best on the samples held out, or the last one where there were none.

    >>> chosen([{"epoch": 1, "validation_accuracy": 0.9}, {"epoch": 2, "validation_accuracy": 0.8}])["epoch"]
    1
    """
    held_out = [metrics for metrics in history if "validation_accuracy" in metrics]
    return max(held_out, key=lambda metrics: metrics["validation_accuracy"]) if held_out else history[-1]


def describe(training: Training) -> str:
    """Name a network by its kind and its widths.

    The widths are those of the linear maps' inputs and outputs, or the number of stages of a convolutional network.
    """
    settings, shape = training.settings, training.dataset.shape
    if settings.network == "mlp":
        return "-".join(str(width) for width in (prod(shape), *settings.hidden, training.dataset.classes))
    return f"{settings.network} ({len(training.net.stages)} stages)"


def step_cost(training: Training, rounds: int = 15) -> tuple[float, float]:
    """Return the median time of one step in ms, and its ratio to a step of backpropagation, measured in turn.

    A step is all that training does with a batch, here with the first training samples. `training` is used up: its
    weights have moved afterwards.
    """
    training.net.train()
    x, y = first_batch(training, training.settings.batch_size)
    exact = dataclasses.replace(training, rule=Backprop())
    times = interleaved(
        {"ours": lambda: step(training, x, y), "backprop": lambda: step(exact, x, y)}, rounds, training.device
    )
    return 1e3 * median(times["ours"]), ratio(times["ours"], times["backprop"])


def _last_good(path: Path, training: Training) -> str:
    """Where a diverged run can be picked up again."""
    epochs = len(training.history)
    if not epochs:
        return "there is no checkpoint of an earlier epoch; try a smaller learning rate or beta"
    return f"the last good checkpoint is {path / checkpoint.NAME} (after epoch {epochs})"


@contextmanager
def _scalars(path: Path, settings: Settings, done: int) -> Iterator[Watch]:
    """Yield what writes an epoch's numbers for TensorBoard, or nothing where that was not asked for."""
    if not settings.tensorboard:
        yield lambda metrics: None
        return
    with summary_writer()(str(path), purge_step=done + 1) as writer:

        def write(metrics: Metrics) -> None:
            for name, value in metrics.items():
                if isinstance(value, float):
                    writer.add_scalar(name, value, metrics["epoch"])

        yield write


def summary_writer() -> Any:
    """Return TensorBoard's writer.

    Raises:
        RequestError: if the package is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise RequestError("--tensorboard needs the package tensorboard: pip install tensorboard") from error
    return SummaryWriter
