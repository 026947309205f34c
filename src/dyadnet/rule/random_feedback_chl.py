"""Contrastive Hebbian learning with random feedback (Detorakis, Bartley and Neftci 2019; thesis section 2.3).

Feedback from above travels through fixed random matrices in the place of the transposes,

    s_l = f( W_{l-1} s_{l-1} + b + gamma G_l s_{l+1} ),

and the weights learn from a phase in which the output is clamped to the target, and a free one:

    dW_l = eta gamma^{(l+1)-L} [ s_{l+1} s_l^T (clamped) - s_{l+1} s_l^T (free) ]

The state of layer l differs between the phases by O(gamma^{L-l}), which the factor makes up for (Xie and Seung 2003).
With `G_l = W_l^T` the rule tends to backpropagation of the squared error as `gamma -> 0`, and with any other to
feedback alignment. Without feedback in the free phase the difference holds all that is fed back, not only the error:
the layer below the output learns from `G y` in the place of `G (y - s_L)`, and those below it from `G_l s_{l+1}`, which
is O(gamma) at any depth and which the factor blows up. One hidden layer learns so, deeper ones do not.
"""

from dataclasses import dataclass
from math import isclose
from typing import final

import torch
from torch import Tensor

from dyadnet.energy.hopfield import outer_products, under_condition
from dyadnet.loss import Loss, one_hot
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.layered import Layered
from dyadnet.network.state import Activity, States
from dyadnet.network.wiring import AbstractCoupling
from dyadnet.relax.relaxation import Relaxation, settle
from dyadnet.relax.schedule import BottomUp
from dyadnet.relax.solver import Plain
from dyadnet.rule.base import AbstractRule, Estimate
from dyadnet.rule.contrast import two_phase_estimate
from dyadnet.rule.feedback_alignment import along
from dyadnet.rule.nudge import clamped


@final
@dataclass(frozen=True)
class RandomFeedbackCHL(AbstractRule):
    """Contrastive Hebbian learning without weight transport.

    Integer classes are clamped as one-hot outputs: for small `gamma` the loss that falls is the squared error, whatever
    `loss` is reported. No derivative of an activation is needed.

    Args:
        gamma: the strength of the feedback, in (0, 1]. It must be small enough for the states to settle, and no smaller
            than the precision of the states allows: layer l learns from differences of size `gamma^(L-l)`.
        free_feedback: whether feedback acts in the free phase too: the network then has it, `lam = (1 + gamma) / 2`.
            Otherwise the free phase is the forward pass of a feedforward network, `lam = 1/2`, of one hidden layer.
        relaxation: how states reach equilibrium; None stands for the network's own.

    Raises:
        ValueError: for a `gamma` out of range; in `estimate`, for a network without feedback weights from layer to
            layer, or with another `lam`.
    """

    gamma: float = 0.1
    free_feedback: bool = True
    relaxation: Relaxation | None = None

    def __post_init__(self) -> None:
        if not 0 < self.gamma <= 1:
            raise ValueError(f"gamma must lie in (0, 1], not {self.gamma}")

    @property
    def lam(self) -> float:
        """The feedback parameter of the network that the rule trains: that of its free phase."""
        return (1 + self.gamma) / 2 if self.free_feedback else 0.5

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
        net = self._checked(net)
        net.check_steady()
        how, last = self.relaxation or net.relaxation, len(net.stages)
        upwards = how if self.free_feedback else Relaxation(BottomUp(), Plain())
        free = settle(net.wire(x, states), under_condition(net, last, None), upwards, generator=generator)
        output = clamped(one_hot(y, free.states[-1].mean()))
        wiring = net.with_lam((1 + self.gamma) / 2).wire(x, free.states)
        held = settle(wiring, under_condition(net, last, output), how, generator=generator)
        pairs = zip(free.states, held.states, strict=True)
        both = wiring.again([Activity(torch.cat([a.mean(), b.mean()])) for a, b in pairs], copies=2)
        seen = both.read()
        assert isinstance(seen, AbstractCoupling)
        grads = outer_products(seen, [-1 / len(x), 1 / len(x)])
        return two_phase_estimate(loss, y, free, held, grads, keep_states=keep_states)

    def _checked(self, net: AbstractNetwork) -> Layered:
        """Refuse a network that does not have the feedback of the free phase."""
        if not (isinstance(net, Layered) and isclose(net.lam, self.lam)):
            raise ValueError(
                f"RandomFeedbackCHL with {self} needs a layered network of lam={self.lam:g}: net.with_lam({self.lam:g})"
            )
        return along(net, "RandomFeedbackCHL")
