"""Figures of merit: a range, its unit, where it comes from, and what it is worth.

    measured    on a device, as its authors report it
    built       of a machine that exists, as its makers state it
    projected   of a machine that does not exist yet
    assumed     a guess, or an option of yours

What is computed from several figures is worth what the weakest of them is. Built and projected figures do not go into
one number: a projected efficiency times a built latency is neither.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from math import isfinite, prod
from typing import Any, Literal, final

Status = Literal["measured", "built", "projected", "assumed"]
_WEAKER: tuple[Status, ...] = ("measured", "built", "projected", "assumed")


@final
@dataclass(frozen=True)
class Figure:
    """A range of a quantity.

    Args:
        quantity: what it is, in words.
        low, high: its range, in units.
        unit: of the SI, without a prefix, or empty for plain numbers.
        source: where it comes from.
        status: as at the head of this file.

    Raises:
        ValueError: unless `0 <= low <= high`, both finite.

    >>> Figure("latency of a turn", 20e-9, 20e-9, "s", "Nature 2025", "built").times(50)
    Figure(quantity='latency of a turn', low=1e-06, high=1e-06, unit='s', source='Nature 2025', status='built')
    """

    quantity: str
    low: float
    high: float
    unit: str
    source: str
    status: Status

    def __post_init__(self) -> None:
        if not (isfinite(self.high) and 0 <= self.low <= self.high):
            raise ValueError(f"{self.quantity} must be a range of numbers from 0 on, not {self.low:g} to {self.high:g}")

    def times(self, count: float) -> "Figure":
        """Return the same so many times."""
        return replace(self, low=self.low * count, high=self.high * count)

    def called(self, quantity: str) -> "Figure":
        """Return the same under another name."""
        return replace(self, quantity=quantity)

    def per(self) -> "Figure":
        """Return the reciprocal, for a product; its unit is to be named there."""
        if self.low == 0:
            raise ValueError(f"{self.quantity} must be above 0: other figures are divided by it")
        return replace(self, low=1 / self.high, high=1 / self.low, unit=f"1/{self.unit}")


def given(quantity: str, low: float, high: float, unit: str) -> Figure:
    """Return a figure that the user gave."""
    return Figure(quantity, low, high, unit, "as given", "assumed")


def multiplied(quantity: str, unit: str, *figures: Figure, factor: float = 1.0) -> Figure:
    """Return the product of figures that do not depend on one another.

    Raises:
        ValueError: if it would mix what was built with what is projected.
    """
    low, high = factor * prod(f.low for f in figures), factor * prod(f.high for f in figures)
    return Figure(quantity, low, high, unit, _sources(figures), _weakest(quantity, figures))


def added(quantity: str, figures: Sequence[Figure]) -> Figure:
    """Return the sum of figures of one unit.

    Raises:
        ValueError: for different units, or if it would mix what was built with what is projected.
    """
    units = sorted({figure.unit for figure in figures})
    if len(units) != 1:
        raise ValueError(f"{quantity}: {' and '.join(units) or 'nothing'} cannot be added")
    low, high = sum(figure.low for figure in figures), sum(figure.high for figure in figures)
    return Figure(quantity, low, high, units[0], _sources(figures), _weakest(quantity, figures))


def figures_in(thing: Any) -> list[Figure]:
    """Return all figures that a dataclass holds, and those that its parts hold."""
    if isinstance(thing, Figure):
        return [thing]
    held = [getattr(thing, field.name) for field in fields(thing)] if is_dataclass(thing) else []
    return list(dict.fromkeys(figure for each in held for figure in figures_in(each)))


def _sources(figures: Sequence[Figure]) -> str:
    return "; ".join(dict.fromkeys(part for figure in figures for part in figure.source.split("; ")))


def _weakest(quantity: str, figures: Sequence[Figure]) -> Status:
    found = {figure.status for figure in figures}
    if "projected" in found and found & {"measured", "built"}:
        raise ValueError(f"{quantity} would mix what was built with what is projected")
    return next(status for status in reversed(_WEAKER) if status in found)
