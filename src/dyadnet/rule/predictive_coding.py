"""Predictive coding, which is alternating minimisation (thesis eqs 3.12 and 3.14).

    E(a)  =  sum_k 1/2 |e_k|^2,        e_k = a_k - map_k(f_{k-1}(a_{k-1})),        f_0 = id
    da_k  =  -e_k + f'_k(a_k) * J_{k+1}^T e_{k+1}
    g     =  (1/beta) dE/dtheta  =  -(1/beta) d/dtheta <map_k, e_k>                    output nudged by beta, or clamped

States start at the forward pass, where E = 0; the error of the output descends one layer a step.

    standard           the gradient after the last step; as `beta -> 0`, settled, it tends to backpropagation's
    incremental        weights move with the states, at every step: `incremental.py` (Salvatori et al. 2024)
    alternating        one layer after the other from the top, `steps` times each (Choromanska et al. 2019)
    fixed-prediction   predictions and f' stay those of the forward pass: `exact_coding.py` (Millidge et al. 2022)
    z-il               unit steps; a layer learns when the error reaches it: the same file (Song et al. 2020)

The last two are backpropagation, with unit steps, as many as there are layers.
"""

from dataclasses import dataclass
from math import inf
from typing import Literal, final, get_args

import torch
from torch import Tensor

from dyadnet.bounds import positive
from dyadnet.energy.lifted import LiftedEnergy
from dyadnet.energy.potential import Predictive
from dyadnet.loss import Loss
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.state import States
from dyadnet.relax.propagate import chain
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.schedule import TopDown
from dyadnet.relax.solver import Plain
from dyadnet.relax.stopping import Count
from dyadnet.rule.base import AbstractRule, Estimate
from dyadnet.rule.exact_coding import fixed_prediction, z_il
from dyadnet.rule.incremental import incremental
from dyadnet.rule.lifted import check_reach, gradient_steps, one_phase

Variant = Literal["standard", "incremental", "alternating", "fixed-prediction", "z-il"]


@final
@dataclass(frozen=True)
class PredictiveCoding(AbstractRule):
    """Gradients of the prediction errors that spread from the output.

    Args:
        beta: the strength of the nudge, for one sample; infinite clamps the output to the target.
        variant: as at the head of this file. The last two have no settings.
        steps: gradient steps of the states; with a tolerance the most that there may be.
        step: how far states go along their gradient; None stands for the inverse of each layer's curvature, beyond
            twice which states may run away as weights grow. It is that at the first sample; where maps are affine, all
            samples have the same.
        momentum: the share of the last step that is added to the next one, in [0, 1); of the standard variant.
        tolerance: stop where no state would move further than this, relative to its layer; None never looks. Of the
            standard variant.
        weight_step: how far the weights of the incremental variant move along each of its gradients.

    Raises:
        ValueError: for settings out of range; in `estimate`, for a network with loops, or too few steps for its depth.
    """

    beta: float = 0.1
    variant: Variant = "standard"
    steps: int = 20
    step: float | None = None
    momentum: float = 0.0
    tolerance: float | None = None
    weight_step: float = 1e-3

    def __post_init__(self) -> None:
        if self.variant not in get_args(Variant):
            raise ValueError(f"there is no variant {self.variant!r}")
        positive(step=self.step, beta=1.0 if self.beta == inf else self.beta, weight_step=self.weight_step)
        self._relaxation()

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
        """Let pre-activations descend from the forward pass, or from `states` where the variant can."""
        energy = LiftedEnergy(chain(net), Predictive, step=self.step)
        match self.variant:
            case "fixed-prediction":
                return fixed_prediction(energy, loss, x, y, keep_states=keep_states)
            case "z-il":
                return z_il(energy, loss, x, y, keep_states=keep_states)
            case "alternating":
                pass
            case _:
                check_reach(self.steps, len(energy.net.stages))
        rest = {"beta": self.beta, "states": states, "keep_states": keep_states}
        if self.variant == "incremental":
            return incremental(energy, loss, x, y, self._relaxation(), weight_step=self.weight_step, **rest)
        return one_phase(energy, loss, x, y, self._relaxation(), **rest)

    def _relaxation(self) -> Relaxation:
        """How states descend."""
        if self.variant == "alternating":
            return Relaxation(TopDown(visits=self.steps), Plain(), Count(1))
        if self.variant == "incremental":
            return gradient_steps(self.steps, 0.0, None, self.step)
        return gradient_steps(self.steps, self.momentum, self.tolerance, self.step)
