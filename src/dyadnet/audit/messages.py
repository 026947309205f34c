"""What travels through the weights: the products of a trace in which a signal meets a weight.

A signal is a tensor that depends on the inputs or the targets, a weight one that depends on parameters alone (a copy, a
view, a sum with its transpose). A product of the two is a message: it contracts the axis of the weight that belongs to
the neurons that send, and leaves the axis of those that hear. A weight is used the natural way where its second axis
is contracted, as in `s W^T`, and transposed where its first one is, as in `e W`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, final

from dyadnet.audit.places import Places
from dyadnet.audit.trace import Operation, Ref, Trace, aten, key

Label = frozenset[tuple[str, int]]
"""The axes of parameters that an axis of a tensor goes back to."""
_NONE: Label = frozenset()
_SHAPES = re.compile(r"new_\w+|\w+_like")
"""Operations that look at the shape of a tensor and not at its numbers."""


@final
@dataclass(frozen=True)
class Message:
    """A product of a signal and a weight.

    Attributes:
        number: of the operation.
        sender: which of its arguments is the signal.
        axis: of the result: the neurons that hear.
        contracted, left: the axes of parameters that were contracted, and that are left.
        sent: the places that send.
        heard: the places that hear.
        taught: whether the signal depends on the targets.
        silent: whether it depends on neither inputs nor targets.
    """

    number: int
    sender: int
    axis: int
    contracted: Label
    left: Label
    sent: frozenset[int]
    heard: frozenset[int]
    taught: bool
    silent: bool


@final
@dataclass(eq=False)
class Signals:
    """What every storage of a trace goes back to, and the messages.

    Attributes:
        of: for a storage, some of "x" the inputs, "y" the targets, "p" the parameters,
            "s" silence: the shape of a signal alone.
        messages: in their order.
        contacts: numbers of the operations in which the targets meet something else.
    """

    of: dict[int, frozenset[str]] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    contacts: list[int] = field(default_factory=list)

    def is_signal(self, r: Ref) -> bool:
        """Return whether a tensor depends on inputs or targets, or is silence."""
        return bool(self.of.get(r.storage, frozenset()) & {"x", "y", "s"})

    def is_weight(self, r: Ref) -> bool:
        """Return whether a tensor depends on parameters and on no signal."""
        return self.of.get(r.storage) == {"p"}


def signals(trace: Trace, where: Places, x: Iterable[Any], y: Iterable[Any]) -> Signals:
    """Return the messages of a trace.

    Args:
        trace: of the computation.
        where: the places of the network.
        x: the tensors that are inputs (states to start from are, too).
        y: those that are targets.
    """
    found, labels = Signals(), _Labels(where)
    found.of |= {key(t): frozenset("x") for t in x} | {key(t): frozenset("y") for t in y}
    found.of |= {key(w.tensor): frozenset("p") for w in where.weights}
    for number, operation in enumerate(trace.operations):
        read = [found.of.get(r.storage, frozenset()) for r in operation.inputs]
        if _SHAPES.fullmatch(operation.packet.__name__):
            read = [frozenset("s") if kind & {"x", "y"} else frozenset() for kind in read]
        if frozenset("y") in read and any("x" in kind for kind in read):
            found.contacts.append(number)
        message = _message(number, operation, found, labels, where)
        if message is not None:
            found.messages.append(message)
        union = frozenset().union(*read)
        for storage in operation.writes:
            if found.of.get(storage) != {"p"}:  # weights that learn meanwhile are weights still
                kind = found.of.get(storage, frozenset()) | union
                found.of[storage] = kind - {"s"} if kind & {"x", "y"} else kind
        if union == {"p"}:
            labels.learn(operation)
    return found


class _Labels:
    """Which axes of parameters the axes of weights go back to."""

    def __init__(self, where: Places) -> None:
        self.places = {(w.name, axis): place for w in where.weights for axis, place in enumerate(w.axes)}
        self.known: dict[Any, list[Label]] = {}
        for w in where.weights:
            t = w.tensor
            axes = [frozenset({(w.name, axis)}) for axis in range(t.dim())]
            self.known[key(t), tuple(t.shape), t.stride()] = axes

    def at(self, r: Ref) -> list[Label]:
        """Return a label for every axis."""
        return self.known.get((r.storage, r.size, r.stride), [_NONE] * len(r.size))

    def where(self, label: Label) -> frozenset[int]:
        """Return the places of a label."""
        return frozenset(place for axis in label if (place := self.places[axis]) is not None)

    def learn(self, operation: Operation) -> None:
        """Label what an operation on weights returns."""
        labelled = [r for r in operation.inputs if any(self.at(r))]
        for out in operation.outputs:
            axes = [_NONE] * len(out.size)
            if operation.packet in (aten.mm, aten.addmm):
                left, right = (operation.args[i] for i in factors(operation))
                axes = [self.at(left)[0], self.at(right)[1]]
            for r in labelled if operation.packet is not aten.mm else ():
                if operation.packet is not aten.addmm or r is operation.args[0]:
                    moved = self._moved(operation, r, out)
                    axes = [axis | more for axis, more in zip(axes, moved, strict=True)]
            if any(axes):
                place = out.storage, out.size, out.stride
                self.known[place] = [a | b for a, b in zip(axes, self.known.get(place, axes), strict=True)]

    def _moved(self, operation: Operation, r: Ref, out: Ref) -> list[Label]:
        """The labels of an input, as the axes of the output."""
        axes = self.at(r)
        if operation.packet in (aten.t, aten.numpy_T):
            return axes[::-1]
        if operation.packet is aten.transpose:
            order = list(range(len(axes)))
            i, j = operation.args[1:3]
            order[i], order[j] = order[j], order[i]
            return [axes[k] for k in order]
        if operation.packet is aten.permute:
            return [axes[k] for k in operation.args[1]]
        if len(out.size) == len(axes):
            return axes
        if len(out.size) < 2 or not axes:
            return [_NONE] * len(out.size)
        rest = frozenset().union(*axes[1:])  # reshaped: the first axis stays
        return [axes[0], *[rest] * (len(out.size) - 1)]


def factors(operation: Operation) -> tuple[int, int]:
    """Return which arguments of a product are multiplied."""
    return (1, 2) if operation.packet in (aten.addmm, aten.baddbmm, aten.addmv) else (0, 1)


def _message(number: int, operation: Operation, found: Signals, labels: _Labels, where: Places) -> Message | None:
    """The message that an operation is, if it is one."""
    if not operation.given:
        return None
    if operation.packet is aten.convolution_backward:
        if not operation.args[-1][0]:
            return None
        pair, contracted, left, axis = (0, 2), 0, 1, 1
    elif operation.packet is aten.convolution:
        pair, axis = (0, 1), 1
        contracted, left = (0, 1) if operation.args[6] else (1, 0)
    else:
        pair = factors(operation)
        first, second = (operation.args[i] for i in pair)
        if found.is_weight(first):
            pair, contracted, left = pair[::-1], -1, -2
            axis = 0 if len(second.size) == 1 else -2
        else:
            contracted, left, axis = (-2, -1, -1) if len(second.size) > 1 else (-1, -1, -1)
    sender, weight = (operation.args[i] for i in pair)
    if not (found.is_signal(sender) and found.is_weight(weight)):
        return None
    axes = labels.at(weight)
    gone, stays = axes[contracted], axes[left]
    if not gone or not stays:
        return None
    kind = found.of[sender.storage]
    return Message(
        number, pair[0], axis, gone, stays, labels.where(gone), labels.where(stays), "y" in kind, not kind & {"x", "y"}
    )
