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
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.layered import Layered
from dyadnet.network.lifted import Lifted
from dyadnet.rule.backprop import Backprop
from dyadnet.train import checkpoint, folder
from dyadnet.train.environment import environment
from dyadnet.train.loop import Diverged, Metrics, Relaxed, Tick, Training, first_batch, prepare, step, train_epoch
from dyadnet.train.plan import described
from dyadnet.train.portrait import connectivity, pictures, relaxing
from dyadnet.train.settings import Settings, from_dict
from dyadnet.train.settling import counted, finite
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
    if config["command"] != "train":
        raise RequestError(f"{path} holds the results of {config['command']}, not a trained network")
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
    relaxed: Relaxed = lambda metrics: None,
    from_checkpoint: checkpoint.Name = checkpoint.NAME,
) -> Record:
    """Train in the folder `path` from where it stands, to the end; return the record of the run.

    Raises:
        Diverged: naming the epoch and the last good checkpoint.
        RequestError: if another process is at work in the folder.
    """
    with folder.alone(path):
        training = restored(request, path, dataset, from_checkpoint)
        if from_checkpoint != checkpoint.NAME:
            checkpoint.make_latest(path, from_checkpoint)
        folder.rewrite_metrics(path, training.history)
        if training.history:
            watch(training.history[-1])
        with _scalars(path, request.settings, len(training.history)) as scalars:
            while len(training.history) < request.settings.epochs:
                try:
                    metrics = train_epoch(training, tick, relaxed)
                except Diverged as error:
                    raise Diverged(
                        f"{request.rule}, seed {request.seed}: {error}; {_last_good(path, training)}"
                    ) from error
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
        "same_sign": last.get("same_sign", []),
        "straddling": last.get("straddling", []),
        "relaxation": _relaxation(training),
        "connectivity": connectivity(training.net) if training.net.relaxes else None,
        "pictures": _pictures(training),
        "chosen": described(training.plan, training.relaxation),
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


def _relaxation(training: Training) -> dict[str, Any]:
    """Return how settled the states of a finished run are: over its last epoch, for a rule that relaxes."""
    last, net = training.history[-1], training.net.eval()
    x, y = first_batch(training, training.settings.align_samples)
    if "unconverged" in last:
        found = {name: last[name] for name in ("iterations", "residual", "unconverged")}
        found |= {"converged": last["unconverged"] == 0}
        with counted():
            return found | (relaxing(net, x) if net.relaxes else {})
    distance = residual(training.rule, net, training.loss, x, y)
    passes = training.rule.estimate(net, training.loss, x, y, keep_states=False).passes
    return {"iterations": passes, "residual": finite(distance), "converged": None}


def _pictures(training: Training) -> dict[str, Any] | None:
    """Return what a lifted network of images reconstructs of the first of the test split."""
    net, shape = training.net, training.dataset.shape
    if not isinstance(net, Lifted) or len(shape) != 3 or not net.rho(1):
        return None
    batches = data.batches(training.dataset, training.dataset.test, 10, normalise=training.settings.normalise)
    with counted():
        return pictures(net.eval(), next(batches)[0])


def describe(training: Training) -> str:
    """Name a network by its kind and its widths, and by its feedback where it has some.

    The widths are those of the linear maps' inputs and outputs, or the number of stages of a convolutional network;
    for a dense network those of the inputs, all hidden units, and the outputs.
    """
    plan, settings, shape = training.plan, training.settings, training.dataset.shape
    feedback = "" if plan.lam in (None, 0.5) else f", lam {plan.lam:g}"
    feedback += (
        f", feedback {plan.feedback}"
        if plan.feedback
        else f", {plan.network}"
        if plan.network in ("lifted", "resistive")
        else ""
    )
    if isinstance(training.net, Layered) and plan.network not in ("mlp", "hopfield"):
        return f"{plan.network} ({len(training.net.stages)} stages){feedback}"
    dense = plan.network == "dense"
    hidden = (sum(settings.hidden),) if dense else settings.hidden
    widths = "-".join(str(width) for width in (prod(shape), *hidden, training.dataset.classes))
    return (f"dense {widths}, {plan.structure}" if dense else widths) + feedback


def step_cost(training: Training, rounds: int = 15) -> tuple[float, float | None]:
    """Return the median time of one step in ms, and its ratio to a step of backpropagation, measured in turn.

    A step is all that training does with a batch, here with the first training samples. Backpropagation trains the
    feedforward network of the same maps; a densely connected network has none, and no ratio. `training` is used up:
    its weights have moved afterwards.
    """
    training = dataclasses.replace(training, settings=dataclasses.replace(training.settings, pretrain_epochs=None))
    training.net.train()
    x, y = first_batch(training, training.settings.batch_size)
    actions = {"ours": lambda: step(training, x, y)}
    chain = _feedforward(training.net)
    if chain is not None:
        exact = dataclasses.replace(training, rule=Backprop(), net=chain)
        actions["backprop"] = lambda: step(exact, x, y)
    times = interleaved(actions, rounds, training.device)
    return 1e3 * median(times["ours"]), ratio(times["ours"], times["backprop"]) if chain is not None else None


def _feedforward(net: AbstractNetwork) -> Layered | None:
    """Return the feedforward network of the same stages and parameters."""
    match net:
        case Layered():
            return net.with_feedback(None).with_lam(0.5)
        case Lifted():
            return net.chain()
    return None


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
