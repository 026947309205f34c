"""How far a rule moves the outputs of a network to teach it: what a measurement has to tell apart.

Equal nudging strengths mean different things to different rules; equal displacements do not.
"""

from typing import Protocol, final, runtime_checkable

from torch import Tensor

from dyadnet.loss import Loss
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.state import AbstractState
from dyadnet.network.substrate import AbstractSubstrate
from dyadnet.rule.base import AbstractRule


@runtime_checkable
class Dyadic(Protocol):
    """A layer of two states."""

    def plus(self) -> Tensor:
        """Return `s^+`."""
        ...

    def minus(self) -> Tensor:
        """Return `s^-`."""
        ...


@final
class Witness(AbstractSubstrate):
    """Units that are perfect, and remember the last state of the highest layer from which weights learned."""

    def __init__(self) -> None:
        self.layer, self.seen = 0, None

    def received(self, k: int, drive: Tensor) -> Tensor:
        """Return the drive."""
        return drive

    def moved(self, k: int, state: AbstractState, factor: float) -> AbstractState:
        """Return the state."""
        return state

    def read(self, k: int, state: AbstractState) -> AbstractState:
        """Remember the state."""
        if k >= self.layer:
            self.layer, self.seen = k, state
        return state


def displacement(rule: AbstractRule, net: AbstractNetwork, loss: Loss, x: Tensor, y: Tensor) -> float | None:
    """Return the root mean square difference of the two output states that a rule contrasts.

    Args:
        rule: any rule.
        net: the network.
        loss, x, y: as the rule takes them.

    Returns:
        The distance in units of the output; None for a rule that contrasts none.

    >>> import torch
    >>> from dyadnet import DualPropagation, Layered, squared_error
    >>> net = Layered.from_sequential(torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False)))
    >>> _ = torch.nn.init.constant_(net.stages[0].map.weight, 2.0)
    >>> displacement(DualPropagation(0.5), net, squared_error, torch.tensor([[3.0]]), torch.tensor([[5.0]]))
    0.5
    """
    witness = Witness()
    rule.estimate(net.on(witness), loss, x, y, keep_states=False)
    match witness.seen:
        case Dyadic():
            plus, minus = witness.seen.plus(), witness.seen.minus()
        case AbstractState() if len(witness.seen.mean()) > len(x):
            plus, *_, minus = witness.seen.mean().chunk(len(witness.seen.mean()) // len(x))
        case _:
            return None
    return float((plus - minus).abs().square().mean().sqrt())
