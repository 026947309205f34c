"""How settled the states of a run are: counted into its metrics instead of warned of at every step."""

import math
import warnings
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from dyadnet.relax.relaxation import NotSettledWarning, Solution


def counted() -> AbstractContextManager[Any]:
    """Return a context in which unsettled states are no warnings: whoever enters it counts them."""
    return warnings.catch_warnings(action="ignore", category=NotSettledWarning)


def unsettled(solution: Solution, tolerance: float) -> int:
    """Return how many samples have not settled; those that have left the numbers have not."""
    return len(solution.residual) - int((solution.residual <= tolerance).sum())


@dataclass
class Tally:
    """What the relaxations of an epoch took and left.

    Attributes:
        tolerance: the residual that counts as settled.
    """

    tolerance: float
    steps: int = 0
    passes: int = 0
    samples: int = 0
    unsettled: int = 0
    residual: float = 0.0

    def add(self, solution: Solution | None) -> None:
        """Count one step; a rule that does not relax has no solution, and leaves the tally empty."""
        if solution is None:
            return
        self.steps += 1
        self.passes += solution.iterations
        self.samples += len(solution.residual)
        self.unsettled += unsettled(solution, self.tolerance)
        largest = float(solution.residual.max())
        self.residual = largest if math.isnan(largest) else max(self.residual, largest)

    def metrics(self) -> dict[str, float | None]:
        """Return mean passes a step, the largest residual and the share of unsettled samples; nothing if empty."""
        if not self.steps:
            return {}
        return {
            "iterations": self.passes / self.steps,
            "residual": finite(self.residual),
            "unconverged": self.unsettled / self.samples,
        }


def finite(value: float | None) -> float | None:
    """Return a value that JSON can hold: None for what is not a finite number."""
    return value if value is not None and math.isfinite(value) else None
