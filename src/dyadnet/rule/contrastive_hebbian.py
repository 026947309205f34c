"""Contrastive Hebbian learning and coupled learning: outputs clamped to a target, or on the way to it.

    contrastive Hebbian    g = dE/dtheta(s | output = y) - dE/dtheta(s free)
    coupled learning       g = [dE/dtheta(s | output = o(beta)) - dE/dtheta(s | output = o(0))] / beta,
                           o(nu) = o_free - nu l'(o_free)

(Movellan 1991, the limit `beta -> infinity` of thesis eq. 3.11; Stern et al. 2021). For the squared error `o(beta)` is
`(1 - beta) o_free + beta y`: coupled learning at full clamp, `beta = 1`, is contrastive Hebbian learning. In a layered
network with weak feedback, `lam = (1 + gamma) / 2`, the energy carries the layerwise discount `gamma` of Xie and Seung
(2003), and contrastive Hebbian learning tends to backpropagation as `gamma -> 0`.
"""

from dataclasses import dataclass
from typing import final, get_args

import torch
from torch import Tensor

from dyadnet.bounds import positive
from dyadnet.loss import Loss, as_loss, one_hot
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.state import States
from dyadnet.relax.relaxation import Relaxation
from dyadnet.rule.base import AbstractRule, Estimate
from dyadnet.rule.contrast import Side, contrast, descended, real_phases, two_phase_estimate
from dyadnet.rule.nudge import clamped


@final
@dataclass(frozen=True)
class ContrastiveHebbian(AbstractRule):
    """Contrastive Hebbian learning.

    Integer classes are clamped as one-hot outputs. The update is the gradient of `E(clamped) - E(free)`; for weak
    feedback that is the gradient of the squared error, whatever `loss` is reported.

    Args:
        relaxation: how states reach equilibrium; None stands for the network's own.
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
        """Relax freely, then clamped; the states are the free ones."""
        energy = descended(net)
        wiring = energy.wire(x, states)
        free = energy.minimise(wiring, relaxation=self.relaxation, generator=generator)
        output = clamped(one_hot(y, free.states[-1].mean()))
        grads, others = contrast(
            energy, wiring, free, output, [1.0], free_weight=-1.0, relaxation=self.relaxation, generator=generator
        )
        return two_phase_estimate(loss, y, free, others, grads, keep_states=keep_states)


@final
@dataclass(frozen=True)
class CoupledLearning(AbstractRule):
    """Coupled learning: the output is clamped a little nearer to the target than it is by itself.

    Args:
        beta: how far, in (0, 1] for the squared error.
        variant: `positive` (towards the target, against free), `negative` (free, against away from it) or `centred`.
        relaxation: how states reach equilibrium; None stands for the network's own.
    """

    beta: float = 0.25
    variant: Side = "centred"
    relaxation: Relaxation | None = None

    def __post_init__(self) -> None:
        positive(most=1, beta=self.beta)
        if self.variant not in get_args(Side):
            raise ValueError(f"there is no variant {self.variant!r}")

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
        """Relax freely, then with the output held near its free value; the states are the free ones."""
        energy = descended(net)
        wiring = energy.wire(x, states)
        free = energy.minimise(wiring, relaxation=self.relaxation, generator=generator)
        nudges, weights, free_weight = real_phases(self.beta, self.variant)
        prediction = free.states[-1].mean()
        loss = as_loss(loss)
        slope = loss.gradient(prediction, y)
        output = clamped(torch.cat([prediction - loss.applied(nudge.real) * slope for nudge in nudges]))
        grads, others = contrast(
            energy,
            wiring,
            free,
            output,
            weights,
            free_weight=free_weight,
            relaxation=self.relaxation,
            generator=generator,
        )
        return two_phase_estimate(loss, y, free, others, grads, keep_states=keep_states)
