"""States of layers: what a layer tells the layers around it, and what of it a relaxation moves."""

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeGuard, final

import torch
from torch import Tensor


class AbstractState(abc.ABC):
    """The state of one layer."""

    @abc.abstractmethod
    def mean(self) -> Tensor:
        """Return the activity that travels through the weights, `(batch, ...)`."""

    @abc.abstractmethod
    def error(self) -> Tensor | None:
        """Return the error that travels through their transpose, of the same shape; None stands for zero."""


class AbstractMovable(AbstractState):
    """A state that a relaxation can move part of the way."""

    @abc.abstractmethod
    def parts(self) -> tuple[Tensor, ...]:
        """Return the tensors that a relaxation moves, each `(batch, ...)`."""

    @abc.abstractmethod
    def of_parts(self, parts: Sequence[Tensor]) -> "AbstractMovable":
        """Return a state with other parts."""

    def share(self, factor: float) -> float:
        """Return which share of the way to its update the layer goes where a relaxation asks for `factor`."""
        return factor

    def units(self) -> Sequence[Tensor | float]:
        """Return in which unit each part is measured: states as they are, errors amplified to a largest of 1."""
        return [1.0] * len(self.parts())

    def toward(self, old: AbstractState | None, factor: float) -> "AbstractMovable":
        """Return `(1 - factor) old + factor self`, part by part; itself where there is nothing to start from."""
        if factor == 1 or not _comparable(old, self):
            return self
        return self.of_parts([torch.lerp(o, n, factor) for o, n in zip(old.parts(), self.parts(), strict=True)])


States = Sequence[AbstractState]
Neuron = Callable[[int, Tensor, Tensor | None, AbstractState | None], AbstractState]
"""What a layer makes of its messages: `(layer, drive, feedback, state before) -> state`."""


@final
@dataclass(frozen=True, eq=False)
class Activity(AbstractMovable):
    """A layer of ordinary neurons, without any error."""

    s: Tensor

    def mean(self) -> Tensor:
        """Return `s`."""
        return self.s

    def error(self) -> None:
        """Return None."""

    def parts(self) -> tuple[Tensor, ...]:
        """Return `s`."""
        return (self.s,)

    def of_parts(self, parts: Sequence[Tensor]) -> "Activity":
        """Return another activity."""
        return Activity(parts[0])


@final
@dataclass(frozen=True, eq=False)
class Pair(AbstractMovable):
    """A layer of dyads as two plain states: `mean = alpha s^+ + (1 - alpha) s^-`, `error = -(s^+ - s^-) / scale`.

    Attributes:
        s_plus, s_minus: the two states.
        scale: nudging strength times batch size, which turns differences into gradients of the batch's mean loss.
        alpha: the share of `s^+` in the mean.
    """

    s_plus: Tensor
    s_minus: Tensor
    scale: float
    alpha: float = 0.5

    def plus(self) -> Tensor:
        """Return `s^+`."""
        return self.s_plus

    def minus(self) -> Tensor:
        """Return `s^-`."""
        return self.s_minus

    def mean(self) -> Tensor:
        """Return the mean of the two states."""
        return torch.lerp(self.s_minus, self.s_plus, self.alpha)

    def error(self) -> Tensor:
        """Return the error."""
        return (self.s_minus - self.s_plus).div_(self.scale)

    def parts(self) -> tuple[Tensor, ...]:
        """Return `s^+` and `s^-`."""
        return self.s_plus, self.s_minus

    def of_parts(self, parts: Sequence[Tensor]) -> "Pair":
        """Return another pair of the same scale."""
        return Pair(parts[0], parts[1], self.scale, self.alpha)


def distance(old: AbstractState | None, new: AbstractMovable) -> Tensor:
    """Return how far each sample's parts lie apart, relative to their size or, if they are smaller, to their unit.

    Where there is nothing to compare with, that is infinitely far.
    """
    if not _comparable(old, new):
        return torch.full_like(new.parts()[0].abs().flatten(1)[:, 0], torch.inf)
    each = [
        _largest(n - o) / _largest(n).clamp(min=unit)
        for o, n, unit in zip(old.parts(), new.parts(), new.units(), strict=True)
    ]
    return each[0] if len(each) == 1 else torch.stack(each).amax(0)


def _largest(part: Tensor) -> Tensor:
    """The largest entry of every sample."""
    return (part if part.dim() == 2 else part.flatten(1)).abs().amax(1)


def _comparable(old: AbstractState | None, new: AbstractMovable) -> TypeGuard[AbstractMovable]:
    """Whether there is an old state with the same parts."""
    return isinstance(old, AbstractMovable) and len(old.parts()) == len(new.parts())
