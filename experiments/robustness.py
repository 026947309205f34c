"""What trained networks keep of their accuracy under attacks and noise, next to how far their predictions can move.

    python experiments/robustness.py --which mnist-rules --data-root DATA

- rules: the networks of `experiments/rules.py`, 784-256-256-10, one a rule; among them the skew-symmetric network and
  the lifted regression/reconstruction network.
- symmetry: those of `experiments/hopfield.py`, hard-sigmoid units, for `lam` from 0 (skew) to 1 (symmetric). The
  feedforward one, `lam = 1/2`, has the same units, loss, optimiser and epochs: their accuracies are for comparison.
- alpha: 784-512-512-10 ReLU by dual propagation at `alpha` 0, 1/2 and 1, with a weak and a strong teaching signal and
  five sweeps, the squared error, as in paper D, section 6.1; the norm of the product of the weights is its measure.

Runs that those experiments left in their folders are taken as they are, and trained if they are missing. Attacks raise
the margin of the best wrong class of the first test images. Finished measurements are kept in the result.
"""

import dataclasses
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Literal

import hopfield
import rules
import torch
import tyro
from common import earlier, keep, place, trained
from rich.console import Console
from torch import Tensor, nn

from dyadnet import data
from dyadnet.audit.attack import accuracy
from dyadnet.audit.exposure import COARSE, LOOKED_AT, expose
from dyadnet.data.dataset import Dataset
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.lifted import Lifted
from dyadnet.relax.relaxation import NotSettledWarning, Relaxation
from dyadnet.relax.solver import Accelerated
from dyadnet.train import folder
from dyadnet.train.compare import Comparison, run_name
from dyadnet.train.run import Request, load_dataset, restored
from dyadnet.train.settings import Settings

Which = Literal["mnist-rules", "fashion-rules", "mnist-symmetry", "fashion-symmetry", "mnist-alpha", "fashion-alpha"]
UNDIFFERENTIABLE = {"CHL with random feedback"}
"""Means go down through weights of their own: no multipliers to attack by."""


@dataclass(frozen=True)
class Experiment:
    """What to measure."""

    which: Which = "mnist-rules"
    """Data set, and which networks."""
    data_root: str | None = None
    """Where the data lies; otherwise it is downloaded."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One network of every line with each."""
    images: int = 300
    """Test images that are attacked."""
    looked_at: int = LOOKED_AT
    """Test images that Lipschitz constants are estimated at."""
    only: tuple[str, ...] = ()
    """Lines to measure; all by default."""


def alphas(experiment: Experiment) -> dict[str, Comparison]:
    """Return the comparisons of paper D."""
    settings = Settings(
        dataset="fashion-mnist" if experiment.which.startswith("fashion") else "mnist",
        data_root=experiment.data_root,
        hidden=(512, 512),
        loss="squared-error",
        epochs=5,
        batch_size=128,
        optimizer="adam:fused=true",
    )
    made = {"Backpropagation": "backprop"} | {
        f"alpha = {alpha}, beta = {beta:g}": f"dual-propagation:alpha={alpha},beta={beta:g},schedule=sweeps,passes=5"
        for beta in (0.1, 0.5)
        for alpha in ("0", "0.5", "1")
    }
    return {label: Comparison((rule,), experiment.seeds, settings) for label, rule in made.items()}


def comparisons(experiment: Experiment) -> dict[str, Comparison]:
    """Return the comparisons whose networks are measured."""
    dataset, _, kind = experiment.which.partition("-")
    shared = {"data_root": experiment.data_root, "seeds": experiment.seeds}
    if kind == "rules":
        named = {"mnist": "mnist", "fashion": "fashion"}[dataset]
        found = rules.comparisons(rules.Experiment(which=named, **shared))  # pyright: ignore[reportArgumentType]
        found = {label: comparison for label, comparison in found.items() if label not in rules.SLOW | UNDIFFERENTIABLE}
    elif kind == "symmetry":
        found = hopfield.comparisons(hopfield.Experiment(which=experiment.which, **shared))  # pyright: ignore
    else:
        found = alphas(experiment)
    return {label: found[label] for label in found if not experiment.only or label in experiment.only}


def networks(
    experiment: Experiment, dataset: Dataset, done: set[tuple[str, int]]
) -> Iterator[tuple[str, Request, Any]]:
    """Yield label, request and network of every run that has not been measured."""
    for label, comparison in comparisons(experiment).items():
        runs = place(experiment.which, label)
        if any((label, request.seed) not in done for request in comparison.runs()):
            if not all((runs / run_name(request) / folder.RESULT).exists() for request in comparison.runs()):
                trained(runs, comparison)
            for request in (request for request in comparison.runs() if (label, request.seed) not in done):
                yield label, request, restored(request, runs / run_name(request), dataset).net


def measured(net: AbstractNetwork, dataset: Dataset, experiment: Experiment) -> dict[str, Any]:
    """Return what a network is worth and withstands."""
    solver = {"solver": Accelerated()} if isinstance(net, Lifted) else {}
    net.eval()
    net.relaxation = Relaxation(stop=COARSE, **solver)
    x, y = next(data.batches(dataset, dataset.test, experiment.images))
    hits = [accuracy(net, *batch) * len(batch[1]) for batch in data.batches(dataset, dataset.test, 500)]
    found = dataclasses.asdict(expose(net, x, y, looked_at=experiment.looked_at))
    return {"test_accuracy": sum(hits) / len(dataset.test), "product": product(net)} | found


@torch.no_grad()
def product(net: AbstractNetwork) -> float:
    """Return the norm of the product of all weights, of what a linear network without feedback would compute."""
    weights = [module.weight.double() for module in net.modules() if isinstance(module, nn.Linear)]

    def above(below: Tensor, weight: Tensor) -> Tensor:
        return weight @ below

    return float(torch.linalg.matrix_norm(reduce(above, weights), 2))


def main(experiment: Experiment) -> None:
    """Measure what is missing and store every network as it ends."""
    torch.set_num_threads(1)
    console, made = Console(), comparisons(experiment)
    dataset = load_dataset(next(iter(made.values())).settings)
    name = f"{experiment.which}-robustness"
    settings = dataclasses.asdict(replace(experiment, data_root=None, only=(), seeds=()))
    records = earlier(name, settings)
    done = {(record["label"], record["seed"]) for record in records}
    for label, request, net in networks(experiment, dataset, done):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotSettledWarning)  # accuracy is that of where states are
            found = measured(net, dataset, experiment)
        records.append({"label": label, "rule": request.rule, "seed": request.seed} | found)
        console.print(f"{label}, seed {request.seed}: {found['test_accuracy']:.2%}")
        keep(name, settings, records)


if __name__ == "__main__":
    main(tyro.cli(Experiment))
