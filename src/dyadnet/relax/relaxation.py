"""Relaxation: layers update from one another until they agree.

A relaxation is an order of updates, a solver and a stopping rule; it returns the states it reached and how settled they
are. Whatever the neurons make of their messages (free, nudged, clamped, dyads), this loop is the only one.
"""

import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from math import isnan
from types import FrameType

import torch
from torch import Tensor

from dyadnet.network.state import AbstractMovable, AbstractState, Neuron, distance
from dyadnet.network.wiring import AbstractWiring
from dyadnet.relax.schedule import AbstractSchedule, Group, OddEven
from dyadnet.relax.solver import AbstractSolver, OverRelaxed
from dyadnet.relax.stopping import AbstractStop, Count, Residual, settled

Observer = Callable[[list[AbstractState], Tensor], None]
"""Called after every pass with the states, the lowest layer first, and how far each sample is from settled."""


class NotSettled(RuntimeError):
    """A relaxation ended before the states had settled."""


class NotSettledWarning(UserWarning):
    """A relaxation ended before the states had settled.

    Python shows a text once a line: what differs from batch to batch does not stand in it.

    Attributes:
        missing: how many samples have not settled.
        residual: the largest of them.
    """

    def __init__(self, text: str, missing: int = 0, residual: float = 0.0) -> None:
        super().__init__(text)
        self.missing, self.residual = missing, residual


@dataclass(frozen=True)
class Relaxation:
    """How the states of a recurrent network reach equilibrium.

    Args:
        schedule: the order of updates within a pass.
        solver: how far to go towards each update.
        stop: when to stop.
        strict: whether an unsettled state is an error; otherwise it is a warning.
    """

    schedule: AbstractSchedule = field(default_factory=OddEven)
    solver: AbstractSolver = field(default_factory=OverRelaxed)
    stop: AbstractStop = field(default_factory=Residual)
    strict: bool = False

    def factor_on(self, wiring: AbstractWiring) -> float:
        """Return how far it goes towards each update."""
        return self.solver.factor_on(wiring, self.schedule)


@dataclass(frozen=True, eq=False)
class Solution:
    """The end of a relaxation.

    Attributes:
        states: one a layer, the lowest first.
        residual: how far each sample is from settled, `(batch,)`.
        iterations: passes made.
        converged: which samples have settled, `(batch,)`.
        looked: the largest residual, a scalar, after every pass at which it was looked at.
    """

    states: Sequence[AbstractState]
    residual: Tensor
    iterations: int
    converged: Tensor
    looked: Sequence[Tensor] = ()

    @property
    def trace(self) -> list[float]:
        """The largest residual after every pass at which it was looked at, as numbers."""
        return [float(largest) for largest in self.looked]


@torch.no_grad()
def settle(
    wiring: AbstractWiring,
    neuron: Neuron,
    relaxation: Relaxation,
    *,
    generator: torch.Generator | None = None,
    observe: Observer | None = None,
) -> Solution:
    """Update the layers of `wiring` until the stopping rule is content.

    Raises:
        NotSettled: if the relaxation is strict and some sample has not settled.
    """
    generator = generator or torch.Generator().manual_seed(0)
    schedule, factor = relaxation.schedule, relaxation.factor_on(wiring)
    mixer, before = relaxation.solver.mixer(factor), {}

    def advance(look: bool) -> Tensor | None:
        if mixer is not None:
            if before:
                mixer.mix(before, wiring.states)
            before.update(wiring.states)
        moved = one_pass(wiring, neuron, schedule, factor, generator, measure=look and schedule.complete)
        return _largest(moved if schedule.complete else residuals(wiring, neuron)) if look else None

    dtype = wiring.states[0].mean().dtype
    return until(relaxation, advance, lambda: _states(wiring), dtype, observe)


def until(
    relaxation: Relaxation,
    advance: Callable[[bool], Tensor | None],
    states: Callable[[], list[AbstractState]],
    dtype: torch.dtype,
    observe: Observer | None = None,
) -> Solution:
    """Make passes until the stopping rule is content.

    Args:
        relaxation: whose stopping rule it is.
        advance: makes a pass; returns how far each sample was from settled, `(batch,)`, if it is asked to look.
        states: returns the states that were reached, one a layer.
        dtype: of the states.
        observe: called after every pass.

    Raises:
        NotSettled: if the relaxation is strict and some sample has not settled.
    """
    stop = relaxation.stop
    tolerance = stop.tolerance_for(dtype)
    residual, looked, iteration = torch.empty(0), [], 0
    for iteration in range(1, stop.most + 1):
        found = advance(tolerance is not None or observe is not None or iteration == stop.most)
        if found is not None:
            residual = found
            looked.append(residual.max())
        if observe is not None:
            observe(states(), residual)
        if tolerance is not None and _over(residual, float(looked[-1]), tolerance):
            break
    solution = Solution(states(), residual, iteration, settled(residual, stop), looked)
    complain(solution, relaxation)
    return solution


def one_pass(
    wiring: AbstractWiring,
    neuron: Neuron,
    schedule: AbstractSchedule,
    factor: float,
    generator: torch.Generator,
    *,
    measure: bool = True,
) -> dict[int, Tensor]:
    """Visit the layers once; return how far each was from its last update, `(batch,)`, if that is to be measured."""
    moved: dict[int, Tensor] = {}
    for group in schedule.one_pass(wiring.depth, generator):
        for k, new in _proposals(wiring, neuron, group):
            if measure:
                moved[k] = distance(wiring.states.get(k), new)
            wiring.put(k, new.toward(wiring.states.get(k), factor), factor)
    return moved


def residuals(wiring: AbstractWiring, neuron: Neuron) -> dict[int, Tensor]:
    """Return how far each layer is from its update, all at the same states, `(batch,)`; nothing moves."""
    layers = tuple(range(1, wiring.depth + 1))
    return {k: distance(wiring.states.get(k), new) for k, new in _proposals(wiring, neuron, layers)}


def _proposals(wiring: AbstractWiring, neuron: Neuron, group: Group) -> list[tuple[int, AbstractMovable]]:
    """Return the layers of a group with the states that their messages of now would put them in."""
    proposed: list[tuple[int, AbstractMovable]] = []
    for k in group:
        new = neuron(k, wiring.received(k), wiring.feedback(k), wiring.states.get(k))
        if not isinstance(new, AbstractMovable):
            raise TypeError(f"{type(new).__name__} cannot be relaxed: let it derive from AbstractMovable")
        proposed.append((k, new))
    return proposed


def _states(wiring: AbstractWiring) -> list[AbstractState]:
    return [wiring.state(k) for k in range(1, wiring.depth + 1)]


def _largest(moved: dict[int, Tensor]) -> Tensor:
    """The largest residual of every sample."""
    return reduce(torch.maximum, moved.values())


def _over(residual: Tensor, largest: float, tolerance: float) -> bool:
    """Whether further passes are in vain: every sample has settled, or has left the numbers."""
    return largest <= tolerance or (isnan(largest) and bool((residual.isnan() | (residual <= tolerance)).all()))


def complain(solution: Solution, relaxation: Relaxation) -> None:
    """Say that states have not settled: unsettled equilibria are never used silently."""
    counted = isinstance(relaxation.stop, Count)  # who asks for a number of passes has decided
    if (counted and not relaxation.strict) or bool(solution.converged.all()):
        return
    missing, residual = int((~solution.converged).sum()), float(solution.residual.max())
    unsettled = f"samples have not settled after {solution.iterations} passes"
    advice = "allow more passes, another solver or smaller weights"
    if relaxation.strict:
        raise NotSettled(f"{missing} of {len(solution.converged)} {unsettled} (residual {residual:.1e}): {advice}")
    warnings.warn(NotSettledWarning(f"{unsettled}: {advice}", missing, residual), stacklevel=_outside(sys._getframe()))


def _outside(frame: FrameType | None) -> int:
    """The level, above a frame, of the first one that is neither ours nor PyTorch's: the user's own line."""
    level = 1
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ("dyadnet", "torch"):
        frame, level = frame.f_back, level + 1
    return level
