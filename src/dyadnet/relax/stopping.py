"""When a relaxation stops: an object of its own, chosen apart from the order of updates and the solver."""

import abc
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor


class AbstractStop(abc.ABC):
    """A stopping rule.

    Attributes:
        most: the largest number of passes.
    """

    most: int

    @abc.abstractmethod
    def tolerance_for(self, dtype: torch.dtype) -> float | None:
        """Return the residual that counts as settled, or None where nobody looks."""


@final
@dataclass(frozen=True)
class Residual(AbstractStop):
    """Stop when every sample has settled, or after `most` passes.

    The residual of a sample is the largest change that a full update would make to any of its states, relative to the
    largest state of the layer (or to 1).

    Args:
        tolerance: settled below this; None stands for 1e-5 in single and 1e-10 in double precision.
        most: the largest number of passes.
    """

    tolerance: float | None = None
    most: int = 500

    def __post_init__(self) -> None:
        if self.most < 1 or (self.tolerance is not None and not self.tolerance > 0):
            raise ValueError(f"a relaxation needs a positive tolerance and at least one pass, not {self}")

    def tolerance_for(self, dtype: torch.dtype) -> float:
        """Return the tolerance."""
        if self.tolerance is not None:
            return self.tolerance
        return 1e-10 if dtype in (torch.float64, torch.complex128) else 1e-5


@final
@dataclass(frozen=True)
class Count(AbstractStop):
    """Make exactly `most` passes, without looking at the residual but at the end."""

    most: int

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ValueError(f"a relaxation needs at least one pass, not {self.most}")

    def tolerance_for(self, dtype: torch.dtype) -> None:
        """Return None."""


def settled(residual: Tensor, stop: AbstractStop) -> Tensor:
    """Return which samples have settled, `(batch,)`."""
    tolerance = stop.tolerance_for(residual.dtype) or Residual().tolerance_for(residual.dtype)
    return residual <= tolerance
