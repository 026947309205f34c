"""Energies: a scalar a sample, minimised over the states of a network under different boundary conditions.

Contrastive rules compare the minima under two or more conditions on the output (free, nudged, clamped):

    d loss / d theta  =  sum_i w_i  dE/dtheta (s^i)                                          (thesis eqs 3.9-3.11)

The phases of one batch share its wiring, so that what the clamped inputs send is computed once.
"""

import abc
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dyadnet.network.base import AbstractNetwork
from dyadnet.network.linearisation import Gradients
from dyadnet.network.state import Neuron, States
from dyadnet.network.wiring import AbstractWiring
from dyadnet.relax.relaxation import Relaxation, Solution, settle

Output = Callable[[Tensor, Tensor | None], Tensor]
"""The boundary condition: what the output layer makes of its drive and of its state before."""


def weighted(s: Tensor, weights: Sequence[complex]) -> Tensor:
    """Return copies of a batch, one after another, each times its weight."""
    if len(weights) == 1:
        return s * weights[0]
    return torch.cat([part * weight for part, weight in zip(s.chunk(len(weights)), weights, strict=True)])


class AbstractEnergy(abc.ABC):
    """An energy `E(x, s, theta)`, one value a sample."""

    @abc.abstractmethod
    def value(self, x: Tensor, states: States) -> Tensor:
        """Return the energy of every sample, `(batch,)`."""

    @abc.abstractmethod
    def wire(self, x: Tensor, states: States | None = None, copies: int = 1) -> AbstractWiring:
        """Return the wiring through which states descend.

        Args:
            x: inputs `(batch, ...)`.
            states: where to start.
            copies: how many copies of the batch the states hold, each with the same inputs.
        """

    @abc.abstractmethod
    def neuron(self, wiring: AbstractWiring, output: Output | None) -> Neuron:
        """Return how layers descend, the last one under the boundary condition `output` (None leaves it free)."""

    @abc.abstractmethod
    def settling(self) -> Relaxation:
        """Return how states descend where nobody says otherwise."""

    def minimise(
        self,
        wiring: AbstractWiring,
        output: Output | None = None,
        relaxation: Relaxation | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Solution:
        """Move the states of `wiring` to least energy.

        Args:
            wiring: as `wire` returns it.
            output: the boundary condition of the output layer; None leaves it free.
            relaxation: how to get there; None stands for `settling`.
            generator: of random orders; None stands for a fixed seed.
        """
        return settle(wiring, self.neuron(wiring, output), relaxation or self.settling(), generator=generator)

    @abc.abstractmethod
    def gradients(self, wiring: AbstractWiring, weights: Sequence[complex]) -> Gradients:
        """Return the real part of `sum_i weights_i sum_batch dE/dtheta(s^i)` in every parameter.

        Args:
            wiring: with the copies of the batch in its states.
            weights: one a copy.
        """


class AbstractMinimiser(AbstractNetwork):
    """A network that descends an energy of its own, as physical systems do."""

    @abc.abstractmethod
    def own_energy(self) -> AbstractEnergy:
        """Return that energy."""
