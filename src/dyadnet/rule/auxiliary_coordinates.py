"""The method of auxiliary coordinates (Carreira-Perpinan and Wang 2014; thesis eqs 3.12-3.13).

    E(s)  =  sum_k 1/2 |e_k|^2,        e_k = s_k - f_k(a_k),        a_k = map_k(s_{k-1})
    ds_k  =  -e_k + J_{k+1}^T (f'_{k+1}(a_{k+1}) * e_{k+1})
    g     =  (1/beta) dE/dtheta  =  -(1/beta) d/dtheta <map_k, f'_k(a_k) * e_k>

Given the coordinates `s`, every layer is a regression of its own. The original lets the penalty `1/beta` grow over
training: hand in a smaller `beta` as it goes on. As `beta -> 0` the gradient tends to backpropagation's.
"""

from dataclasses import dataclass
from math import inf
from typing import final

import torch
from torch import Tensor

from dyadnet.bounds import positive
from dyadnet.energy.lifted import LiftedEnergy
from dyadnet.energy.potential import Auxiliary
from dyadnet.loss import Loss
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.state import States
from dyadnet.relax.propagate import chain
from dyadnet.rule.base import AbstractRule, Estimate
from dyadnet.rule.lifted import check_reach, gradient_steps, one_phase


@final
@dataclass(frozen=True)
class AuxiliaryCoordinates(AbstractRule):
    """Gradients of regressions on coordinates that are drawn to their predictions and to the targets.

    Args:
        beta: the strength of the nudge, for one sample; infinite clamps the output to the target.
        steps: gradient steps of the states; with a tolerance the most that there may be.
        step: how far they go; None stands for the inverse of each layer's curvature, beyond
            twice which states may run away as weights grow. It is that at the first sample; where maps are affine, all
            samples have the same.
        momentum: the share of the last step that is added to the next one, in [0, 1).
        tolerance: stop where no state would move further than this, relative to its layer; None never looks.

    Raises:
        ValueError: for settings out of range; in `estimate`, for a network with loops, or too few steps for its depth.
    """

    beta: float = 0.1
    steps: int = 20
    step: float | None = None
    momentum: float = 0.0
    tolerance: float | None = None

    def __post_init__(self) -> None:
        positive(step=self.step, beta=1.0 if self.beta == inf else self.beta)
        gradient_steps(self.steps, self.momentum, self.tolerance, self.step)

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
        """Let coordinates descend from the forward pass, or from `states`."""
        energy = LiftedEnergy(chain(net), Auxiliary, step=self.step)
        check_reach(self.steps, len(energy.net.stages))
        how = gradient_steps(self.steps, self.momentum, self.tolerance, self.step)
        return one_phase(energy, loss, x, y, how, beta=self.beta, states=states, keep_states=keep_states)
