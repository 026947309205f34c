"""How the layers of a network hear one another, for one batch: means through the weights, errors through the transpose.

A network is an operator `theta` between its layers and a feedback gain `c = 2 lam - 1`, so that `W = theta + c theta^T`
(thesis, end of section 4.2). Layer k hears

    drive     u_k = (W mean + b)_k       =  map_k(mean_{k-1}) + c J_{k+1}^T mean_{k+1}
    feedback  v_k = (W^T error)_k        =  J_{k+1}^T error_{k+1} + c J_k error_{k-1}

(the right sides for a chain, with `J_k` the derivative of `map_k` where its mean last travelled up), and the weights
learn

    d loss / d theta  =  d/d theta  [ <theta mean, error> + c <theta error, mean> ] .
"""

import abc
from math import sqrt
from typing import TypeVar, final

import torch
from torch import Tensor

from dyadnet.network.feedback import AbstractFeedback, Straight
from dyadnet.network.linearisation import NO_DETOURS, AbstractLinearisation, Gradients, merge
from dyadnet.network.stage import Stage
from dyadnet.network.state import AbstractState, Activity, States
from dyadnet.network.substrate import AbstractSubstrate
from dyadnet.relax.lanczos import norm_from_below
from dyadnet.relax.schedule import AbstractSchedule, BottomUp, OddEven, Parallel


class AbstractWiring(abc.ABC):
    """The messages under way in one batch, and what the parameters learn from them.

    Attributes:
        depth: the number of layers; they count from 1, and the last one is the output.
        states: the states of the layers that have been visited; 0 is the input.
        substrate: what the units are made of; None stands for what is perfect.
    """

    depth: int
    states: dict[int, AbstractState]
    substrate: AbstractSubstrate | None = None

    @abc.abstractmethod
    def drive(self, k: int) -> Tensor:
        """Return what the means of the other layers send to layer k."""

    def share_of_others(self, k: int) -> Tensor | None:
        """Return the share of their drive that units of layer k hear, `(units,)`; the rest is where they are.

        None stands for all of it: only where a visit goes a step towards its update is there a rest.
        """
        return None

    @final
    def received(self, k: int) -> Tensor:
        """Return what the units of layer k make of their drive; where they are does not reach them from outside."""
        drive = self.drive(k)
        if self.substrate is None:
            return drive
        share = self.share_of_others(k)
        if share is None:
            return self.substrate.received(k, drive)
        here = self.state(k).mean()
        return here + share * (self.substrate.received(k, here + (drive - here) / share) - here)

    @final
    def put(self, k: int, new: AbstractState, factor: float = 1.0) -> None:
        """Let the units of layer k end up in a new state, towards which they went a share `factor` of the way."""
        self.states[k] = new if self.substrate is None else self.substrate.moved(k, new, factor)

    @abc.abstractmethod
    def feedback(self, k: int) -> Tensor | None:
        """Return what the errors of the other layers send to layer k; None stands for zero.

        To the inputs, layer 0, they send the gradient of the loss in them.
        """

    @abc.abstractmethod
    def state(self, k: int) -> AbstractState:
        """Return the state of layer k, silent if it has not been visited."""

    @abc.abstractmethod
    def gradients(self) -> Gradients:
        """Return the gradient of the loss as the errors tell it, for every parameter."""

    @abc.abstractmethod
    def best_factor(self, schedule: AbstractSchedule, iterations: int, margin: float) -> float:
        """Return how far updates should go for the states to settle fastest.

        Args:
            schedule: the order of updates.
            iterations: of Lanczos iteration for the norm of the coupling.
            margin: by which the norm is taken larger than found.
        """

    @abc.abstractmethod
    def again(self, states: States, copies: int = 1) -> "AbstractWiring":
        """Return the wiring of the same inputs and other states; what the inputs send is not computed again.

        Args:
            states: one a layer.
            copies: how many copies of the batch they hold.
        """

    @final
    def read(self) -> "AbstractWiring":
        """Return the wiring of what a measurement says of the states: what the weights learn from."""
        if self.substrate is None:
            return self
        states = [self.substrate.read(k, self.state(k)) for k in range(1, self.depth + 1)]
        return self.again(states, len(states[0].mean()) // len(self.states[0].mean()))


_Wiring = TypeVar("_Wiring", bound=AbstractWiring)


def over(substrate: AbstractSubstrate | None, wiring: _Wiring) -> _Wiring:
    """Return `wiring`, its units made of `substrate`."""
    wiring.substrate = substrate
    return wiring


class AbstractCoupling(AbstractWiring):
    """The wiring of layers that hear `W mean + b`, with `W = theta + c theta^T`."""

    @abc.abstractmethod
    def couple(self, k: int, vectors: dict[int, Tensor], up: float, down: float) -> Tensor | None:
        """Return `((up theta + down theta^T) v)_k` for one vector a layer; missing ones and None stand for zero.

        `W v` is `couple(up=1, down=c)`, `W^T v` is `couple(up=c, down=1)`.
        """

    @abc.abstractmethod
    def sent(self, k: int) -> Tensor:
        """Return `(theta mean + b)_k`, the part of the drive that does not pass through `theta^T`."""

    @abc.abstractmethod
    def learn(self, deltas: dict[int, Tensor]) -> Gradients:
        """Return the gradient of `sum_k <(theta mean + b)_k, delta_k>` (its real part) in every parameter."""

    @abc.abstractmethod
    def discount(self, k: int) -> float:
        """Return the weight of layer k in the Hopfield energy."""

    @abc.abstractmethod
    def probe(self) -> "AbstractCoupling":
        """Return the wiring of the first sample alone, with layers at some activity."""


@final
class ChainWiring(AbstractCoupling):
    """The wiring of a chain of stages.

    Args:
        stages: from the bottom up.
        gain: the feedback gain `c`.
        x: inputs `(batch, ...)`.
        states: the states that layers are in; others have not been visited.
        copies: how many copies of the batch the states hold one after another, all with the same input.
        path: the feedback weights that stand in for the transposes; None for none.
    """

    def __init__(
        self,
        stages: tuple[Stage, ...],
        gain: float,
        x: Tensor,
        states: dict[int, AbstractState],
        copies: int = 1,
        path: AbstractFeedback | None = None,
    ) -> None:
        self.stages, self.gain, self.depth, self.copies, self.path = stages, gain, len(stages), copies, path
        self.detours = NO_DETOURS if path is None else path.detours()
        self.states = {0: Activity(x)} | states
        self.at: dict[int, tuple[AbstractState, AbstractLinearisation]] = {}
        self.values: dict[int, tuple[AbstractState, Tensor]] = {}

    def again(self, states: States, copies: int = 1) -> "ChainWiring":
        """Return the wiring of the same inputs and other states."""
        inputs = self.states[0]
        held = {0: inputs} | dict(enumerate(states, 1))
        other = over(self.substrate, ChainWiring(self.stages, self.gain, inputs.mean(), held, copies, self.path))
        other.values[1] = inputs, _repeat(self.sent(1)[: len(inputs.mean())], copies)
        other.at = {k: held for k, held in self.at.items() if held[1].affine or k == 1}
        return other

    def state(self, k: int) -> AbstractState:
        """Return the state of layer k; when one is read before its first visit, all unvisited layers are silent."""
        if k not in self.states:
            self.states = self.silent() | self.states
        return self.states[k]

    def silent(self) -> dict[int, AbstractState]:
        """Return silent states of the right shapes."""
        states: dict[int, AbstractState] = {}
        s = self.sent(1)
        for k, stage in enumerate(self.stages, 1):
            s = stage.activation.f(s if k == 1 else stage.map(s))
            states[k] = Activity(torch.zeros_like(s))
        return states

    def stage(self, k: int, *, renew: bool) -> AbstractLinearisation:
        """Return stage k where the mean below last travelled up; with `renew`, where that mean is now."""
        held = self.at.get(k)
        if held is not None and (not renew or held[0] is self.states.get(k - 1)):
            return held[1]
        below = self.state(k - 1)
        point = below.mean if _imaginary(below) is None else lambda: below.mean().real
        at = self.stages[k - 1].linearise(point, self.detours)
        self.at[k] = below, at
        self.values.pop(k, None)
        return at

    def drive(self, k: int) -> Tensor:
        """Return `u_k`."""
        value, above = self.sent(k), self.states.get(k + 1)
        if self.gain == 0 or above is None:
            return value
        return self._down(k + 1, above.mean(), value, self.gain)

    def sent(self, k: int) -> Tensor:
        """Return `map_k(mean_{k-1})`."""
        below, held = self.states.get(k - 1), self.values.get(k)
        if held is not None and held[0] is below:
            return held[1]
        at = self.at.get(k)
        if at is not None and at[1].affine and self.gain and below is not None and k > 1:  # with loops, visits are many
            value = self._sent_again(at[1], below.mean())
        else:
            value = self._sent(k)
        self.values[k] = self.states[k - 1], value
        return value

    def _sent(self, k: int) -> Tensor:
        """The value of map k where the mean below is now."""
        at = self.stage(k, renew=True)
        value = at.value
        value = value.float() if value.dtype in _HALF else value  # half would swallow small nudges
        imaginary = _imaginary(self.states[k - 1])
        value = value if imaginary is None else torch.complex(value, at.push(imaginary))
        return _repeat(value, self.copies) if k == 1 else value

    def _sent_again(self, at: AbstractLinearisation, below: Tensor) -> Tensor:
        """The value of an affine map at another state than the one where it is held."""
        return torch.complex(at.send(below.real), at.push(below.imag)) if below.is_complex() else at.send(below)

    def discount(self, k: int) -> float:
        """Return `c^(k - L)`."""
        return self.gain ** (k - self.depth)

    def feedback(self, k: int) -> Tensor | None:
        """Return `v_k`; errors that go straight from the output to layer k are all that it hears."""
        if isinstance(self.path, Straight):
            output = self.states.get(self.depth) if k < self.depth else None
            error = None if output is None else output.error()
            return None if error is None else self.path.send(k, error)
        errors: dict[int, Tensor] = {}
        for j in (k - 1, k + 1) if self.gain else (k + 1,):
            state = self.states.get(j)
            error = None if state is None else state.error()
            if error is not None:
                errors[j] = error
        return self.couple(k, errors, self.gain, 1.0) if errors else None

    def couple(self, k: int, vectors: dict[int, Tensor], up: float, down: float) -> Tensor | None:
        """Return `up J_k v_{k-1} + down J_{k+1}^T v_{k+1}`."""
        sent = self._down(k + 1, vectors[k + 1]) if k + 1 in vectors and down else None
        if sent is not None and down != 1:
            sent = sent * down
        if k - 1 not in vectors or not up:
            return sent
        pushed = self.stage(k, renew=False).push(vectors[k - 1])
        return up * pushed if sent is None else torch.add(sent, pushed, alpha=up)

    def _down(self, k: int, above: Tensor, onto: Tensor | None = None, gain: float = 1.0) -> Tensor:
        """Send something of layer k down through the transpose, which is linear, and add it to something there."""
        at = self.stage(k, renew=False)
        if not above.is_complex():
            return at.feedback(above, onto, gain)
        down = torch.complex(at.feedback(above.real), at.feedback(above.imag))
        return down if onto is None else torch.add(onto, down, alpha=gain)

    def finish(self, k: int, *, forget: bool = False) -> tuple[dict[int, Tensor | None], Gradients]:
        """Return what layer k sends to layers below for good, and what its stage learns: it will not change again.

        Args:
            k: the layer.
            forget: whether its state goes as well.
        """
        below, at = self.at.pop(k, (None, None))
        self.values.pop(k, None)
        error, read = self.state(k).error(), None if self.substrate is None else self.state(k)
        if forget:
            del self.states[k]  # nothing else may hold it while its error, no smaller than its parts, travels down
        straight = self.path if isinstance(self.path, Straight) else None
        if error is None or at is None:
            return {} if straight else {k - 1: None}, {}
        sent, grads = at.pull(error, down=k > 1 and straight is None)
        if read is not None:
            grads = self._learn_read(k, below, read)
        if straight is None:
            return {k - 1: sent}, grads
        return {j: straight.send(j, error) for j in range(1, k)} if k == self.depth else {}, grads

    def _learn_read(self, k: int, below: AbstractState | None, state: AbstractState) -> Gradients:
        """What stage k learns from readings of its error, and of the mean below where it last travelled up."""
        assert self.substrate is not None
        assert below is not None
        mean, error = (
            (self.substrate.read(k - 1, below) if k > 1 else below).mean(),
            self.substrate.read(k, state).error(),
        )
        assert error is not None
        return self.stages[k - 1].linearise(lambda: mean, self.detours).pull(error, down=False)[1]

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
        for stage in self.stages:  # what no error has reached yet learns nothing
            for parameter in stage.parameters():
                grads.setdefault(parameter, torch.zeros_like(parameter))
        return grads

    def best_factor(self, schedule: AbstractSchedule, iterations: int, margin: float) -> float:
        """Return the optimal factor of odd-even updates, or a safe one of other orders.

        The layers of a chain fall into odd and even ones that only hear each other. With `sigma` the norm of the
        coupling between the two groups times the activations' slope, it is

            a* = 2 / (1 + sqrt(1 - c sigma^2)),      rate |1 - a*|       (Young; for c < 0 Niethammer)

        for odd-even and upward passes. For `c < 0` it damps: without it the updates diverge as soon as `|c| sigma^2 >
        1`, although the equilibrium is unique. For `c >= 0` updates of one layer after another descend an energy, and 1
        is kept. Simultaneous updates have the eigenvalues `1 - a +- a sqrt(c) sigma`: `1 / (1 - c sigma^2)` is best for
        `c < 0`, and up to `2 / (1 + sqrt(c) sigma)` they descend for `c > 0`.
        """
        if self.gain == 0 or (self.gain > 0 and not isinstance(schedule, Parallel)):
            return 1.0
        slope = max(stage.activation.slope for stage in self.stages)
        coupling = self.gain * (margin * slope * self.coupling_norm(iterations)) ** 2
        if self.gain > 0:
            return min(1.0, 2 / (1 + sqrt(coupling)))
        in_turn = isinstance(schedule, OddEven | BottomUp)
        return 2 / (1 + sqrt(1 - coupling)) if in_turn else 1 / (1 - coupling)

    def coupling_norm(self, iterations: int) -> float:
        """Return the norm of the coupling between odd and even layers, from below, by Lanczos at one sample."""
        probe, generator = self.probe(), torch.Generator().manual_seed(0)
        odd = {k: state.mean() for k, state in probe.states.items() if k % 2}
        even = range(2, self.depth + 1, 2)

        def gram(v: Tensor) -> Tensor:
            parts = v.split([s.numel() for s in odd.values()])
            vectors = {k: part.view_as(s) for (k, s), part in zip(odd.items(), parts, strict=True)}
            up = {k: sent for k in even if (sent := probe.couple(k, vectors, 1.0, 1.0)) is not None}
            back = {k: sent for k in odd if (sent := probe.couple(k, up, 1.0, 1.0)) is not None}
            return torch.cat([back.get(k, torch.zeros_like(s)).flatten() for k, s in odd.items()])

        start = torch.cat([torch.randn(s.numel(), generator=generator, dtype=s.dtype) for s in odd.values()])
        return norm_from_below(gram, start.to(probe.states[0].mean().device), iterations)

    def probe(self) -> "ChainWiring":
        """Return the wiring of one sample, with its layers at the feedforward activities."""
        probe = ChainWiring(self.stages, self.gain, self.states[0].mean()[:1], {}, path=self.path)
        s = probe.states[0].mean()
        for k, stage in enumerate(self.stages, 1):
            s = stage.activation.f(probe.stage(k, renew=True).value)
            probe.states[k] = Activity(s)
        return probe


_HALF = (torch.float16, torch.bfloat16)


def _repeat(value: Tensor, copies: int) -> Tensor:
    """Copies of a batch, one after another."""
    return value if copies == 1 else value.repeat(copies, *[1] * (value.dim() - 1))


def _imaginary(state: AbstractState) -> Tensor | None:
    """The imaginary part of a complex activity."""
    return state.s.imag if isinstance(state, Activity) and state.s.is_complex() else None
