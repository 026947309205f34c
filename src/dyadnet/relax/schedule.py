"""Schedules: the order in which the layers of a network update their states.

A pass yields groups of layers (1 the lowest hidden layer, `depth` the output). The layers of a group update at once,
each from the states that the others had before. Nothing else synchronises them: whatever the order, states settle at
the same point wherever that point attracts (thesis section 3.1, "Regarding the synchronicity of backprop").
"""

import abc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, final

import torch

Group = tuple[int, ...]


class AbstractSchedule(abc.ABC):
    """An order of updates, pass after pass.

    Attributes:
        passes: how many passes to make over a chain; None for as many as carry a signal up and down.
        complete: whether a pass visits every layer.
    """

    passes: int | None
    complete: ClassVar[bool] = True

    @abc.abstractmethod
    def one_pass(self, depth: int, generator: torch.Generator) -> Iterator[Group]:
        """Yield the groups of one pass over the layers 1 to `depth`."""

    @abc.abstractmethod
    def needed(self, depth: int) -> int:
        """Return the number of passes that carry a signal up a chain and down again, at best."""

    @abc.abstractmethod
    def default(self, depth: int) -> int:
        """Return the number of passes to make where none is asked for."""

    @final
    def count(self, depth: int) -> int:
        """Return the number of passes over a chain of `depth` stages.

        Raises:
            ValueError: if the passes asked for are too few for the error to reach the lowest layer.
        """
        passes, needed = self.passes, self.needed(depth)
        if passes is not None and passes < needed:
            raise ValueError(
                f"this schedule needs {needed} passes before the error reaches the lowest layer, not {passes}"
            )
        return self.default(depth) if passes is None else passes

    @final
    def order(self, depth: int, generator: torch.Generator | None = None) -> Iterator[Group]:
        """Yield the groups of all passes over a chain.

        Args:
            depth: the number of stages.
            generator: the source of random orders; None stands for a fixed seed.
        """
        generator = generator or torch.Generator().manual_seed(0)
        for _ in range(self.count(depth)):
            yield from self.one_pass(depth, generator)


def _single(layers: range) -> Iterator[Group]:
    """Yield the layers one after another."""
    return ((k,) for k in layers)


@final
@dataclass(frozen=True)
class Sweeps(AbstractSchedule):
    """Forward and backward sweeps: a pass goes up 1, ..., L, then down L-1, ..., 1.

    >>> list(Sweeps().order(3))
    [(1,), (2,), (3,), (2,), (1,)]
    """

    passes: int | None = 1

    def one_pass(self, depth: int, generator: torch.Generator) -> Iterator[Group]:
        """Yield one layer at a time, up and down."""
        yield from _single(range(1, depth + 1))
        yield from _single(range(depth - 1, 0, -1))

    def needed(self, depth: int) -> int:
        """One."""
        return 1

    def default(self, depth: int) -> int:
        """One."""
        return 1


@final
@dataclass(frozen=True)
class BottomUp(AbstractSchedule):
    """Upward passes only: the error descends one layer a pass, so L passes are needed and made.

    >>> list(BottomUp().order(2))
    [(1,), (2,), (1,), (2,)]
    """

    passes: int | None = None

    def one_pass(self, depth: int, generator: torch.Generator) -> Iterator[Group]:
        """Yield one layer at a time, upwards."""
        return _single(range(1, depth + 1))

    def needed(self, depth: int) -> int:
        """L."""
        return depth

    def default(self, depth: int) -> int:
        """L."""
        return depth


@final
@dataclass(frozen=True)
class OddEven(AbstractSchedule):
    """All odd layers at once, then all even ones; L passes are needed and made.

    >>> list(OddEven().order(3))[:2]
    [(1, 3), (2,)]
    """

    passes: int | None = None

    def one_pass(self, depth: int, generator: torch.Generator) -> Iterator[Group]:
        """Yield the odd group, then the even one."""
        yield tuple(range(1, depth + 1, 2))
        if depth > 1:
            yield tuple(range(2, depth + 1, 2))

    def needed(self, depth: int) -> int:
        """L."""
        return depth

    def default(self, depth: int) -> int:
        """L."""
        return depth


@final
@dataclass(frozen=True)
class TopDown(AbstractSchedule):
    """Down from the layer below the output, several visits to each before the next; the output follows the first.

    The error descends in one pass; signals need L passes to go up.

    >>> list(TopDown(visits=2).one_pass(3, torch.Generator()))
    [(3,), (2,), (3,), (2,), (1,), (1,)]
    """

    passes: int | None = None
    visits: int = 1

    def __post_init__(self) -> None:
        if self.visits < 1:
            raise ValueError(f"a layer needs at least one visit, not {self.visits}")

    def one_pass(self, depth: int, generator: torch.Generator) -> Iterator[Group]:
        """Yield one layer at a time, downwards."""
        if depth == 1:
            yield (1,)
        for k in range(depth - 1, 0, -1):
            for _ in range(self.visits):
                yield from ((depth,), (k,)) if k == depth - 1 else ((k,),)

    def needed(self, depth: int) -> int:
        """L."""
        return depth

    def default(self, depth: int) -> int:
        """L."""
        return depth


@final
@dataclass(frozen=True)
class Parallel(AbstractSchedule):
    """All layers at once (Jacobi); 2L - 1 passes are needed and made.

    >>> list(Parallel().order(2))
    [(1, 2), (1, 2), (1, 2)]
    """

    passes: int | None = None

    def one_pass(self, depth: int, generator: torch.Generator) -> Iterator[Group]:
        """Yield every layer in one group."""
        yield tuple(range(1, depth + 1))

    def needed(self, depth: int) -> int:
        """2L - 1: up, and down again."""
        return 2 * depth - 1

    def default(self, depth: int) -> int:
        """2L - 1."""
        return 2 * depth - 1


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
    complete: ClassVar[bool] = False

    def one_pass(self, depth: int, generator: torch.Generator) -> Iterator[Group]:
        """Yield random layers."""
        return ((k,) for k in torch.randint(1, depth + 1, (depth,), generator=generator).tolist())

    def needed(self, depth: int) -> int:
        """Two, with luck: all layers upwards, then downwards."""
        return 2 if depth > 1 else 1

    def default(self, depth: int) -> int:
        """Twice 2L - 1."""
        return 2 * (2 * depth - 1)
