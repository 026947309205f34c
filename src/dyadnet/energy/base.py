"""Energies: a scalar a sample, minimised over the states of a network under different boundary conditions.

Contrastive rules compare the minima under two or more conditions on the output (free, nudged, clamped):

    d loss / d theta  =  sum_i w_i  dE/dtheta (s^i)                                          (thesis eqs 3.9-3.11)
"""

import abc
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dyadnet.network.linearise import Gradients
from dyadnet.network.state import States
from dyadnet.relax.relaxation import Relaxation, Solution

Output = Callable[[Tensor, Tensor | None], Tensor]
"""The boundary condition: what the output layer makes of its drive and of its state before."""


def weighted(s: Tensor, weights: Sequence[complex]) -> Tensor:
    """Return copies of a batch, one after another, each times its weight."""
    each = torch.tensor(weights, dtype=s.dtype, device=s.device).repeat_interleave(len(s) // len(weights))
    return s * each.view(-1, *[1] * (s.dim() - 1))


class AbstractEnergy(abc.ABC):
    """An energy `E(x, s, theta)`, one value a sample."""

    @abc.abstractmethod
    def value(self, x: Tensor, states: States) -> Tensor:
        """Return the energy of every sample, `(batch,)`."""

    @abc.abstractmethod
    def minimise(
        self, x: Tensor, output: Output | None, states: States | None, relaxation: Relaxation | None, copies: int = 1
    ) -> Solution:
        """Return the states of least energy.

        Args:
            x: inputs `(batch, ...)`.
            output: the boundary condition of the output layer; None leaves it free.
            states: where to start.
            relaxation: how to get there; None stands for the network's own.
            copies: how many copies of the batch the states hold, each with the same inputs.
        """

    @abc.abstractmethod
    def gradients(self, x: Tensor, states: States, weights: Sequence[complex]) -> Gradients:
        """Return the real part of `sum_i weights_i sum_batch dE/dtheta(s^i)` in every parameter.

        Args:
            x: inputs `(batch, ...)`.
            states: the copies of the batch, one after another.
            weights: one a copy.
        """
