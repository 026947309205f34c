"""Backpropagation as the stationary point of a Lagrangian, with states and multipliers updated in any order.

    L(W, s, lambda) = l(s_L) + sum_k lambda_k^T (s_k - f_k(a_k)),      a_k = map_k(s_{k-1})

    dL/dlambda_k = 0    =>   s_k      = f_k(a_k)                                         (thesis eq. 3.5)
    dL/ds_k = 0         =>   lambda_k = J_{k+1}^T (f'_{k+1}(a_{k+1}) * lambda_{k+1})     (3.6)
    -dL/dtheta_k        =    the gradient of  sum(map_k(s_{k-1}) * (f'_k(a_k) * lambda_k))  in theta_k   (3.7)

with `lambda_L = -l'(s_L)`. Below, `lambda` has the opposite sign, so that it is the gradient of the loss in `s_k`. The
error `f'_k * lambda_k` that a layer sends down is the `delta_k` of eq. 3.3. (Eq. 3.6 as printed has `f'_l` outside the
transpose: that is the recursion of `delta`; the stationary point of L is the one above, and a test holds it.)
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from dyadnet.activation import Activation
from dyadnet.loss import AbstractLoss, Loss, as_loss, held
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.state import AbstractMovable, AbstractState, Neuron, States
from dyadnet.relax.propagate import chain, propagate
from dyadnet.relax.schedule import AbstractSchedule, Sweeps
from dyadnet.rule.base import AbstractRule, Estimate


@final
@dataclass(frozen=True, eq=False)
class Held(AbstractMovable):
    """A layer as plain tensors: its activity `s_k` and its error `delta_k` (None for zero).

    Attributes:
        s, delta: the two, which a relaxation moves.
        multiplier: `lambda_k`, where the error comes from one.
    """

    s: Tensor
    delta: Tensor | None
    multiplier: Tensor | None = None

    def mean(self) -> Tensor:
        """Return `s_k`."""
        return self.s

    def error(self) -> Tensor | None:
        """Return `delta_k`."""
        return self.delta

    def parts(self) -> tuple[Tensor, ...]:
        """Return what there is."""
        return (self.s,) if self.delta is None else (self.s, self.delta)

    def of_parts(self, parts: Sequence[Tensor]) -> "Held":
        """Return another layer."""
        return Held(parts[0], parts[1] if len(parts) > 1 else None)

    def units(self) -> Sequence[Tensor | float]:
        """Return 1 for the activity, and the largest error of the batch for errors."""
        if self.delta is None:
            return [1.0]
        return [1.0, self.delta.abs().max().clamp(min=torch.finfo(self.delta.dtype).tiny)]


def multiplied(activations: Sequence[Activation], loss: AbstractLoss, x: Tensor, y: Tensor) -> Neuron:
    """Return what layers with multipliers make of their messages; the loss adds its gradient to that of the output."""
    rows = held(loss, y)

    def neuron(k: int, drive: Tensor, multiplier: Tensor | None, before: AbstractState | None) -> AbstractState:
        activation = activations[k - 1]
        s = activation.f(drive)
        if k == len(activations):
            own = loss.gradient(s, rows(s)) / len(x)
            multiplier = own if multiplier is None else multiplier + own
        if multiplier is None or activation.linear:
            return Held(s, multiplier, multiplier)
        return Held(s, activation.derivative(drive, s) * multiplier, multiplier)

    return neuron


@final
@dataclass(frozen=True)
class Lagrangian(AbstractRule):
    """The exact gradient again, by block updates of states and multipliers in the order of `schedule`.

    Every layer needs to be visited once upwards and once downwards, in any interleaving: a random order reaches the
    same gradient, it only takes longer.

    Args:
        schedule: the order of updates; one forward and one backward sweep is backpropagation.
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
        """Propagate activities up and multipliers down."""
        net, loss = chain(net), as_loss(loss)
        neuron = multiplied(net.activations, loss, x, y)
        reached = propagate(net, x, neuron, self.schedule, states=states, generator=generator, keep_states=keep_states)
        output = reached.output
        return Estimate(
            loss(output, y).mean(), output, reached.grads, reached.states, passes=self.schedule.count(len(net.stages))
        )
