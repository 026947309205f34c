"""What the units of a network are made of, where that is not perfect: what they receive, how they move, what is read.

A network computes `s_k = f_k(u_k)`; on a substrate each of the three steps of a visit may go astray:

    received     u_k -> what the unit makes of it (offsets, gains, converters)
    moved     s_k -> where it ends up (thermal agitation)
    read      s_k -> what a measurement says, from which the weights learn

Networks carry one through `on`; without one, which is the same as one that changes nothing, no operation is added.
"""

import abc
from collections.abc import Callable
from contextlib import AbstractContextManager

from torch import Tensor

from dyadnet.network.state import AbstractState


class AbstractSubstrate(abc.ABC):
    """What happens to the messages and states of a network's units.

    Attributes:
        beside: puts the second of two circuits, which run the two phases of a contrast side by side, in the place of
            the first for a while; None where one circuit runs both.
    """

    beside: Callable[[], AbstractContextManager[None]] | None = None

    @abc.abstractmethod
    def received(self, k: int, drive: Tensor) -> Tensor:
        """Return what the units of layer k make of their drive, of the same shape.

        Args:
            k: the layer, from 1.
            drive: what arrives, `(batch, ...)`.
        """

    @abc.abstractmethod
    def moved(self, k: int, state: AbstractState, factor: float) -> AbstractState:
        """Return where the units of layer k end up.

        Args:
            k: the layer, from 1.
            state: where they would be.
            factor: the share of the way to their update that they went.
        """

    @abc.abstractmethod
    def read(self, k: int, state: AbstractState) -> AbstractState:
        """Return what a measurement says of the units of layer k.

        Args:
            k: the layer, from 0, the inputs.
            state: where they are.
        """
