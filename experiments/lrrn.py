"""Lifted networks on MNIST and Fashion-MNIST: accuracy, Lipschitz constants and adversarial examples.

    python experiments/lrrn.py --which mnist --data-root DATA

784-256-256-10 with ReLU units, clamped learning (`LRRN`) at `gamma = 0.1`, Adam at 1e-3 with a cosine, orthogonal
initial weights; the squared error of one-hot classes throughout. States settle to a residual of 3e-5 in learning, and
to 1e-5 for what is measured afterwards. Beside them stand the plain chain by backpropagation and the skew-symmetric
network (`lam = 0`, hard-sigmoid units, drawn as torch does) by dyadic learning.

Tied hidden layers are Lipschitz-1 whatever is learned; the bound of the output is the norm of its weights, or its gain
where it reconstructs too. The bound of the plain chain is the product of the norms of all weights, that of the skew
network the norm of the lowest ones. Estimates from below are over test images: between pairs, and at single ones.
Attacks raise the margin of the best wrong class, by one step or by ten. A class is certified within a Euclidean radius
if it leads by more than sqrt(2) times radius and bound: no two outputs can come closer by more.

Finished runs are kept in the result, and a second call goes on from there.
"""

import dataclasses
import time
import warnings
from dataclasses import dataclass, replace
from math import prod, sqrt
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from common import earlier, keep
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from dyadnet import AbstractRule, Backprop, Dyadic, Layered, data, squared_error
from dyadnet.audit.attack import Attack, accuracy, margin
from dyadnet.audit.lipschitz import lipschitz_bounds
from dyadnet.audit.sensitivity import lipschitz_estimate
from dyadnet.data.dataset import Dataset
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.lifted import Lifted, Terms
from dyadnet.relax.relaxation import NotSettledWarning, Relaxation
from dyadnet.relax.solver import Accelerated
from dyadnet.relax.stopping import Residual
from dyadnet.rule.lrrn import LRRN
from dyadnet.train.models import mlp

Record = dict[str, Any]
CLAMPED = LRRN()
HIDDEN = (256, 256)
RADII: dict[Literal["max", "euclidean"], tuple[float, ...]] = {"max": (0.025, 0.05, 0.1), "euclidean": (0.5, 1.0, 2.0)}
CERTIFIED = (0.1, 0.25)
ATTACKS = {"one step": 1, "ten steps": 10}


@dataclass(frozen=True)
class Experiment:
    """What to train."""

    which: Literal["mnist", "fashion"] = "mnist"
    """Data set."""
    data_root: str | None = None
    """Where the data lies; otherwise it is downloaded."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the main variants; sweeps are run with the first."""
    epochs: int = 3
    """A run's length."""
    batch_size: int = 128
    """Samples a batch."""
    attacked: int = 250
    """Test images that are attacked."""
    looked_at: int = 100
    """Test images that Lipschitz constants are estimated at."""
    quick: bool = False
    """One seed, one epoch of the first 2560 images, few test images: to see that it runs. Nothing is stored."""


@dataclass(frozen=True)
class Variant:
    """A network and how it learns.

    Args:
        terms: of a lifted network; None for the others.
        output_gain: of a lifted network.
        rule: what it learns by.
        lam: of the others.
        activation: of hidden units.
        pretraining: epochs without targets before.
        decay: of the weights, decoupled, per unit of learning rate.
        sweep: whether one seed is enough.
    """

    terms: Terms | None = None
    output_gain: float = 1.0
    rule: AbstractRule = CLAMPED
    lam: float = 0.5
    activation: Literal["relu", "hard-sigmoid"] = "relu"
    pretraining: int = 0
    decay: float = 0.0
    sweep: bool = False


TIED = Variant(Terms(gamma=0.1))
VARIANTS: dict[str, Variant] = {
    "tied": TIED,
    "tied, output too": replace(TIED, terms=Terms(gamma=0.1, output_reconstructs=True)),
    "untied": replace(TIED, terms=Terms(gamma=0.1, tied=False)),
    "regression alone": replace(TIED, terms=Terms(gamma=0.1, reconstruction=0.0)),
    "tied, pre-trained": replace(TIED, pretraining=1),
    "plain, backpropagation": Variant(rule=Backprop()),
    "skew-symmetric, dyadic": Variant(rule=Dyadic(), lam=0.0, activation="hard-sigmoid"),
    "tied, output too, K = 3": replace(
        TIED, terms=Terms(gamma=0.1, output_reconstructs=True), output_gain=3.0, sweep=True
    ),
    "tied, gamma = 1": replace(TIED, terms=Terms(gamma=1.0), sweep=True),
    "tied, gamma = 0.3": replace(TIED, terms=Terms(gamma=0.3), sweep=True),
    **{f"tied, decay {decay:g}": replace(TIED, decay=decay, sweep=True) for decay in (1.0, 10.0, 30.0)},
}


def settling(tolerance: float) -> Relaxation:
    """Return how the states of lifted networks settle."""
    return Relaxation(solver=Accelerated(), stop=Residual(tolerance, 300))


def network(variant: Variant, dataset: Dataset, seed: int) -> AbstractNetwork:
    """Return a network with weights drawn afresh, settling as it should while it learns."""
    torch.manual_seed(seed)
    model = mlp(dataset.shape, dataset.classes, HIDDEN, variant.activation)
    for module in model if variant.lam == 0.5 else ():
        if isinstance(module, nn.Linear):
            nn.init.orthogonal_(module.weight)
            nn.init.zeros_(module.bias)
    if variant.terms is None:
        return Layered.from_sequential(model, variant.lam, relaxation=Relaxation(stop=Residual(1e-3, 200)))
    how = settling(3e-5)
    return Lifted(Layered.from_sequential(model), variant.terms, output_gain=variant.output_gain, relaxation=how)


def train(
    variant: Variant, dataset: Dataset, seed: int, epochs: int, batch_size: int
) -> tuple[AbstractNetwork, Record]:
    """Return a trained network, and what the last epoch was like."""
    net, generator = network(variant, dataset, seed), torch.Generator().manual_seed(seed)
    steps = -(-len(dataset.train) // batch_size)
    before = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(variant.pretraining):
        one_epoch(net, LRRN(supervised=False), dataset, batch_size, generator, before)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=variant.decay)
    schedule, last = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps), Record()
    for _ in range(epochs):
        last = one_epoch(net, variant.rule, dataset, batch_size, generator, optimizer, schedule)
    return net, last


def one_epoch(
    net: AbstractNetwork,
    rule: AbstractRule,
    dataset: Dataset,
    batch_size: int,
    generator: torch.Generator,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
) -> Record:
    """Train for one epoch; return the means of its steps."""
    begun, losses, passes, unsettled = time.process_time(), [], [], 0
    for x, y in data.batches(dataset, dataset.train, batch_size, generator=generator):
        optimizer.zero_grad()
        step = rule.backward(net, squared_error, x, y)
        optimizer.step()
        if schedule is not None:
            schedule.step()
        losses.append(float(step.loss))
        passes.append(step.passes)
        unsettled += 0 if step.solution is None else int((~step.solution.converged).sum())
    return {
        "train_loss": sum(losses) / len(losses),
        "passes": sum(passes) / len(passes),
        "unsettled": unsettled / len(dataset.train),
        "step_ms": 1000 * (time.process_time() - begun) / len(losses),
    }


def measured(net: AbstractNetwork, dataset: Dataset, experiment: Experiment) -> Record:
    """Return the accuracy on all test images and what the first of them show of its robustness."""
    net.relaxation = settling(1e-5) if isinstance(net, Lifted) else Relaxation()
    found = [accuracy(net, x, y) * len(y) for x, y in data.batches(dataset, dataset.test, 500)]
    x, y = next(data.batches(dataset, dataset.test, max(experiment.attacked, experiment.looked_at)))
    estimate = dataclasses.asdict(lipschitz_estimate(net, x[: experiment.looked_at]))
    x, y = x[: experiment.attacked], y[: experiment.attacked]
    net.relaxation = settling(1e-4) if isinstance(net, Lifted) else Relaxation(stop=Residual(1e-4))
    return {
        "test_accuracy": sum(found) / len(dataset.test),
        "certified": {f"{r:g}": certified(net, x, y, r) for r in CERTIFIED},
        "lipschitz": {"bound": bound(net)} | estimate,
        "attacked": {"none": accuracy(net, x, y)} | attacked(net, x, y),
    }


def bound(net: AbstractNetwork) -> float:
    """Return an upper bound of the Lipschitz constant of the prediction."""
    if isinstance(net, Lifted):
        return lipschitz_bounds(net).output
    norms = [float(torch.linalg.matrix_norm(p.detach(), 2)) for _, ps in net.groups() for p in ps if p.dim() > 1]
    return prod(norms) if net.differentiable else norms[0]


@torch.no_grad()
def certified(net: AbstractNetwork, x: Tensor, y: Tensor, radius: float) -> float:
    """Return the share of samples that no change within a Euclidean radius can put into a wrong class."""
    return float((margin(net(x), y) < -sqrt(2) * radius * bound(net)).double().mean())


def attacked(net: AbstractNetwork, x: Tensor, y: Tensor) -> Record:
    """Return the accuracies on adversarial examples."""
    return {
        f"{norm} {radius:g}, {name}": accuracy(net, Attack(radius, norm, steps).worst(net, x, y), y)
        for norm, radii in RADII.items()
        for radius in radii
        for name, steps in ATTACKS.items()
    }


def one_run(label: str, seed: int, dataset: Dataset, experiment: Experiment) -> Record:
    """Train and measure one variant with one seed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotSettledWarning)  # their share is in the record
        net, last = train(VARIANTS[label], dataset, seed, experiment.epochs, experiment.batch_size)
        found = measured(net, dataset, experiment)
    of_run = {"label": label, "seed": seed, "dataset": dataset.name, "epochs": experiment.epochs}
    return of_run | {"network": "-".join(map(str, (784, *HIDDEN, 10)))} | last | found


def runs(experiment: Experiment) -> list[tuple[str, int]]:
    """Return label and seed of all runs, those of the first seed first."""
    return [(k, s) for s in experiment.seeds for k, v in VARIANTS.items() if s == experiment.seeds[0] or not v.sweep]


def small(experiment: Experiment, dataset: Dataset) -> tuple[Experiment, Dataset]:
    """Return what is quick to run."""
    train = replace(dataset.train, images=dataset.train.images[:2560], labels=dataset.train.labels[:2560])
    test = replace(dataset.test, images=dataset.test.images[:500], labels=dataset.test.labels[:500])
    quick = replace(experiment, seeds=experiment.seeds[:1], epochs=1, attacked=50, looked_at=20)
    return quick, replace(dataset, train=train, test=test)


def main(experiment: Experiment) -> None:
    """Run what is missing and store every run as it ends."""
    torch.set_num_threads(1)
    console, root = Console(), None if experiment.data_root is None else Path(experiment.data_root)
    dataset = data.load({"fashion": "fashion-mnist"}.get(experiment.which, experiment.which), root)
    if experiment.quick:
        experiment, dataset = small(experiment, dataset)
    settings = dataclasses.asdict(experiment) | {"data_root": None, "seeds": None}
    name = f"{experiment.which}-lrrn"
    records = [] if experiment.quick else earlier(name, settings)
    done = {(record["label"], record["seed"]) for record in records}
    for label, seed in (run for run in runs(experiment) if run not in done):
        records.append(one_run(label, seed, dataset, experiment))
        console.print(f"{label}, seed {seed}: {records[-1]['test_accuracy']:.2%}")
        if not experiment.quick:
            keep(name, settings, records)
    console.print(table(records))


def table(records: list[Record]) -> Table:
    """Lay the runs out."""
    shown = Table(title="lifted networks")
    for heading in ("network", "seed", "accuracy", "bound", "pairs", "steepest", "max 0.1", "euclidean 1"):
        shown.add_column(heading, justify="left" if heading == "network" else "right")
    for record in records:
        under = record["attacked"]
        shown.add_row(
            record["label"],
            str(record["seed"]),
            f"{record['test_accuracy']:.2%}",
            *(f"{record['lipschitz'][key]:.2f}" for key in ("bound", "pairs", "steepest")),
            *(f"{under[f'{norm}, ten steps']:.1%}" for norm in ("max 0.1", "euclidean 1")),
        )
    return shown


if __name__ == "__main__":
    main(tyro.cli(Experiment))
