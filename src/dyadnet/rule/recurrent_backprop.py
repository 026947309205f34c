"""Recurrent backpropagation: exact gradients at equilibrium by implicit differentiation (Almeida 1987, Pineda 1987).

At `s = f(u)`, `u = W s + b`, the errors in the drives solve the linear equations

    delta_k = f'(u_k) * [ (W^T delta)_k + dl/ds_k ]

which relax as the states themselves do: the multipliers of the Lagrangian (thesis eqs 3.5-3.7) in a network with loops.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from dyadnet.loss import Loss, as_loss
from dyadnet.network.base import AbstractNetwork, hopfield
from dyadnet.network.layered import Layered
from dyadnet.network.state import States
from dyadnet.relax.relaxation import Relaxation, settle
from dyadnet.rule.base import AbstractRule, Estimate
from dyadnet.rule.lagrangian import multiplied


@final
@dataclass(frozen=True)
class RecurrentBackprop(AbstractRule):
    """The exact gradient at equilibrium, for networks of any connectivity: the reference of the other rules.

    Args:
        relaxation: how states and multipliers reach equilibrium; None stands for the network's own.

    Raises:
        ValueError: in `estimate`, if the network has a feedback path, or loops through maps that are not affine.
    """

    relaxation: Relaxation | None = None

    def estimate(
        self,
        net: AbstractNetwork,
        loss: Loss,
        x: Tensor,
        y: Tensor,
        *,
        states: States | None = None,
        generator: torch.Generator | None = None,
        keep_states: bool = True,
    ) -> Estimate:
        """Relax states and multipliers together."""
        if isinstance(net, Layered) and net.feedback is not None:
            raise ValueError("RecurrentBackprop sends errors through the transpose: take net.with_feedback(None)")
        net.check_steady()
        net.check_straight("RecurrentBackprop")
        loss, wiring = as_loss(loss), net.wire(x, states)
        neuron = multiplied(hopfield(net, "recurrent backpropagation").activations, loss, x, y)
        solution = settle(wiring, neuron, self.relaxation or net.relaxation, generator=generator)
        with torch.no_grad():
            grads, output = wiring.read().gradients(), solution.states[-1].mean()
        kept = solution.states if keep_states else None
        return Estimate(loss(output, y).mean(), output, grads, kept, solution.iterations, solution)
