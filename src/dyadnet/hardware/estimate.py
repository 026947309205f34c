"""Energy and latency of inference and of a training step: what events cost, times how often they happen.

    inference        inputs + relaxation + reading of the outputs                                   one sample
    training step    batch (phases (relaxation + reading of all units) + inputs) + update           one batch

Samples and phases follow one another. What was built is never added to what is projected or assumed: a sum is one of
a column, and does not know of what stands in the other.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, final

from dyadnet.hardware.costs import AbstractCosts
from dyadnet.hardware.figure import Figure, added, figures_in
from dyadnet.hardware.workload import Phases, Workload

Column = Literal["built", "projected"]


@final
@dataclass(frozen=True)
class Cost:
    """A row of an estimate.

    Attributes:
        task: inference or training step.
        part: inputs, relaxation, read-out, update, or the sum of what stands in a column.
        figure: what it costs.
    """

    task: str
    part: str
    figure: Figure

    @property
    def column(self) -> Column:
        """Return where it stands: built holds what is measured, too, and projected what is assumed."""
        return "built" if self.figure.status in ("measured", "built") else "projected"

    def record(self) -> dict[str, Any]:
        """Return what JSON holds."""
        return {"task": self.task, "part": self.part, **asdict(self.figure), "column": self.column}


@final
@dataclass(frozen=True)
class Estimate:
    """What a network costs on a substrate.

    Attributes:
        costs: of inference and of a training step.
        bounds: what physics allows.
        figures: that all is computed from.
    """

    costs: Sequence[Cost]
    bounds: Sequence[Figure]
    figures: Sequence[Figure]

    def record(self) -> dict[str, Any]:
        """Return what JSON holds."""
        bounds, figures = ([asdict(figure) for figure in held] for held in (self.bounds, self.figures))
        return {"costs": [cost.record() for cost in self.costs], "bounds": bounds, "figures": figures}


def estimate(substrate: AbstractCosts, work: Workload) -> Estimate:
    """Return what `work` costs on a substrate.

    Raises:
        ValueError: for what the substrate cannot do.
    """
    substrate.check(work)
    once = 1 if work.network == "mlp" else work.passes  # whatever errors take, activities go up in one sweep
    single = Workload(work.widths, work.network, once, 1, Phases(1))
    batch, visits = work.batch, work.batch * work.phases.relaxations
    counted: list[tuple[str, str, float, list[Figure]]] = [
        ("inference", "inputs", 1, substrate.inputs(single)),
        ("inference", "relaxation", 1, substrate.relaxation(single)),
        ("inference", "read-out", 1, substrate.reading(single, work.outputs)),
        ("training step", "inputs", batch, substrate.inputs(work)),
        ("training step", "relaxation", visits, substrate.relaxation(work)),
        ("training step", "read-out", visits, substrate.reading(work, work.units)),
        ("training step", "update", 1, substrate.update(work)),
    ]
    costs = [Cost(task, part, figure.times(count)) for task, part, count, figures in counted for figure in figures]
    return Estimate(costs + _sums(costs), substrate.bounds(work), figures_in(substrate))


def _sums(costs: list[Cost]) -> list[Cost]:
    """What a task takes in all, what was built and what was not apart; one row alone needs no sum."""
    sums = []
    for task in ("inference", "training step"):
        for unit, quantity in (("J", "energy"), ("s", "latency")):
            for column in ("built", "projected"):
                rows = [c.figure for c in costs if (c.task, c.column, c.figure.unit) == (task, column, unit)]
                sums += [Cost(task, "sum", added(quantity, rows))] if len(rows) > 1 else []
    return sums
