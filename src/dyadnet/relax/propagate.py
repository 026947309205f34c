"""Message passing in a chain: means travel up through the maps, errors travel down through their transposes.

A rule says what a layer does with the messages that reach it (its neuron), a schedule says when. A visit of layer k
reads

    drive     a_k = map_k(mean_{k-1})
    feedback  b_k = J_{k+1}^T error_{k+1}          J_{k+1}: the derivative of map_{k+1} where its mean last travelled up

and leaves a new state. Errors are in units of the gradient of the batch's mean loss, so that stage k learns with

    d loss / d theta_k = gradient of  sum(map_k(mean_{k-1}) * error_k)  in theta_k .

Backpropagation, its Lagrangian form, dual propagation and feedback alignment differ in the neuron alone.
"""

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dyadnet.network.layered import Layered
from dyadnet.network.linearise import AbstractLinearisation, Gradients, merge
from dyadnet.relax.schedule import AbstractSchedule


class AbstractState(abc.ABC):
    """The state of one layer: what it tells the layer above and the layer below."""

    @abc.abstractmethod
    def mean(self) -> Tensor:
        """Return the activity that travels up, `(batch, ...)`."""

    @abc.abstractmethod
    def error(self) -> Tensor | None:
        """Return the error that travels down, of the same shape; None stands for zero."""


States = Sequence[AbstractState]
Neuron = Callable[[int, Tensor, Tensor | None, AbstractState | None], AbstractState]
"""`(layer, drive, feedback, state before) -> state`; the feedback of the output layer is None."""


@dataclass(frozen=True)
class Rest(AbstractState):
    """A layer that has not been visited yet: its neurons are silent."""

    zero: Tensor

    def mean(self) -> Tensor:
        """Return zeros."""
        return self.zero

    def error(self) -> None:
        """Return None: no error."""


@dataclass(frozen=True)
class Propagated:
    """What message passing reached: the drive of the output layer, the local gradients, and the states (if kept)."""

    output: Tensor
    grads: Gradients
    states: States | None


def at_rest(net: Layered, x: Tensor) -> States:
    """Return silent states of the right shapes."""
    states: list[AbstractState] = []
    with torch.no_grad():
        for stage in net.stages:
            x = stage.activation.f(stage.map(x))
            states.append(Rest(torch.zeros_like(x)))
    return states


class _Chain:
    """The messages under way in one call of `propagate`; layers count from 1, the input is 0."""

    def __init__(self, net: Layered, x: Tensor, states: States | None) -> None:
        self.net, self.depth = net, len(net.stages)
        self.states: dict[int, AbstractState] = {0: Rest(x)} | dict(enumerate(states or (), 1))
        self.at: dict[int, tuple[AbstractState, AbstractLinearisation]] = {}
        self.arrived: dict[int, Tensor | None] = {self.depth: None}
        self.finished: set[int] = set()
        self.grads: Gradients = {}

    def state(self, k: int) -> AbstractState:
        """The state of layer k; when one is read before its first visit, all unvisited layers are put to rest."""
        if k not in self.states:
            self.states = dict(enumerate(at_rest(self.net, self.states[0].mean()), 1)) | self.states
        return self.states[k]

    def stage(self, k: int, *, renew: bool) -> AbstractLinearisation:
        """Stage k where the mean below last travelled up; with `renew`, where that mean is now."""
        if k not in self.at or (renew and self.at[k][0] is not self.state(k - 1)):
            below = self.state(k - 1)
            self.at[k] = below, self.net.stages[k - 1].linearise(below.mean)
        return self.at[k][1]

    def drive(self, k: int) -> Tensor:
        """The mean below, sent up. States are never of half precision, which would swallow small nudges."""
        value = self.stage(k, renew=True).value
        return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value

    def feedback(self, k: int) -> Tensor | None:
        """The error above, sent down."""
        if k in self.arrived:
            return self.arrived[k]
        error = self.states[k + 1].error() if k + 1 in self.states else None
        return None if error is None else self.stage(k + 1, renew=False).feedback(error)

    def finish(self, k: int, *, keep: bool) -> None:
        """Layer k will not change again: free what nothing reads any more, send its error down, let its stage learn."""
        error, at = self.state(k).error(), self.at.pop(k, None)
        self.arrived.pop(k, None)
        self.finished.add(k)
        if not keep and (k == self.depth or k + 1 in self.finished):
            del self.states[k]
        if error is not None and at is not None:
            self.arrived[k - 1], grads = at[1].pull(error, down=k > 1)
            merge(self.grads, grads)


@torch.no_grad()
def propagate(
    net: Layered,
    x: Tensor,
    neuron: Neuron,
    schedule: AbstractSchedule,
    *,
    states: States | None = None,
    generator: torch.Generator | None = None,
    keep_states: bool = True,
) -> Propagated:
    """Pass messages until the schedule ends.

    Args:
        net: the chain of stages.
        x: inputs `(batch, ...)`.
        neuron: what a layer makes of its messages.
        schedule: the order of visits.
        states: where to start, one state a layer; None starts from silence.
        generator: the source of random orders.
        keep_states: whether to return the states reached; memory is lower without them.

    Raises:
        ValueError: if the schedule visits a map again that changes between visits (dropout, batch statistics), or
            does not suit the depth, or the states given do not suit the network or the batch.
    """
    chain = _Chain(net, x, states)
    order = list(schedule.order(chain.depth, generator))
    _check(net, x, states, order)
    last = {k: i for i, group in enumerate(order) for k in group}
    output = None
    for i, group in enumerate(order):
        messages = {k: (chain.drive(k), chain.feedback(k)) for k in group}
        output = messages[chain.depth][0] if chain.depth in messages else output
        for k in group:  # messages are popped: a state holds on to what it needs of them
            chain.states[k] = neuron(k, *messages.pop(k), chain.states.get(k))
        for k in sorted(group, reverse=True):
            if last[k] == i:
                chain.finish(k, keep=keep_states)
    silent = [p for stage in net.stages for p in stage.parameters() if p not in chain.grads]
    chain.grads |= {parameter: torch.zeros_like(parameter) for parameter in silent}
    reached = [chain.state(k) for k in range(1, chain.depth + 1)] if keep_states else None
    return Propagated(chain.drive(chain.depth) if output is None else output, chain.grads, reached)


def _check(net: Layered, x: Tensor, states: States | None, order: Sequence[tuple[int, ...]]) -> None:
    """Refuse what the messages could not mean."""
    changing = net.changing() if _evaluates_again(order, warm=states is not None) else []
    if changing:
        raise ValueError(
            f"{changing[0]} gives another map at every visit while training: use a schedule of one sweep, or put the "
            "network into eval mode"
        )
    if states is not None and len(states) != len(net.stages):
        raise ValueError(f"{len(states)} states were given for a network of {len(net.stages)} stages")
    if states is not None and states[-1].mean().shape[0] != x.shape[0]:
        raise ValueError(f"the states given belong to a batch of {states[-1].mean().shape[0]}, not of {x.shape[0]}")


def _evaluates_again(order: Sequence[tuple[int, ...]], *, warm: bool) -> bool:
    """Whether some map would be evaluated at two different means below it.

    A visit of layer k evaluates its map if the mean below has changed since; from given states, it may first read what
    the layer above sends down, which evaluates that layer's map.
    """
    changes: dict[int, int] = {}
    evaluated: dict[int, int] = {}
    for group in order:
        for k in group:
            if warm:
                evaluated.setdefault(k + 1, changes.get(k, 0))
            if evaluated.setdefault(k, changes.get(k - 1, 0)) != changes.get(k - 1, 0):
                return True
        for k in group:
            changes[k] = changes.get(k, 0) + 1
    return False
