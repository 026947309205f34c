"""Time of one batch of equilibrium propagation over that of a textbook loop.

    python -m benchmarks.equilibrium

Both take the same steps in the same order: centred nudges, as many free iterations as nudged ones, odd layers then even
ones, hard-sigmoid units, a linear readout with the squared error. They take turns in one process, a few batches each,
so that a busy machine slows both alike; the speedup is the median over rounds of the textbook's time over ours in the
same round.

What can be gained is bounded by arithmetic: the products with the weights between hidden layers are the same for both,
those with the clamped inputs are needed once instead of in every iteration. The bound is stored next to the speedup.
"""

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import quantiles
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from benchmarks.textbook_ep import TextbookEP
from dyadnet import EquilibriumPropagation, Layered, squared_error
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.solver import Plain
from dyadnet.relax.stopping import Count
from dyadnet.train.environment import environment
from dyadnet.train.folder import write_json
from dyadnet.train.timing import interleaved

Row = dict[str, Any]
Spread = dict[str, float]

TOLERANCE = 1e-5
"""How far the two gradients may lie apart in single precision, relative to their size."""


@dataclass(frozen=True)
class Settings:
    """Measure, store the numbers, and print them."""

    out: Path = Path(__file__).parent / "results" / "equilibrium.json"
    """The JSON file to write."""
    batch: int = 64
    """Samples a batch."""
    iterations: int = 15
    """Of the free phase, and of the nudged ones."""
    beta: float = 0.25
    """The nudging strength."""
    threads: int = 1
    """Threads on the CPU."""
    calls: int = 5
    """Of each in a row, as in training, where nothing else comes between."""
    seconds: float = 6.0
    """How long to repeat a case; at least nine rounds are measured."""
    quick: bool = False
    """Tiny networks and few rounds: to see that everything runs, not to learn from the numbers."""


@dataclass(frozen=True)
class Case:
    """A network and how long it relaxes: one entry of a section of the results."""

    section: str
    widths: tuple[int, ...]
    iterations: int

    @property
    def network(self) -> str:
        """Name it by its widths."""
        return "-".join(map(str, self.widths))

    def bound(self) -> float:
        """Return the multiply-adds of the textbook over those that these steps need: the most that can be gained."""
        first, *others = (below * above for below, above in zip(self.widths, self.widths[1:], strict=False))
        hidden = 2 * sum(others)  # up and down in every iteration; of two phases in the gradient
        steps = 3 * self.iterations
        return (steps * (first + hidden) + 2 * first + hidden) / (first + steps * hidden + first + hidden)


@dataclass(frozen=True)
class Pair:
    """The two ways to learn from one batch of random data, each with weights of its own, equal to the other's."""

    model: nn.Sequential
    net: Layered
    x: Tensor
    y: Tensor
    rule: EquilibriumPropagation
    textbook: TextbookEP

    def ours(self) -> None:
        """Fill the gradients with this library."""
        self.model.zero_grad()
        self.rule.backward(self.net, squared_error, self.x, self.y)

    def theirs(self) -> None:
        """Fill the gradients with the textbook's loop."""
        for layer in self.textbook.layers:
            layer.zero_grad()
        self.textbook.backward(self.x, self.y)

    def gradients(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return the gradients of both, one a parameter."""
        self.ours()
        self.theirs()
        theirs = [p.grad for layer in self.textbook.layers for p in layer.parameters() if p.grad is not None]
        return [p.grad for p in self.model.parameters() if p.grad is not None], theirs


def pair(case: Case, settings: Settings, dtype: torch.dtype = torch.float32) -> Pair:
    """Make the network and the data of `case`, from a fixed seed: the same numbers in every precision."""
    torch.manual_seed(0)
    maps = [nn.Linear(below, above) for below, above in zip(case.widths, case.widths[1:], strict=False)]
    model = nn.Sequential(*[module for map_ in maps for module in (map_, nn.Hardtanh(0, 1))][:-1]).to(dtype)
    x, classes = torch.rand(settings.batch, case.widths[0]), torch.randint(case.widths[-1], (settings.batch,))
    y = nn.functional.one_hot(classes, case.widths[-1])
    relaxation = Relaxation(solver=Plain(), stop=Count(case.iterations))
    return Pair(
        model,
        Layered.from_sequential(model, 1.0),
        x.to(dtype),
        y.to(dtype),
        EquilibriumPropagation(settings.beta, relaxation=relaxation),
        TextbookEP(copy.deepcopy(maps), settings.beta, case.iterations),
    )


def cases(settings: Settings) -> Iterator[Case]:
    """Yield what is measured: the two networks, then wider, deeper and longer ones."""
    steps, wide = settings.iterations, 16 if settings.quick else 512
    for depth in (1, 2):
        yield Case("step", (784, *[wide] * depth, 10), steps)
    for width in (wide // 4, wide // 2, wide, 2 * wide):
        yield Case("width", (784, width, 10), steps)
    for depth in (1, 2, 3, 4):
        yield Case("depth", (784, *[wide] * depth, 10), steps)
    for longer in (5, 15, 50):
        yield Case("iterations", (784, wide, 10), longer)


def measure(case: Case, settings: Settings) -> Row:
    """Time both on `case`, after a look at whether they compute the same.

    Raises:
        ArithmeticError: if they do not.
    """
    both = pair(case, settings)
    ours, theirs = both.gradients()
    apart = distance(ours, theirs)
    if not apart <= TOLERANCE:
        raise ArithmeticError(f"{case.network}: the gradients differ by {apart:.1e}, so there is nothing to compare")
    actions = {"ours": both.ours, "textbook": both.theirs}
    trial = interleaved(actions, 1, warmup=1, calls=settings.calls)
    seconds = settings.calls * sum(map(sum, trial.values()))
    rounds = 3 if settings.quick else min(max(round(settings.seconds / seconds), 9), 1000)
    times = interleaved(actions, rounds, calls=settings.calls)
    return {
        "section": case.section,
        "network": case.network,
        "iterations": case.iterations,
        "samples": rounds,
        "ms": {name: spread([1e3 * time for time in values]) for name, values in times.items()},
        "speedup": spread([theirs / ours for ours, theirs in zip(times["ours"], times["textbook"], strict=True)]),
        "bound": round(case.bound(), 2),
        "difference": apart,
        "rounding": rounding(case, settings, ours, theirs),
    }


def rounding(case: Case, settings: Settings, ours: list[Tensor], theirs: list[Tensor]) -> dict[str, float]:
    """Return how far both are from the textbook in double precision, in the parameter where that is most."""
    _, exact = pair(case, settings, torch.float64).gradients()
    return {
        name: max(distance([p], [q]) for p, q in zip(found, exact, strict=True))
        for name, found in (("ours", ours), ("textbook", theirs))
    }


def distance(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Return the distance between two vectors that are given in pieces, relative to the length of the second."""
    squares = [
        ((f.double() - e.double()).square().sum(), e.double().square().sum())
        for f, e in zip(found, expected, strict=True)
    ]
    apart, size = (float(sum(column)) for column in zip(*squares, strict=True))
    return (apart / size) ** 0.5


def main(settings: Settings, console: Console) -> None:
    """Measure all cases and store their rows."""
    torch.set_num_threads(settings.threads)
    listed = list(cases(settings))
    rows = [
        measure(case, settings) for case in track(listed, "measuring", console=console, disable=not console.is_terminal)
    ]
    settings.out.parent.mkdir(parents=True, exist_ok=True)
    shown = dataclasses.asdict(settings) | {"out": settings.out.name}
    write_json(settings.out, {"settings": shown, "environment": environment(), "rows": rows})
    console.print(table(rows))
    console.print(f"results: {settings.out}")


def table(rows: Sequence[Row]) -> Table:
    """Lay the rows out, a block a section: medians, the quartiles of the speedup, and the bound on it."""
    shown = Table(title="Equilibrium propagation: ms a batch")
    for head in ("Network", "Passes", "Ours", "Textbook", "Speedup", "Bound"):
        shown.add_column(head, justify="left" if head == "Network" else "right", no_wrap=True)
    for _, block in groupby(rows, key=lambda row: row["section"]):
        for row in block:
            ms, speedup = row["ms"], row["speedup"]
            shown.add_row(
                row["network"],
                str(row["iterations"]),
                f"{ms['ours']['median']:.2f}",
                f"{ms['textbook']['median']:.2f}",
                f"{speedup['median']:.2f} ({speedup['low']:.2f}-{speedup['high']:.2f})",
                f"{row['bound']:.1f}",
            )
        shown.add_section()
    return shown


def spread(values: Sequence[float]) -> Spread:
    """Return the median and the quartiles."""
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return {"median": round(middle, 4), "low": round(low, 4), "high": round(high, 4)}


if __name__ == "__main__":
    main(tyro.cli(Settings), Console())
