"""Dual propagation: dyadic neurons carry activity in the mean of two states and the error in their difference.

With `mean_k = alpha s_k^+ + (1 - alpha) s_k^-` and `Delta_k = s_k^+ - s_k^-`, layer k receives the drive
`a_k = map_k(mean_{k-1})` and the feedback `J_{k+1}^T Delta_{k+1}`, and settles at

    s_k^+ = f( a_k + w_plus  J_{k+1}^T Delta_{k+1} )            s_L^+ = a_L - w_plus  beta l'(p)
    s_k^- = f( a_k - w_minus J_{k+1}^T Delta_{k+1} )            s_L^- = a_L + w_minus beta l'(p)

    transposed   w_plus = 1 - alpha,  w_minus = alpha        (paper D, from the Lagrangian; thesis section 5.4)
    original     w_plus = alpha,      w_minus = 1 - alpha    (paper C, saddle point of thesis eq. 4.3 / 4.7)
    stabilised   original, with  s <- f( (a +- w J^T Delta + L f^{-1}(s)) / (1 + L) )    (paper D, appendix D)

The weights learn from  -(1/beta) Delta_k mean_{k-1}^T,  the mean taken where it last travelled up. To first order in
the difference, the mean of the transposed form does not depend on the error for any alpha; that of the original form
only for alpha = 1/2. At alpha 0 and 1 the transposed mean is exactly the free activity: one sweep is the fixed point.

In the code, the feedback `b_k` is in units of the gradient: `J^T Delta = -scale b` with `scale = beta * batch`, so that
the output layer is a layer like the others whose feedback is the gradient of the mean loss.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, final

import torch
from torch import Tensor

from dyadnet.activation import Activation
from dyadnet.bounds import bounded, positive
from dyadnet.loss import AbstractLoss, Loss, as_loss, held
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.layered import Layered
from dyadnet.network.state import AbstractMovable, AbstractState, Neuron, Pair, States
from dyadnet.relax.propagate import chain, propagate
from dyadnet.relax.schedule import AbstractSchedule, Sweeps
from dyadnet.relax.spectral import spectral_norms
from dyadnet.rule.base import AbstractRule, Estimate


@final
@dataclass(frozen=True)
class Split:
    """How a dyad splits: the share `alpha` of `s^+` in the mean, and the strengths that push the two states apart."""

    alpha: float
    plus: float
    minus: float
    scale: float


@final
@dataclass(frozen=True, eq=False)
class Dyad(AbstractMovable):
    """A layer of two-state neurons.

    Attributes:
        drives: what drives `s^+` and `s^-` without feedback; the same tensor twice but for exact or stabilised steps.
        feedback: `b_k` in units of the gradient, or None for none.
        split: how the two states divide it.
        activation: the neurons' `f`.
    """

    drives: tuple[Tensor, Tensor]
    feedback: Tensor | None
    split: Split
    activation: Activation

    def plus(self) -> Tensor:
        """Return `s^+`."""
        return self._state(self.drives[0], -self.split.plus)

    def minus(self) -> Tensor:
        """Return `s^-`."""
        return self._state(self.drives[1], self.split.minus)

    def mean(self) -> Tensor:
        """Return `alpha s^+ + (1 - alpha) s^-`."""
        alpha = self.split.alpha
        if self._unperturbed() or alpha == 0:
            return self.minus()
        return self.plus() if alpha == 1 else torch.lerp(self.minus(), self.plus(), alpha)

    def parts(self) -> tuple[Tensor, ...]:
        """Return `s^+` and `s^-`."""
        return self.plus(), self.minus()

    def of_parts(self, parts: Sequence[Tensor]) -> Pair:
        """Return two plain states."""
        return Pair(parts[0], parts[1], self.split.scale, self.split.alpha)

    def delta(self) -> Tensor:
        """Return `Delta = s^+ - s^-`."""
        return self.plus() - self.minus()

    def error(self) -> Tensor | None:
        """Return `-Delta / scale`, the error in units of the gradient."""
        if self._unperturbed():
            return None
        plus, minus = self.plus(), self.minus()
        if plus is self.drives[0]:  # a linear neuron that is not pushed: its state is its drive, not to be overwritten
            return (minus - plus).div_(self.split.scale)
        return plus.sub_(minus).div_(-self.split.scale)

    def straddling(self) -> Tensor:
        """Return the share of units whose two states lie on different sides of a kink of `f`, a scalar."""
        plus, minus = self._drive(self.drives[0], -self.split.plus), self._drive(self.drives[1], self.split.minus)
        apart = torch.zeros_like(plus, dtype=torch.bool)
        for kink in self.activation.kinks:
            apart |= (plus > kink) != (minus > kink)
        return apart.double().mean()

    def _unperturbed(self) -> bool:
        return self.feedback is None and self.drives[0] is self.drives[1]

    def _drive(self, drive: Tensor, strength: float) -> Tensor:
        return drive if self.feedback is None or strength == 0 else torch.add(drive, self.feedback, alpha=strength)

    def _state(self, drive: Tensor, strength: float) -> Tensor:
        driven = self._drive(drive, strength)
        return self.activation.f(driven) if driven is drive else self.activation.f_(driven)


@final
@dataclass(frozen=True)
class DualPropagation(AbstractRule):
    """Gradients from the differences of dyadic neurons; derivatives of the activations are never needed.

    The error of the estimate falls as `beta^2` at `alpha = 1/2` and as `beta` at 0 and 1.

    Args:
        beta: nudging strength a sample, positive; measured against the pre-activations of the output layer.
        alpha: asymmetry in [0, 1].
        variant: `transposed` (the default), `original` or `stabilised`, as at the head of this file; the latter damps
            every update and needs a schedule of many passes.
        output: where the loss gradient that nudges the output is taken: at the drive `a_L` (`linear`), at each of the
            two states (`sprovr`, the saddle-point relaxation: the proximal step), or at their mean (`arovr`, the
            adversarial relaxation).
        schedule: the order of updates; one forward and one backward sweep by default.

    Raises:
        ValueError: for `beta` or `alpha` out of range; in `estimate`, for a `beta` beyond the bound of an exact step.

    >>> from dyadnet import Layered, squared_error
    >>> net = Layered.from_sequential(torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False)))
    >>> weight = net.stages[0].map.weight
    >>> _ = torch.nn.init.constant_(weight, 2.0)
    >>> x, y = torch.tensor([[3.0]]), torch.tensor([[5.0]])
    >>> step = DualPropagation(beta=0.5).estimate(net, squared_error, x, y)
    >>> step.states[0].plus(), step.states[0].minus(), step.grads[weight]     # 6 -+ (0.5/2) (6 - 5)
    (tensor([[5.7500]]), tensor([[6.2500]]), tensor([[3.]]))

    Not for recurrent networks (`lam` other than 1/2): that is dyadic learning. With `original` and `alpha` other than
    1/2, or several sweeps and large weights, the fixed point may not attract (thesis section 5.4).
    """

    beta: float = 0.1
    alpha: float = 0.5
    variant: Literal["transposed", "original", "stabilised"] = "transposed"
    output: Literal["linear", "sprovr", "arovr"] = "linear"
    schedule: AbstractSchedule = field(default_factory=Sweeps)

    def __post_init__(self) -> None:
        positive(beta=self.beta)
        bounded("", 0, 1, alpha=self.alpha)
        if self.variant not in ("transposed", "original", "stabilised"):
            raise ValueError(f"variant must be transposed, original or stabilised, not {self.variant!r}")
        if self.output not in ("linear", "sprovr", "arovr"):
            raise ValueError(f"output must be linear, sprovr or arovr, not {self.output!r}")

    def split(self, batch: int) -> Split:
        """Return the weights of the two states for a batch of that size."""
        plus, minus = self.alpha, 1 - self.alpha
        if self.variant == "transposed":
            plus, minus = minus, plus
        scale = self.beta * batch
        return Split(self.alpha, plus * scale, minus * scale, scale)

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
        """Propagate means up and differences down; states are `Dyad`s."""
        net, loss = chain(net), as_loss(loss)
        reached = propagate(
            net,
            x,
            self._neuron(net, loss, x, y, generator),
            self.schedule,
            states=states,
            generator=generator,
            keep_states=keep_states,
        )
        output = reached.output
        passes = self.schedule.count(len(net.activations))
        return Estimate(loss(output, y).mean(), output, reached.grads, reached.states, passes)

    def _neuron(
        self, net: Layered, loss: AbstractLoss, x: Tensor, y: Tensor, generator: torch.Generator | None
    ) -> Neuron:
        """Return what each layer does with its messages."""
        depth, split, rows = len(net.stages), self.split(len(x)), held(loss, y)
        damping = self._damping(net, x, generator) if self.variant == "stabilised" else {}

        def neuron(k: int, drive: Tensor, feedback: Tensor | None, before: AbstractState | None) -> AbstractState:
            activation = net.stages[k - 1].activation
            if k == depth:
                return self._nudged(loss, drive, rows(drive), split, activation)
            if damping and isinstance(before, Dyad) and activation.inverse is not None:
                gain = damping[k]
                old = (activation.inverse(before.plus()), activation.inverse(before.minus()))
                drives = ((drive + gain * old[0]) / (1 + gain), (drive + gain * old[1]) / (1 + gain))
                return Dyad(drives, None if feedback is None else feedback / (1 + gain), split, activation)
            return Dyad((drive, drive), feedback, split, activation)

        return neuron

    def _nudged(self, loss: AbstractLoss, a: Tensor, y: Tensor, split: Split, activation: Activation) -> Dyad:
        """Return the output layer."""
        batch = split.scale / self.beta
        plus, minus = loss.applied(split.plus / batch), -loss.applied(-split.minus / batch)
        assert not isinstance(plus, Tensor)
        assert not isinstance(minus, Tensor)
        split = Split(split.alpha, plus * batch, minus * batch, split.scale)
        if self.output == "sprovr":
            return Dyad((loss.proximal(a, y, plus), loss.proximal(a, y, -minus)), None, split, activation)
        shift = self.alpha * plus - (1 - self.alpha) * minus
        point = loss.proximal(a, y, shift) if self.output == "arovr" and shift != 0 else a
        return Dyad((a, a), loss.gradient(point, y) / batch, split, activation)

    def _damping(self, net: Layered, x: Tensor, generator: torch.Generator | None) -> dict[int, Tensor]:
        """Return `L_k = |1 - 2 alpha| max(0, |W_{k+1}|^2 - 1) / 2` for each hidden layer, a value a sample."""
        for stage in net.stages[:-1]:
            if not stage.activation.monotone:
                raise ValueError(
                    f"the stabilised variant needs monotone activations, but {stage.name} has {stage.activation.name}"
                )
        if self.alpha == 0.5:
            return {}
        net.check_steady()
        norms = spectral_norms(net, x, lowest=2, generator=generator)
        skewed = abs(1 - 2 * self.alpha) / 2
        return {k: skewed * (norm.square() - 1).clamp(min=0) for k, norm in enumerate(norms, 1)}
