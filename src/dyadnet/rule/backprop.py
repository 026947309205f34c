"""Backpropagation by autograd: the rule that all others are compared with (thesis eqs 3.1-3.4)."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from dyadnet.loss import Loss, as_loss
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.state import States
from dyadnet.relax.propagate import chain
from dyadnet.rule.base import AbstractRule, Estimate


@final
@dataclass(frozen=True)
class Backprop(AbstractRule):
    """The exact gradient of the mean loss, through the transpose of the weights whatever the feedback path.

    Lifted networks are differentiated implicitly.

    >>> from dyadnet import Layered, squared_error
    >>> net = Layered.from_sequential(torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False)))
    >>> weight = net.stages[0].map.weight
    >>> _ = torch.nn.init.constant_(weight, 2.0)
    >>> step = Backprop().estimate(net, squared_error, torch.tensor([[3.0]]), torch.tensor([[5.0]]))
    >>> step.loss, step.grads[weight]            # 1/2 (6 - 5)^2 and (6 - 5) 3
    (tensor(0.5000), tensor([[3.]]))
    """

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
        """Differentiate the mean loss; there are no states to start from or to keep."""
        net = net.on(None)  # autograd knows no substrate
        if not net.differentiable:
            chain(net)
        parameters = [p for p in net.parameters() if p.requires_grad]
        with torch.enable_grad():
            output = net(x)
            value = as_loss(loss)(output, y).mean()
            grads = torch.autograd.grad(value, parameters, materialize_grads=True) if parameters else ()
        return Estimate(value.detach(), output.detach(), dict(zip(parameters, grads, strict=True)))
