"""Contrastive lifted learning with units that project (Zach and Estellers 2019; energy of thesis eq. 3.15, paper A).

    E(s)  =  1/2 sum_k gamma^(k-1) |s_k - map_k(s_{k-1})|^2,         s_k in the range of f_k
    J     =  min_{s: s_L = target} E(s) - min_s E(s)
    g     =  gamma^(1-L) dJ/dtheta  =  gamma^(1-L) [ dE/dtheta(clamped) - dE/dtheta(free) ]

The energy is convex in all states together; a layer of ReLUs is a projection on `s >= 0`, and no `f'` is needed. The
free energy is not zero: it is `1/2 |min(a, 0)|^2` at the forward pass, and states leave that for any finite `gamma`.
Without its gradient hidden layers learn next to nothing of the loss; `free_phase=False` shows that. With it the
gradient tends to backpropagation's as `gamma -> 0`.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from dyadnet.bounds import positive
from dyadnet.energy.lifted import LiftedEnergy
from dyadnet.energy.potential import Proximal
from dyadnet.loss import Loss, as_loss
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.state import States
from dyadnet.relax.propagate import chain
from dyadnet.rule.base import AbstractRule, Estimate
from dyadnet.rule.contrast import contrast, summary
from dyadnet.rule.lifted import accelerated, one_phase, target
from dyadnet.rule.nudge import clamped


@final
@dataclass(frozen=True)
class LiftedProximal(AbstractRule):
    """Gradients from the difference between clamped and free states of least energy.

    For networks of ReLU, hard sigmoid or linear units with a linear output. Losses other than the squared error clamp
    the output to where a full step down their gradient leads from the free one.

    Args:
        gamma: the discount of what comes from above, above 0. Differences between the phases are `O(gamma^(L-k))` in
            layer k, and inference has to be as accurate as that.
        free_phase: whether to subtract what the free phase would learn; without, it is a negative control.
        steps: passes over odd, then even layers, in each phase; None for as many as it takes.
        tolerance: stop where no state would move further than this, relative to its layer; None never looks if
            `steps` are given, and otherwise stands for 1e-5 in single and 1e-10 in double precision.

    Raises:
        ValueError: for settings out of range; in `estimate`, for a network with loops or with other units.
    """

    gamma: float = 0.1
    free_phase: bool = True
    steps: int | None = None
    tolerance: float | None = None

    def __post_init__(self) -> None:
        positive(gamma=self.gamma)
        accelerated(self.steps, self.tolerance)

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
        """Relax freely, then with the output clamped; the states are the free ones."""
        loss, energy = as_loss(loss), LiftedEnergy(chain(net), Proximal, self.gamma)
        how = accelerated(self.steps, self.tolerance)
        if not self.free_phase:
            return one_phase(energy, loss, x, y, how, states=states, keep_states=keep_states)
        wiring = energy.wire(x)
        prediction = wiring.state(wiring.depth).s
        wiring = wiring if states is None else wiring.again(states)
        free = energy.minimise(wiring, relaxation=how, generator=generator)
        output, scale = clamped(target(loss, free.states[-1].mean(), y)), self.gamma ** (1 - wiring.depth)
        grads, others = contrast(
            energy, wiring, free, output, [scale], free_weight=-scale, relaxation=how, generator=generator
        )
        solution = summary(free, others, len(x))
        kept = free.states if keep_states else None
        return Estimate(loss(prediction, y).mean(), prediction, grads, kept, solution.iterations, solution)
