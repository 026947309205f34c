"""How the layers of a network hear one another, for one batch: means through the weights, errors through the transpose.

A network is an operator `theta` between its layers and a feedback gain `c = 2 lam - 1`, so that `W = theta + c theta^T`
(thesis, end of section 4.2). Layer k hears

    drive     u_k = (W mean + b)_k       =  map_k(mean_{k-1}) + c J_{k+1}^T mean_{k+1}
    feedback  v_k = (W^T error)_k        =  J_{k+1}^T error_{k+1} + c J_k error_{k-1}

(the right sides for a chain, with `J_k` the derivative of `map_k` where its mean last travelled up), and the weights learn

    d loss / d theta  =  d/d theta  [ <theta mean, error> + c <theta error, mean> ] .
"""

import abc
from math import sqrt
from typing import final

import torch
from torch import Tensor

from dyadnet.network.linearise import AbstractLinearisation, Gradients, merge
from dyadnet.network.stage import Stage
from dyadnet.network.state import AbstractState, Activity


class AbstractWiring(abc.ABC):
    """The messages under way in one batch.

    Attributes:
        depth: the number of layers; they count from 1, and the last one is the output.
        states: the states of the layers that have been visited; 0 is the input.
    """

    depth: int
    states: dict[int, AbstractState]

    @abc.abstractmethod
    def drive(self, k: int) -> Tensor:
        """Return what the means of the other layers send to layer k."""

    @abc.abstractmethod
    def feedback(self, k: int) -> Tensor | None:
        """Return what the errors of the other layers send to layer k; None stands for zero."""

    @abc.abstractmethod
    def sent(self, k: int) -> Tensor:
        """Return `(theta mean + b)_k`, the part of the drive that does not pass through `theta^T`."""

    @abc.abstractmethod
    def discount(self, k: int) -> float:
        """Return the weight of layer k in the Hopfield energy."""

    @abc.abstractmethod
    def best_factor(self, iterations: int, margin: float) -> float:
        """Return how far updates should go for the states to settle fastest.

        Args:
            iterations: of power iteration for the norm of the coupling.
            margin: by which the norm is taken larger than found.
        """

    @abc.abstractmethod
    def state(self, k: int) -> AbstractState:
        """Return the state of layer k, silent if it has not been visited."""

    @abc.abstractmethod
    def learn(self, deltas: dict[int, Tensor]) -> Gradients:
        """Return the gradient of `sum_k <(theta mean + b)_k, delta_k>` (its real part) in every parameter."""

    @abc.abstractmethod
    def gradients(self) -> Gradients:
        """Return the gradient of the loss as the errors tell it, for every parameter."""


@final
class ChainWiring(AbstractWiring):
    """The wiring of a chain of stages.

    Args:
        stages: from the bottom up.
        gain: the feedback gain `c`.
        x: inputs `(batch, ...)`.
        states: the states that layers are in; others have not been visited.
        copies: how many copies of the batch the states hold one after another, all with the same input.
    """

    def __init__(
        self, stages: tuple[Stage, ...], gain: float, x: Tensor, states: dict[int, AbstractState], copies: int = 1
    ) -> None:
        self.stages, self.gain, self.depth, self.copies = stages, gain, len(stages), copies
        self.states = {0: Activity(x)} | states
        self.at: dict[int, tuple[AbstractState, AbstractLinearisation, Tensor]] = {}

    def state(self, k: int) -> AbstractState:
        """Return the state of layer k; when one is read before its first visit, all unvisited layers are silent."""
        if k not in self.states:
            self.states = self.silent() | self.states
        return self.states[k]

    def silent(self) -> dict[int, AbstractState]:
        """Return silent states of the right shapes."""
        states: dict[int, AbstractState] = {}
        s = self.states[0].mean()
        for k, stage in enumerate(self.stages, 1):
            s = stage.activation.f(stage.map(s))
            states[k] = Activity(_repeat(torch.zeros_like(s), self.copies))
        return states

    def stage(self, k: int, *, renew: bool) -> AbstractLinearisation:
        """Return stage k where the mean below last travelled up; with `renew`, where that mean is now."""
        if k not in self.at or (renew and self.at[k][0] is not self.state(k - 1)):
            below = self.state(k - 1)
            imaginary = _imaginary(below)
            at = self.stages[k - 1].linearise(below.mean if imaginary is None else lambda: below.mean().real)
            value = at.value.float() if at.value.dtype in _HALF else at.value  # half would swallow small nudges
            value = value if imaginary is None else torch.complex(value, at.push(imaginary))
            self.at[k] = below, at, _repeat(value, self.copies) if k == 1 else value
        return self.at[k][1]

    def drive(self, k: int) -> Tensor:
        """Return `u_k`."""
        value = self.sent(k)
        if self.gain == 0 or k == self.depth or k + 1 not in self.states:
            return value
        return torch.add(value, self._down(k + 1, self.states[k + 1].mean()), alpha=self.gain)

    def sent(self, k: int) -> Tensor:
        """Return `map_k(mean_{k-1})`."""
        self.stage(k, renew=True)
        return self.at[k][2]

    def discount(self, k: int) -> float:
        """Return `c^(k - L)`."""
        return self.gain ** (k - self.depth)

    def feedback(self, k: int) -> Tensor | None:
        """Return `v_k`."""
        above = self.states[k + 1].error() if k + 1 in self.states else None
        below = self.states[k - 1].error() if k > 1 and self.gain != 0 and k - 1 in self.states else None
        down = None if above is None else self._down(k + 1, above)
        if below is None:
            return down
        up = self.gain * self.stage(k, renew=False).push(below)
        return up if down is None else down + up

    def _down(self, k: int, above: Tensor) -> Tensor:
        """Send something of layer k down through the transpose, which is linear."""
        at = self.stage(k, renew=False)
        if not above.is_complex():
            return at.feedback(above)
        return torch.complex(at.feedback(above.real), at.feedback(above.imag))

    def finish(self, k: int) -> tuple[Tensor | None, Gradients]:
        """Return the feedback to layer k - 1 and the gradients of stage k, whose messages will not change again."""
        error = self.state(k).error()
        pulled = (None, {}) if error is None else self.stage(k, renew=False).pull(error, down=k > 1)
        self.at.pop(k, None)
        return pulled

    def learn(self, deltas: dict[int, Tensor]) -> Gradients:
        """Return the gradients of `sum_k <map_k(mean_{k-1}), delta_k>`."""
        grads: Gradients = {}
        for k, delta in deltas.items():
            at = self.stage(k, renew=True)
            if k == 1 and self.copies > 1:
                delta = delta.unflatten(0, (self.copies, -1)).sum(0)
            merge(grads, at.pull(delta.real, down=False)[1])
            imaginary = _imaginary(self.state(k - 1))
            if imaginary is not None:
                merge(grads, at.learn_push(imaginary, -delta.imag))
        return grads

    def gradients(self) -> Gradients:
        """Return the gradients of all stages."""
        errors = {k: self.states[k].error() for k in range(1, self.depth + 1)}
        grads = self.learn({k: error for k, error in errors.items() if error is not None})
        for k in range(2, self.depth + 1):
            below = errors[k - 1]
            if below is not None and self.gain != 0:
                merge(grads, self.stage(k, renew=True).learn_push(below, self.gain * self.states[k].mean()))
        return grads

    def best_factor(self, iterations: int, margin: float) -> float:
        """Return the optimal factor of odd-even updates.

        The layers of a chain fall into odd and even ones that only hear each other. With `sigma` the norm of the coupling
        between the two groups times the activations' slope, it is

            a* = 2 / (1 + sqrt(1 - c sigma^2)),      rate |1 - a*|       (Young; for c < 0 Niethammer).

        For `c < 0` it damps: without it the updates diverge as soon as `|c| sigma^2 > 1`, although the equilibrium is
        unique. For `c >= 0` plain odd-even updates descend an energy, and 1 is kept.
        """
        if self.gain >= 0:
            return 1.0
        slope = max(stage.activation.slope for stage in self.stages)
        norm = margin * slope * self.coupling_norm(iterations)
        return 2 / (1 + sqrt(1 - self.gain * norm**2))

    def coupling_norm(self, iterations: int) -> float:
        """Return the norm of the coupling between odd and even layers, from below, by power iteration at one sample."""
        probe = ChainWiring(self.stages, 0.0, self.states[0].mean()[:1].real, {})
        probe.states |= probe.silent()
        at = {k: probe.stage(k, renew=True) for k in range(2, self.depth + 1)}
        generator = torch.Generator().manual_seed(0)
        v = {k: torch.randn(s.mean().shape, generator=generator).to(s.mean()) for k, s in probe.states.items() if k % 2}
        norm = 0.0
        for _ in range(2 * iterations):  # odd to even and back
            size = sqrt(sum(float(part.square().sum()) for part in v.values()))
            if size == 0:
                return 0.0
            v = _exchange(at, {k: part / size for k, part in v.items()}, self.depth)
            norm = sqrt(sum(float(part.square().sum()) for part in v.values()))
        return norm


_HALF = (torch.float16, torch.bfloat16)


def _repeat(value: Tensor, copies: int) -> Tensor:
    """Copies of a batch, one after another."""
    return value if copies == 1 else value.repeat(copies, *[1] * (value.dim() - 1))


def _imaginary(state: AbstractState) -> Tensor | None:
    """The imaginary part of a complex activity."""
    return state.s.imag if isinstance(state, Activity) and state.s.is_complex() else None


def _exchange(at: dict[int, AbstractLinearisation], v: dict[int, Tensor], depth: int) -> dict[int, Tensor]:
    """Send every second layer's vector to its neighbours, through `theta` upwards and `theta^T` downwards."""
    sent: dict[int, Tensor] = {}
    for k, part in v.items():
        if k < depth:
            sent[k + 1] = sent.get(k + 1, 0) + at[k + 1].push(part)
        if k > 1:
            sent[k - 1] = sent.get(k - 1, 0) + at[k].feedback(part)
    return sent
