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
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.linearise import Gradients
from dyadnet.network.state import AbstractState, Activity, States
from dyadnet.relax.relaxation import Relaxation, Solution, settle


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

    def value(self, x: Tensor, states: States) -> Tensor:
        """Return `E`, `(batch,)`."""
        wiring, total = self.net.wire(x, states), torch.zeros(len(x), dtype=x.dtype, device=x.device)
        with torch.no_grad():
            for k, (activation, state) in enumerate(zip(self.net.activations, states, strict=True), 1):
                s = state.mean()
                assert activation.potential is not None
                terms = activation.potential(s) - s * wiring.sent(k)
                total += wiring.discount(k) * terms.flatten(1).sum(1)
        return total

    def minimise(
        self, x: Tensor, output: Output | None, states: States | None, relaxation: Relaxation | None, copies: int = 1
    ) -> Solution:
        """Return the states of least energy, by exact minimisation of one layer after another."""
        self.net.check_steady()
        wiring = self.net.wire(x, states, copies)
        last = wiring.depth

        def neuron(k: int, drive: Tensor, feedback: Tensor | None, before: AbstractState | None) -> AbstractState:
            if k == last and output is not None:
                return Activity(output(drive, None if before is None else before.mean()))
            return self.net.free(k, drive, feedback, before)

        return settle(wiring, neuron, relaxation or self.net.relaxation)

    def gradients(self, x: Tensor, states: States, weights: Sequence[complex]) -> Gradients:
        """Return the real part of `sum_i weights_i sum_batch dE/dtheta(s^i)`."""
        wiring = self.net.wire(x, states, len(weights))
        deltas = {k: -wiring.discount(k) * weighted(state.mean(), weights) for k, state in enumerate(states, 1)}
        with torch.no_grad():
            return wiring.learn(deltas)
