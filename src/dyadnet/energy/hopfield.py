"""The Hopfield energy of a network, with `G`, so that it really decreases when a layer is updated.

    E(s) = sum_k c^(k-L) [ G(s_k) - <s_k, map_k(s_{k-1})> ],      grad G = f^{-1}                    (thesis eq. 3.8)

A layer that minimises it given its neighbours is `s_k = f(map_k(s_{k-1}) + c J_{k+1}^T s_{k+1})`: the layered network
with `c = 2 lam - 1` in (0, 1]. At `c = 1` it is the symmetric Hopfield network; below, the layerwise discounted energy
of Xie and Seung (2003), whose feedback weakens with every layer and which tends to backpropagation as `c -> 0`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dyadnet.energy.base import AbstractEnergy, Output, weighted
from dyadnet.network.base import AbstractNetwork, hopfield
from dyadnet.network.linearisation import Gradients
from dyadnet.network.state import AbstractState, Activity, Neuron, States
from dyadnet.network.wiring import AbstractCoupling, AbstractWiring
from dyadnet.relax.relaxation import Relaxation


@dataclass(frozen=True)
class HopfieldEnergy(AbstractEnergy):
    """The Hopfield energy of a network.

    Args:
        net: `Layered` with `lam` above 1/2, or a symmetric `Dense`; its activations must be monotone.

    Raises:
        ValueError: if the network has no energy, saying what to do.
    """

    net: AbstractNetwork

    def __post_init__(self) -> None:
        missing = self.net.energy_missing()
        if missing:
            raise ValueError(missing)

    @torch.no_grad()
    def value(self, x: Tensor, states: States) -> Tensor:
        """Return `E`, `(batch,)`."""
        wiring, total = self.wire(x, states), torch.zeros(len(x), dtype=x.dtype, device=x.device)
        activations = hopfield(self.net, "an energy").activations
        for k, (activation, state) in enumerate(zip(activations, states, strict=True), 1):
            s = state.mean()
            assert activation.potential is not None
            terms = activation.potential(s) - s * wiring.sent(k)
            total += wiring.discount(k) * terms.flatten(1).sum(1)
        return total

    def wire(self, x: Tensor, states: States | None = None, copies: int = 1) -> AbstractCoupling:
        """Return the network's own wiring."""
        self.net.check_steady()
        return hopfield(self.net, "an energy").wire(x, states, copies)

    def settling(self) -> Relaxation:
        """Return the network's own relaxation."""
        return self.net.relaxation

    def neuron(self, wiring: AbstractWiring, output: Output | None) -> Neuron:
        """Return the exact minimisation over one layer."""
        return under_condition(self.net, wiring.depth, output)

    def gradients(self, wiring: AbstractWiring, weights: Sequence[complex]) -> Gradients:
        """Learn from `-c^(k-L) weights s_k`."""
        assert isinstance(wiring, AbstractCoupling)
        return outer_products(wiring, weights)


def under_condition(net: AbstractNetwork, last: int, output: Output | None) -> Neuron:
    """Return what the layers of a network do, the layer `last` under the boundary condition `output` (None: free)."""

    def neuron(k: int, drive: Tensor, feedback: Tensor | None, before: AbstractState | None) -> AbstractState:
        if k == last and output is not None:
            return Activity(output(drive, None if before is None else before.mean()))
        return Activity(net.respond(k, drive))

    return neuron


@torch.no_grad()
def outer_products(wiring: AbstractCoupling, weights: Sequence[complex]) -> Gradients:
    """Return the gradient of `-sum_k c^(k-L) weights <s_k, map_k(s_{k-1})>` at fixed states.

    Args:
        wiring: with copies of the batch in its states.
        weights: one a copy.
    """
    layers = range(1, wiring.depth + 1)
    return wiring.learn({k: -wiring.discount(k) * weighted(wiring.state(k).mean(), weights) for k in layers})
