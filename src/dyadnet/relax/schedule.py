"""Schedules: the order in which the layers of a chain update their states.

A schedule yields groups of layers (1 the lowest hidden layer, `depth` the output). The layers of a group update at
once, each from the states that the others had before. Nothing else synchronises them: whatever the order, states settle
at the same point wherever that point attracts (thesis section 3.1, "Regarding the synchronicity of backprop").
"""

import abc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch

Group = tuple[int, ...]


class AbstractSchedule(abc.ABC):
    """An order of updates."""

    @abc.abstractmethod
    def count(self, depth: int) -> int:
        """Return the number of passes over a chain of `depth` stages.

        Raises:
            ValueError: if the passes asked for are too few for the error to reach the lowest layer.
        """

    @abc.abstractmethod
    def order(self, depth: int, generator: torch.Generator | None = None) -> Iterator[Group]:
        """Yield the groups of layers to update, in order.

        Args:
            depth: the number of stages.
            generator: the source of random orders; None stands for a fixed seed.
        """


def _enough(passes: int | None, needed: int, default: int | None = None) -> int:
    """Return `passes`, or a number that suffices where none is asked for."""
    if passes is None:
        return default or needed
    if passes < needed:
        raise ValueError(f"this schedule needs {needed} passes before the error reaches the lowest layer, not {passes}")
    return passes


def _single(layers: range) -> Iterator[Group]:
    """Yield the layers one after another."""
    return ((k,) for k in layers)


@final
@dataclass(frozen=True)
class Sweeps(AbstractSchedule):
    """Forward and backward sweeps: up 1, ..., L, then down L-1, ..., 1, `passes` times.

    >>> list(Sweeps().order(3))
    [(1,), (2,), (3,), (2,), (1,)]
    """

    passes: int = 1

    def count(self, depth: int) -> int:
        """Return `passes`; one carries a signal up and down."""
        return _enough(self.passes, 1)

    def order(self, depth: int, generator: torch.Generator | None = None) -> Iterator[Group]:
        """Yield one layer at a time, up and down."""
        for _ in range(self.count(depth)):
            yield from _single(range(1, depth + 1))
            yield from _single(range(depth - 1, 0, -1))


@final
@dataclass(frozen=True)
class BottomUp(AbstractSchedule):
    """Upward passes only: the error descends one layer a pass, so L passes (the default) are needed.

    >>> list(BottomUp().order(2))
    [(1,), (2,), (1,), (2,)]
    """

    passes: int | None = None

    def count(self, depth: int) -> int:
        """Return `passes`, at least L."""
        return _enough(self.passes, depth)

    def order(self, depth: int, generator: torch.Generator | None = None) -> Iterator[Group]:
        """Yield one layer at a time, upwards."""
        for _ in range(self.count(depth)):
            yield from _single(range(1, depth + 1))


@final
@dataclass(frozen=True)
class OddEven(AbstractSchedule):
    """All odd layers at once, then all even ones; L passes (the default) carry a signal up and down.

    >>> list(OddEven().order(3))[:2]
    [(1, 3), (2,)]
    """

    passes: int | None = None

    def count(self, depth: int) -> int:
        """Return `passes`, at least L."""
        return _enough(self.passes, depth)

    def order(self, depth: int, generator: torch.Generator | None = None) -> Iterator[Group]:
        """Yield the odd group, then the even one."""
        groups = tuple(range(1, depth + 1, 2)), tuple(range(2, depth + 1, 2))
        for _ in range(self.count(depth)):
            yield from (group for group in groups if group)


@final
@dataclass(frozen=True)
class Parallel(AbstractSchedule):
    """All layers at once (Jacobi); 2L - 1 passes (the default) carry a signal up and down.

    >>> list(Parallel().order(2))
    [(1, 2), (1, 2), (1, 2)]
    """

    passes: int | None = None

    def count(self, depth: int) -> int:
        """Return `passes`, at least 2L - 1."""
        return _enough(self.passes, 2 * depth - 1)

    def order(self, depth: int, generator: torch.Generator | None = None) -> Iterator[Group]:
        """Yield every layer in one group."""
        for _ in range(self.count(depth)):
            yield tuple(range(1, depth + 1))


@final
@dataclass(frozen=True)
class RandomOrder(AbstractSchedule):
    """One layer at a time, drawn uniformly; L draws a pass.

    A signal needs 2L - 1 visits in one particular order, each drawn with probability 1 / L: it has arrived after 2L - 1
    passes on average, and twice as many are the default.

    >>> len(list(RandomOrder().order(3)))
    30
    """

    passes: int | None = None

    def count(self, depth: int) -> int:
        """Return `passes`, at least 2 (up and down with luck)."""
        return _enough(self.passes, 2, default=2 * (2 * depth - 1))

    def order(self, depth: int, generator: torch.Generator | None = None) -> Iterator[Group]:
        """Yield random layers."""
        generator = generator or torch.Generator().manual_seed(0)
        draws = torch.randint(1, depth + 1, (depth * self.count(depth),), generator=generator)
        yield from ((k,) for k in draws.tolist())
