"""Spatial locality: does the update of a synapse read anything but the states of the two neurons that it joins?

Everything depends on everything once states have been inferred, so the question is about what the update reads of what
its neurons have heard. The computation is run again with every message held: a neuron then changes only if something
that it heard is changed. One neuron at a time hears something else, and what the weights learn is looked at.

    a neuron of a place that a weight leads from or to      may change one column, or one row, of its gradient
    a neuron of any other place, a target, another weight   may change nothing

What one layer sends to another is looked at in the same way: it may read the states of its own neurons. Two things are
local in this sense and yet are not local in space: a kernel that is one weight for many synapses, and a message that
comes along no synapse of the network. They are exceptions, each with its name. A loss that couples the outputs, as
a softmax does, is the teacher's doing and no exception: use the squared error to see what the rule does there.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from dyadnet.audit.messages import Message, Signals
from dyadnet.audit.places import Places, Weight
from dyadnet.audit.replay import ancestors, replay
from dyadnet.audit.trace import Operation, Ref, Storages, Trace, key

SHARED, BROADCAST = "weight sharing", "broadcast"
MORE, ELSEWHERE = "more than the neuron that it touches", "neurons that are not of its synapses"
_UNITS, _SIZE, _SEEN = 2, 1e-2, 1e-9


@final
@dataclass(frozen=True)
class Reading:
    """What the update of a weight was seen to read, or what was seen to travel.

    Attributes:
        weight: whose update, or through which weight it travels.
        reads: the place or the tensor that was changed.
        local: whether a synapse may know that.
        how: what was seen.
    """

    weight: str
    reads: str
    local: bool
    how: str


@final
@dataclass(frozen=True)
class Spatial:
    """Whether updates are local in space.

    Attributes:
        local: no update reads what it must not, and there is no exception; None where it is not known what parameters
            connect.
        readings: everything that was seen to be read.
        exceptions: what makes a rule non-local whose readings are all local, by the name of its kind.
    """

    local: bool | None
    readings: tuple[Reading, ...]
    exceptions: dict[str, str]


@final
@dataclass(frozen=True, eq=False)
class Experiment:
    """A trace with its messages held, to be run again under changes.

    Attributes:
        trace: of the computation.
        where: the places of the network.
        signals: the messages.
        learned: what every weight learned, as it stands in the trace.
    """

    trace: Trace
    where: Places
    signals: Signals
    learned: dict[str, Ref]
    coupled: bool = False
    """Whether the loss's gradient in one output depends on the others, as a softmax's does."""

    def cut(self) -> "_Cut":
        """Return the part of the trace that lies between messages and what is learned."""
        held = {m.number: m.sender for m in self.signals.messages}
        targets = list(self.learned.values())
        while True:  # what a message that is read was sent as is read, too
            numbers = ancestors(self.trace, targets, held)
            read = [m for m in self.signals.messages if m.number in set(numbers)]
            sent = [self.trace.operations[m.number].args[m.sender] for m in read]
            if len(targets) == len(self.learned) + len(sent):
                inner = ancestors(self.trace, sent, held)
                decisions = [n for n in inner if self.trace.operations[n].kept]
                return _Cut(self, tuple(read), held, numbers, frozenset(decisions))
            targets = [*self.learned.values(), *sent]


Outcome = tuple[dict[str, Tensor], dict[int, Tensor], dict[int, Tensor]]
"""What weights learn, what is sent, and what is heard."""


@final
@dataclass(frozen=True, eq=False)
class _Cut:
    """The part of a trace between messages and what is learned; decisions that states depend on fall as they fell."""

    experiment: Experiment
    messages: tuple[Message, ...]
    held: dict[int, int]
    numbers: Sequence[int]
    decisions: frozenset[int]

    def run(self, change: Callable[[int, Tensor], None] | None = None, leaves: Storages | None = None) -> Outcome:
        """Return what weights learn, what is sent, and what is heard."""
        sent: dict[int, Tensor] = {}
        heard: dict[int, Tensor] = {}
        senders = {m.number: m.sender for m in self.messages}

        def look(number: int, operation: Operation, storages: Storages) -> None:
            if number in senders:
                sent[number] = operation.args[senders[number]].on(storages).clone()

        def changed(number: int, result: Tensor) -> None:
            if change is not None:
                change(number, result)
            if number in senders:
                heard[number] = result.clone()

        storages = replay(
            self.experiment.trace,
            self.numbers,
            held=self.held,
            decided=self.decisions,
            leaves=leaves,
            change=changed,
            look=look,
        )
        for r in self.experiment.learned.values():
            if r.storage not in storages:
                storages[r.storage] = self.experiment.trace.before[r.storage].clone()
        return {name: r.on(storages) for name, r in self.experiment.learned.items()}, sent, heard


def spatial(experiment: Experiment, x: Tensor, y: Tensor) -> Spatial:
    """Return what updates read.

    Args:
        experiment: the traced estimate.
        x: the inputs that it was given.
        y: the targets that it was given.
    """
    where = experiment.where
    if where.unknown or not where.weights:
        return Spatial(None, (), {})
    cut = experiment.cut()
    base = cut.run()
    readings = [*_neurons(cut, base), *_inputs(cut, base, x), *_targets(cut, base, y), *_weights(cut, base)]
    readings = list(dict.fromkeys(sorted(readings, key=lambda r: (r.local, r.weight, r.reads))))
    exceptions = _exceptions(cut)
    return Spatial(not exceptions and all(r.local for r in readings), tuple(readings), exceptions)


def _neurons(cut: _Cut, base: Outcome) -> Iterator[Reading]:
    """Let one neuron after another hear something else."""
    groups: dict[tuple[int, tuple[int, ...]], list[Message]] = {}
    for m in cut.messages:
        for place in m.heard:
            groups.setdefault((place, _shape(m, base[2][m.number])), []).append(m)
    for (place, shape), messages in groups.items():
        numbers = {m.number: m.axis for m in messages}
        for unit in _units(shape):

            def change(number: int, result: Tensor, numbers: dict[int, int] = numbers, unit: int = unit) -> None:
                if number in numbers:
                    _shift(result, numbers[number], unit)

            yield from _compare(cut, base, cut.run(change), place)


def _inputs(cut: _Cut, base: Outcome, x: Tensor) -> Iterator[Reading]:
    """Let one input after another be another."""
    for unit in _units(tuple(x.shape[1:])):
        other = x.detach().clone(memory_format=torch.preserve_format)
        _shift(other, 1, unit)
        yield from _compare(cut, base, cut.run(leaves={key(x): other.untyped_storage()}), 0)


def _targets(cut: _Cut, base: Outcome, y: Tensor) -> Iterator[Reading]:
    """Let all targets be others: only the neurons of the output may know them."""
    other = y.roll(1, 0) if not y.is_floating_point() else y + _SIZE * (1 + y.abs())
    other = other.clone(memory_format=torch.contiguous_format)
    for reading in _compare(cut, base, cut.run(leaves={key(y): other.untyped_storage()}), cut.experiment.where.output):
        allowed = reading.how != ELSEWHERE and reading.weight in base[0]
        yield replace(reading, reads="targets", local=allowed, how="at the output" if allowed else reading.how)


def _weights(cut: _Cut, base: Outcome) -> Iterator[Reading]:
    """Let one weight after another be another, with all that neurons hear as it was."""
    for weight in cut.experiment.where.weights:
        if key(weight.tensor) not in cut.experiment.trace.before:
            continue
        other = (weight.tensor.detach() * (1 + _SIZE)).untyped_storage()

        def change(number: int, result: Tensor) -> None:
            if number in base[2]:
                result.copy_(base[2][number])

        learned = cut.run(change, {key(weight.tensor): other})[0]
        for name, grad in learned.items():
            if _differs(base[0][name], grad).any():
                own = name == weight.name or _partners(cut.experiment.where, name, weight)
                yield Reading(name, weight.name, own, "its own weight" if own else "the weight of other synapses")


def _partners(where: Places, name: str, weight: Weight) -> bool:
    """Whether two weights belong to the same synapses, one of them on the way back."""
    axes = next(w.axes for w in where.weights if w.name == name)
    return set(axes) == set(weight.axes)


def _compare(cut: _Cut, base: Outcome, other: Outcome, place: int) -> Iterator[Reading]:
    """Say what changed with the neurons of a place."""
    where, title = cut.experiment.where, cut.experiment.where.names[place]
    for weight in where.weights:
        if weight.name in base[0]:
            how = _pattern(_differs(base[0][weight.name], other[0][weight.name]), weight, place)
            if how == MORE and cut.experiment.coupled and place == where.output:
                how = "all outputs, through the loss"
            if how:
                yield Reading(weight.name, title, how not in (MORE, ELSEWHERE), how)
    for m in cut.messages:
        if place not in m.sent and _differs(base[1][m.number], other[1][m.number]).any():
            yield Reading(_names(m), title, False, "sent through it, though it is not of these neurons")


def _pattern(changed: Tensor, weight: Weight, place: int) -> str:
    """Say which entries of a gradient one neuron changed; nothing if none."""
    if not changed.any():
        return ""
    axes = [axis for axis, at in enumerate(weight.axes) if at == place]
    entries = changed.nonzero()
    if not axes:
        return ELSEWHERE
    for unit in entries[0, axes].unique() if len(axes) > 1 else entries[:1, axes[0]]:
        if bool((entries[:, axes] == unit).any(1).all()):
            return "the neuron that it touches"
    return MORE


def _exceptions(cut: _Cut) -> dict[str, str]:
    where, found = cut.experiment.where, {}
    for m in cut.messages:
        result = cut.experiment.trace.operations[m.number].outputs[0]
        positions = int(torch.tensor(result.size[2:]).prod()) if len(result.size) > 2 else 1
        names = _names(m)
        if positions > 1 and SHARED not in found:
            found[SHARED] = f"{names} is one weight for the synapses of {positions} positions"
        for sent in m.sent:
            for heard in m.heard:
                if not where.joined(sent, heard) and sent != heard:
                    found[BROADCAST] = (
                        f"{where.names[heard]} hears {where.names[sent]} through {names}, along no synapse"
                    )
    return found


def _names(m: Message) -> str:
    return " and ".join(sorted({name for name, _ in m.contracted}))


def _shape(m: Message, result: Tensor) -> tuple[int, ...]:
    """The shape of the neurons that hear, without the batch."""
    if result.dim() == 1:
        return tuple(result.shape)
    return (result.shape[m.axis],) if result.dim() == 2 else tuple(result.shape[1:])


def _units(shape: tuple[int, ...]) -> list[int]:
    """Some neurons, far from one another."""
    count = int(torch.tensor(shape).prod())
    return sorted({int(i) for i in torch.linspace(0, count - 1, _UNITS)})


def _shift(result: Tensor, axis: int, unit: int) -> None:
    """Change one neuron's share of a message, in place."""
    if not (result.is_floating_point() or result.is_complex()):
        return
    if result.dim() <= 2:
        part = result.select(axis, unit) if result.dim() == 2 else result[unit : unit + 1]
    else:
        index = torch.unravel_index(torch.tensor(unit), result.shape[1:])
        part = result[(slice(None), *(int(i) for i in index))]
    steps = torch.linspace(0.5, 1.5, part.numel(), dtype=torch.float64).view_as(part.abs()).to(part.abs())
    part += _SIZE * (result.abs().mean() + 0.1) * steps


def _differs(before: Tensor, after: Tensor) -> Tensor:
    """Which entries have changed by more than rounding."""
    return (after - before).abs() > _SEEN * before.abs().max().clamp(min=torch.finfo(before.abs().dtype).tiny)
