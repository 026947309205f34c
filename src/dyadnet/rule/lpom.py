"""Lifted proximal operator machines (Li et al. 2019) with discounted layers: one phase, and no derivative of `f`.

    E(s)  =  sum_k gamma^(k-1) [ 1/2 |s_k - a_k|^2 - 1/2 |f_k(a_k) - a_k|^2 ],    s_k in the range of f_k
    ds_k  =  a_k - s_k + gamma J_{k+1}^T (s_{k+1} - f_{k+1}(a_{k+1})),      projected
    g     =  gamma^(1-L) dE/dtheta  =  -gamma^(k-L) d/dtheta <map_k, s_k - f_k(a_k)>          output clamped

Its least value without the target is zero, at the forward pass. As `gamma -> 0` the gradient tends to that of
backpropagation.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from dyadnet.bounds import positive
from dyadnet.energy.lifted import LiftedEnergy
from dyadnet.energy.potential import Fenchel
from dyadnet.loss import Loss
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.state import States
from dyadnet.relax.propagate import chain
from dyadnet.rule.base import AbstractRule, Estimate
from dyadnet.rule.lifted import accelerated, one_phase


@final
@dataclass(frozen=True)
class LPOM(AbstractRule):
    """Gradients from states of least Fenchel-Young energy, with the output clamped to the target.

    For networks of ReLU, hard sigmoid or linear units with a linear output. Losses other than the squared error clamp
    the output to where a full step down their gradient leads.

    Args:
        gamma: the discount of what comes from above, above 0.
        steps: passes over odd, then even layers; None for as many as it takes.
        tolerance: stop where no state would move further than this, relative to its layer; None never looks if
            `steps` are given, and otherwise stands for 1e-5 in single and 1e-10 in double precision.

    Raises:
        ValueError: for settings out of range; in `estimate`, for a network with loops or with other units.
    """

    gamma: float = 0.1
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
        """Let states descend from the forward pass, or from `states`."""
        energy, how = LiftedEnergy(chain(net), Fenchel, self.gamma), accelerated(self.steps, self.tolerance)
        return one_phase(energy, loss, x, y, how, states=states, keep_states=keep_states)
