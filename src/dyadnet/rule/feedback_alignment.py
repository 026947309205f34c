"""Feedback alignment: the Lagrangian form, with errors that do not travel through the transpose (thesis section 2.3).

    delta_l = f'(a_l) * (B_l delta_{l+1})          feedback alignment (Lillicrap et al. 2016)
    delta_l = f'(a_l) * (B_l delta_L)              direct feedback alignment (Nokland 2016)
    delta_L = f'(a_L) * l'(s_L)

and `W_l` learns from `delta_{l+1} s_l^T`, in the place of backpropagation's `delta_l = f'(a_l) * (W_l^T delta_{l+1})`.
Which `B` there is, the network knows: its feedback path.
"""

from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from dyadnet.loss import Loss
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.feedback import Straight
from dyadnet.network.layered import Layered
from dyadnet.network.state import States
from dyadnet.relax.propagate import chain
from dyadnet.relax.schedule import AbstractSchedule, Sweeps
from dyadnet.rule.base import AbstractRule, Estimate
from dyadnet.rule.lagrangian import Lagrangian


@final
@dataclass(frozen=True)
class FeedbackAlignment(AbstractRule):
    """Errors travel down from layer to layer through weights of their own.

    The network needs a path that leads from layer to layer: `RandomFeedback` for the rule of the paper, `SignSymmetric`
    or `KolenPollack` for its relatives. The error of a layer is no gradient, but the weights come to align with it.

    Args:
        schedule: the order of updates; one forward and one backward sweep by default.

    >>> from dyadnet import squared_error
    >>> from dyadnet.network.feedback import RandomFeedback
    >>> model = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Identity(), torch.nn.Linear(1, 1))
    >>> _ = [torch.nn.init.ones_(parameter) for parameter in model.parameters()]       # s_1 = x + 1, s_2 = x + 2
    >>> net = Layered.from_sequential(model, feedback=RandomFeedback())
    >>> _ = net.feedback.B1.fill_(-3.0)
    >>> x, y = torch.tensor([[2.0]]), torch.tensor([[3.0]])
    >>> step = FeedbackAlignment().estimate(net, squared_error, x, y)
    >>> step.grads[model[2].weight], step.grads[model[0].weight]       # (4 - 3) 3 and -3 (4 - 3) 2
    (tensor([[3.]]), tensor([[-6.]]))

    Raises:
        ValueError: in `estimate`, if the network has no such path.
    """

    schedule: AbstractSchedule = field(default_factory=Sweeps)

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
        """Propagate activities up and errors down."""
        along(chain(net), "FeedbackAlignment")
        exact = Lagrangian(self.schedule)
        return exact.estimate(net, loss, x, y, states=states, generator=generator, keep_states=keep_states)


@final
@dataclass(frozen=True)
class DirectFeedbackAlignment(AbstractRule):
    """The error of the output reaches every hidden layer directly, through weights of its own.

    Args:
        schedule: the order of updates; one forward and one backward sweep by default. On the way down no layer waits
            for another.

    Raises:
        ValueError: in `estimate`, if the network has no direct path.
    """

    schedule: AbstractSchedule = field(default_factory=Sweeps)

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
        """Propagate activities up and the output's error to all layers."""
        if not isinstance(chain(net).feedback, Straight):
            raise ValueError("DirectFeedbackAlignment needs direct feedback: net.with_feedback(DirectFeedback())")
        exact = Lagrangian(self.schedule)
        return exact.estimate(net, loss, x, y, states=states, generator=generator, keep_states=keep_states)


def along(net: Layered, rule: str) -> Layered:
    """Return a network whose errors go from layer to layer through weights of their own.

    Raises:
        ValueError: if they do not.
    """
    if net.feedback is None or isinstance(net.feedback, Straight):
        found = "the transpose" if net.feedback is None else "direct feedback"
        raise ValueError(
            f"{rule} needs feedback weights from layer to layer, not {found}: net.with_feedback(RandomFeedback())"
        )
    return net
