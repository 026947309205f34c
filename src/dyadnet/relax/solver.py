"""Solvers: how far a relaxation goes towards each update.

An update of layer k proposes `s_new = neuron(messages)`; a solver with factor `a` goes to `(1 - a) s_old + a s_new`.

The layers of a chain fall into odd and even ones that only hear each other. With `W = theta + c theta^T` and `sigma` the
spectral norm of the coupling between the two groups (times the activations' slope), the best factor for odd-even updates is

    a* = 2 / (1 + sqrt(1 - c sigma^2)),      rate |1 - a*|        (Young; for c < 0 Niethammer)

For `c < 0` it damps: without it the updates diverge as soon as `|c| sigma^2 > 1`, although the equilibrium is unique. For
`c >= 0` plain odd-even updates descend an energy, and `a = 1` is kept.
"""

import abc
from dataclasses import dataclass
from typing import final


class AbstractSolver(abc.ABC):
    """A way to go from updates to an equilibrium."""


@final
@dataclass(frozen=True)
class Plain(AbstractSolver):
    """Take every update as it is."""


@final
@dataclass(frozen=True)
class Damped(AbstractSolver):
    """Go a fixed share of the way.

    Args:
        factor: in (0, 2); below 1 it damps, above 1 it over-relaxes.
    """

    factor: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.factor < 2:
            raise ValueError(f"the factor must lie in (0, 2), not {self.factor}")


@final
@dataclass(frozen=True)
class OverRelaxed(AbstractSolver):
    """Go the optimal share of the way, found from a few steps of power iteration on the weights.

    Args:
        iterations: steps of power iteration.
        margin: the norm is taken this much larger than found, since power iteration comes from below.
    """

    iterations: int = 8
    margin: float = 1.05


@final
@dataclass(frozen=True)
class Anderson(AbstractSolver):
    """Anderson acceleration over whole passes: combine the last few iterates so that their residuals cancel.

    Args:
        memory: how many iterates to combine.
        factor: the damping of every update inside a pass.
    """

    memory: int = 5
    factor: float = 0.5
