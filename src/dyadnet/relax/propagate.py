"""Message passing in a chain: means travel up through the maps, errors travel down through their transposes.

A rule says what a layer does with the messages that reach it (its neuron), a schedule says when. A visit of layer k
reads

    drive     a_k = map_k(mean_{k-1})
    feedback  b_k = J_{k+1}^T error_{k+1}          J_{k+1}: the derivative of map_{k+1} where its mean last travelled up

and leaves a new state. Errors are in units of the gradient of the batch's mean loss, so that stage k learns with

    d loss / d theta_k = gradient of  sum(map_k(mean_{k-1}) * error_k)  in theta_k .

Backpropagation, its Lagrangian form, dual propagation and feedback alignment differ in the neuron alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dyadnet.network.base import AbstractHopfield, AbstractNetwork
from dyadnet.network.layered import Layered
from dyadnet.network.linearisation import Gradients, merge
from dyadnet.network.state import Neuron, States
from dyadnet.relax.schedule import AbstractSchedule


@dataclass(frozen=True)
class Propagated:
    """What message passing reached: the network's prediction, the local gradients, and the states (if kept)."""

    output: Tensor
    grads: Gradients
    states: States | None


def chain(net: AbstractNetwork) -> Layered:
    """Return a network that is a feedforward chain.

    Raises:
        ValueError: if it is not: it needs a rule that relaxes.
    """
    if isinstance(net, Layered) and net.gain == 0:
        return net
    if not isinstance(net, AbstractHopfield):
        raise ValueError(f"this rule is for feedforward chains: {net.energy_missing()}")
    kind = f"layered network of lam={net.lam:g}" if isinstance(net, Layered) else "densely connected network"
    raise ValueError(
        f"a {kind} has loops, and this rule is for feedforward chains: use Dyadic or RecurrentBackprop, or lam=0.5"
    )


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
    """Pass messages through a feedforward chain until the schedule ends.

    Args:
        net: the chain of stages, `lam = 1/2`.
        x: inputs `(batch, ...)`.
        neuron: what a layer makes of its messages.
        schedule: the order of visits.
        states: where to start, one state a layer; None starts from silence.
        generator: the source of random orders.
        keep_states: whether to return the states reached; memory is lower without them.

    Raises:
        ValueError: if the schedule visits a map again that changes between visits
            (dropout, batch statistics) or does not suit the depth, or if the states given do not suit the network or
            the batch.
    """
    order = list(schedule.order(len(net.stages), generator))
    again = _evaluates_again(order, warm=states is not None)
    _check(net, states, again=again)
    wiring = net.wire(x, states)
    last = {k: i for i, group in enumerate(order) for k in group}
    finished: set[int] = set()
    arrived: dict[int, Tensor | None] = {}  # feedback from layers that will not change again
    output, grads = None, Gradients()
    for i, group in enumerate(order):
        messages = {k: (wiring.received(k), arrived[k] if k in arrived else wiring.feedback(k)) for k in group}
        if output is None and wiring.depth in messages:
            output = net.activations[-1].f(messages[wiring.depth][0])
        for k in group:  # messages are popped: a state holds on to what it needs of them
            wiring.put(k, neuron(k, *messages.pop(k), wiring.states.get(k)))
        for k in sorted((k for k in group if last[k] == i), reverse=True):
            # Neither the layer above nor one below reads the state any more.
            unread = k == wiring.depth or k + 1 in finished
            arrived.pop(k, None)
            sent, found = wiring.finish(k, forget=unread and not keep_states)
            finished.add(k)
            arrived |= sent
            merge(grads, found)
            del sent, found
    silent = [p for p in net.parameters() if p.requires_grad and p not in grads]
    grads |= {parameter: torch.zeros_like(parameter) for parameter in silent}
    reached = [wiring.state(k) for k in range(1, wiring.depth + 1)] if keep_states else None
    # Means that have moved with the error are no prediction: it then takes a pass of its own.
    predicted = not again or (states is None and order[: wiring.depth] == [(k,) for k in range(1, wiring.depth + 1)])
    return Propagated(output if predicted and output is not None else net(x), grads, reached)


def _check(net: Layered, states: States | None, *, again: bool) -> None:
    """Refuse what the messages could not mean."""
    if again:
        net.check_steady()
    if states is not None and len(states) != len(net.stages):
        raise ValueError(f"{len(states)} states were given for a network of {len(net.stages)} stages")


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
