"""Solvers: how far a relaxation goes towards each update, and what it makes of whole passes.

An update of layer k proposes `s_new = neuron(messages)`; with the factor `a` the layer goes to `(1 - a) s_old + a
s_new`. The best factor depends on the connectivity: the wiring of a network knows it.
"""

import abc
from dataclasses import dataclass
from math import sqrt
from typing import final

from dyadnet.network.wiring import AbstractWiring
from dyadnet.relax.anderson import Mixer
from dyadnet.relax.mixing import AbstractMixer
from dyadnet.relax.momentum import Momentum
from dyadnet.relax.schedule import AbstractSchedule


class AbstractSolver(abc.ABC):
    """How a relaxation takes the updates that its schedule orders."""

    @abc.abstractmethod
    def factor_on(self, wiring: AbstractWiring, schedule: AbstractSchedule) -> float:
        """Return how far to go towards each update."""

    def mixer(self, factor: float) -> AbstractMixer | None:
        """Return what accelerates whole passes of updates with that factor; None where nothing does."""
        return None

    @property
    def constant_momentum(self) -> float | None:
        """The share of the last movement that is added after every pass; None where passes are combined otherwise."""
        return 0.0 if type(self).mixer is AbstractSolver.mixer else None


@final
@dataclass(frozen=True)
class Plain(AbstractSolver):
    """Take every update as it is."""

    def factor_on(self, wiring: AbstractWiring, schedule: AbstractSchedule) -> float:
        """Return 1."""
        return 1.0


@final
@dataclass(frozen=True)
class Damped(AbstractSolver):
    """Go a fixed share of the way.

    Args:
        factor: in (0, 2); below 1 it damps, above 1 it over-relaxes.
    """

    factor: float = 0.5

    def __post_init__(self) -> None:
        _check_factor(self.factor)

    def factor_on(self, wiring: AbstractWiring, schedule: AbstractSchedule) -> float:
        """Return the share."""
        return self.factor


@final
@dataclass(frozen=True)
class OverRelaxed(AbstractSolver):
    """Go the optimal share of the way, found from a few steps of Lanczos iteration on the weights.

    Args:
        iterations: steps of Lanczos iteration.
        margin: the norm is taken this much larger than found, since the iteration comes from below.
    """

    iterations: int = 12
    margin: float = 1.05

    def __post_init__(self) -> None:
        if self.iterations < 1 or not self.margin >= 1:
            raise ValueError(f"the iteration needs positive steps and a margin from 1, not {self}")

    def factor_on(self, wiring: AbstractWiring, schedule: AbstractSchedule) -> float:
        """Return the optimal share."""
        return wiring.best_factor(schedule, self.iterations, self.margin)


@final
@dataclass(frozen=True)
class Anderson(AbstractSolver):
    """Anderson acceleration over whole passes: combine the last few iterates so that their residuals cancel.

    Args:
        memory: how many iterates to combine.
        factor: the damping of every update inside a pass; None stands for the square root of the best factor without
            acceleration, as acceleration gains what it does for Krylov methods. With a factor of 1 the passes settle by
            themselves, and steps that lengthen the residual are refused.
    """

    memory: int = 8
    factor: float | None = None

    def __post_init__(self) -> None:
        if self.memory < 1:
            raise ValueError(f"the memory must hold at least one iterate, not {self.memory}")
        _check_factor(self.factor)

    def factor_on(self, wiring: AbstractWiring, schedule: AbstractSchedule) -> float:
        """Return the damping."""
        return self.factor or sqrt(OverRelaxed().factor_on(wiring, schedule))

    def mixer(self, factor: float) -> Mixer:
        """Return the memory of the last iterates."""
        return Mixer(self.memory, guarded=factor == 1)


@final
@dataclass(frozen=True)
class Accelerated(AbstractSolver):
    """Momentum over whole passes: begin each ahead of where the last two led (Nesterov 1983).

    For updates that descend an energy, convex ones above all: it takes about the root of the passes of plain updates.

    Args:
        momentum: the share of the last movement that is added, in [0, 1). None lets it grow with every pass, and begin
            anew in a sample that it carries uphill (O'Donoghue and Candes 2015).
        factor: of the updates in a pass; None stands for the best one without acceleration, and at most 1.
    """

    momentum: float | None = None
    factor: float | None = None

    def __post_init__(self) -> None:
        if self.momentum is not None and not 0 <= self.momentum < 1:
            raise ValueError(f"the momentum must lie in [0, 1), not {self.momentum}")
        _check_factor(self.factor)

    def factor_on(self, wiring: AbstractWiring, schedule: AbstractSchedule) -> float:
        """Return the factor of the updates."""
        return self.factor or min(1.0, OverRelaxed().factor_on(wiring, schedule))

    def mixer(self, factor: float) -> Momentum:
        """Return the memory of the last movement."""
        return Momentum(self.momentum)

    @property
    def constant_momentum(self) -> float | None:
        """The momentum."""
        return self.momentum


def _check_factor(factor: float | None) -> None:
    if factor is not None and not 0 < factor < 2:
        raise ValueError(f"the factor must lie in (0, 2), not {factor}")
