"""How good is the gradient of every rule for networks with feedback, against the strength of the nudge?

    python experiments/gradient_quality.py --data-root DATA

784-256-256-10 with tanh units and a linear readout on MNIST's first samples, in double precision, at weights drawn
once. The reference is recurrent backpropagation at the same network. Errors are relative to the length of the exact
gradient over all parameters; the cosine is that of the layer that agrees least. `ContrastiveHebbian` has no strength:
its parameter is the discount `gamma = 2 lam - 1` of the feedback, and the table has it at the `gamma` of that size.
"""

import dataclasses
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from common import RESULTS
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from dyadnet import (
    AbstractRule,
    ContrastiveHebbian,
    CoupledLearning,
    Dense,
    DualPropagation,
    Dyadic,
    EquilibriumPropagation,
    Layered,
    RecurrentBackprop,
    alignment,
    data,
    squared_error,
)
from dyadnet.network.base import AbstractNetwork
from dyadnet.relax.relaxation import NotSettledWarning, Relaxation
from dyadnet.relax.schedule import Parallel
from dyadnet.relax.solver import Anderson
from dyadnet.relax.stopping import Residual
from dyadnet.train.environment import environment
from dyadnet.train.folder import write_json
from dyadnet.train.models import initialise, mlp

Rule = Callable[[float], AbstractRule]
Network = Callable[[float], AbstractNetwork]


@dataclass(frozen=True)
class Experiment:
    """What to compute the gradients on."""

    data_root: str | None = None
    """Where the data lies; otherwise it is downloaded."""
    samples: int = 50
    """Samples of the batch."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers."""
    gain: float = 0.4
    """What the weights between hidden units and outputs are multiplied with: at 1 some networks have two equilibria."""
    strengths: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
    """The nudges."""
    seed: int = 0
    """Draws the weights."""


def layered(experiment: Experiment, lam: float) -> Layered:
    """Return the network of a `lam`, always with the same weights."""
    torch.manual_seed(experiment.seed)
    model = mlp((784,), 10, experiment.hidden, "tanh")
    initialise(model, "lecun")
    net = Layered.from_sequential(model.double(), lam, relaxation=Relaxation(stop=Residual(1e-13, 5000)))
    with torch.no_grad():
        for stage in net.stages[1:]:
            next(stage.map.parameters()).mul_(experiment.gain)
    return net


def dense(experiment: Experiment) -> Dense:
    """Return a network of as many units with arbitrary connections."""
    torch.manual_seed(experiment.seed)
    how = Relaxation(Parallel(), Anderson(), Residual(1e-13, 5000))
    return Dense(784, sum(experiment.hidden) + 10, 10, activation=torch.nn.Tanh(), relaxation=how).double()


def cases(experiment: Experiment) -> Iterator[tuple[str, str, Network, Rule]]:
    """Yield the name of a rule and of its network, and both as functions of the strength."""
    for lam in (0.0, 0.25, 0.75, 1.0):
        yield "Dyadic", f"lam = {lam:g}", lambda _, lam=lam: layered(experiment, lam), Dyadic
    yield "Dyadic", "dense, arbitrary W", lambda _: dense(experiment), Dyadic
    yield "DualPropagation", "lam = 0.5", lambda _: layered(experiment, 0.5), DualPropagation
    for variant in ("positive", "negative", "centred", "holomorphic"):
        name = f"EquilibriumPropagation, {variant}" + (", N = 4" if variant == "holomorphic" else "")
        yield (
            name,
            "lam = 1",
            lambda _: layered(experiment, 1.0),
            lambda beta, variant=variant: EquilibriumPropagation(beta, variant),
        )
    for side in ("positive", "centred"):
        yield (
            f"CoupledLearning, {side}",
            "lam = 1",
            lambda _: layered(experiment, 1.0),
            lambda beta, side=side: CoupledLearning(beta, side),
        )
    yield (
        "ContrastiveHebbian",
        "lam = (1 + gamma) / 2",
        lambda gamma: layered(experiment, (1 + gamma) / 2),
        lambda _: ContrastiveHebbian(),
    )


def measure(rule: AbstractRule, net: AbstractNetwork, x: Tensor, y: Tensor) -> dict[str, Any]:
    """Return error, lowest cosine, and whether everything settled; a rule that cannot take the strength says why."""
    reference = RecurrentBackprop()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", NotSettledWarning)
        try:
            found = rule.estimate(net, squared_error, x, y).grads
        except ValueError as error:
            return {"error": None, "cosine": None, "refused": str(error)}
        exact = reference.estimate(net, squared_error, x, y).grads
        layers = alignment(rule, net, squared_error, x, y, reference=reference)
    apart, size = torch.zeros(()), torch.zeros(())
    for parameter, grad in exact.items():
        apart, size = apart + (found[parameter] - grad).square().sum(), size + grad.square().sum()
    return {
        "error": float((apart / size).sqrt()),
        "cosine": min(layer.cosine for layer in layers),
        "settled": not caught,
    }


def main(experiment: Experiment) -> None:
    """Measure every rule at every strength, and store the rows."""
    torch.set_num_threads(1)
    console = Console()
    root = Path(experiment.data_root) if experiment.data_root else None
    mnist = data.load("mnist", root)
    x, y = next(data.batches(mnist, mnist.train, experiment.samples))
    x = x.double()
    rows = []
    for name, network, make, rule in track(list(cases(experiment)), "measuring", console=console):
        for strength in experiment.strengths:
            found = measure(rule(strength), make(strength), x, y)
            rows.append({"rule": name, "network": network, "strength": strength} | found)
    settings = dataclasses.asdict(experiment) | {"data_root": None}
    write_json(
        RESULTS / "gradient-quality.json",
        {"name": "gradient-quality", "settings": settings, "environment": environment(), "rows": rows},
    )
    console.print(table(rows))


def table(rows: list[dict[str, Any]]) -> Table:
    """Lay the errors out: a line a rule, a column a strength."""
    shown = Table(title="relative error of the gradient")
    shown.add_column("rule")
    shown.add_column("network")
    for strength in dict.fromkeys(row["strength"] for row in rows):
        shown.add_column(f"{strength:g}", justify="right")
    for name, network in dict.fromkeys((row["rule"], row["network"]) for row in rows):
        cells = [row["error"] for row in rows if (row["rule"], row["network"]) == (name, network)]
        shown.add_row(name, network, *("–" if cell is None else f"{cell:.1e}" for cell in cells))
    return shown


if __name__ == "__main__":
    main(tyro.cli(Experiment))
