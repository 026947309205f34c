"""Temporal locality: how many sets of states are inferred one after another for one update?

What is looked at are the messages that an update depends on, in the order in which they were sent, and the moments at
which the targets enter. A set of states is inferred

    free            while the output sends its state on and no target enters
    nudged          while the target meets the output's drive again at every visit
    clamped         while the output is held where the target put it
    errors          where activities come to an end before errors start: nothing travels up after the first error

Targets that enter in another way, with another strength, begin another set. Copies of the batch that are stacked are
inferred at once: as many circuits, one set. A rule is local in time if there is one set. Sweeps are an order in which
a processor computes, not one that neurons need; so a rule whose order of updates can be chosen is looked at while all
its layers update at once, if it learns the same.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mode
from typing import final

import torch
from torch import Tensor

from dyadnet.audit.messages import Message, Signals
from dyadnet.audit.places import Places
from dyadnet.audit.replay import ancestors, replay
from dyadnet.audit.trace import Operation, Ref, Storages, Trace

FREE, NUDGED, CLAMPED, ACTIVITIES, ERRORS = "free", "nudged", "clamped", "activities", "errors"


@final
@dataclass(frozen=True)
class Phase:
    """One set of states.

    Attributes:
        condition: of the output, as at the head of this file.
        copies: of the batch that are inferred at once.
        messages: how many are sent.
    """

    condition: str
    copies: int
    messages: int


@final
@dataclass(frozen=True)
class Temporal:
    """Whether a rule is local in time: whether it infers one set of states."""

    phases: tuple[Phase, ...]
    together: bool = False
    """Whether all layers updated at once while this was seen."""

    @property
    def local(self) -> bool | None:
        """Whether there is one set; None where nothing was seen."""
        return len(self.phases) == 1 if self.phases else None


def temporal(trace: Trace, found: Signals, where: Places, learned: Sequence[Ref], batch: int) -> Temporal:
    """Return the sets of states of an estimate.

    Args:
        trace: of the estimate.
        found: its messages.
        where: the places of the network.
        learned: what the weights learned.
        batch: the number of samples.
    """
    numbers = ancestors(trace, learned)
    read = set(numbers)
    messages = [m for m in found.messages if m.number in read and m.sent != {0} and not m.silent]
    spans = _spans(_entries(trace, found, numbers, messages), [m.number for m in messages])
    if not messages or not spans:
        return Temporal(())
    untaught = [m for m in messages if not m.taught]
    free = any(where.output in m.sent and not spans[0].start < m.number < spans[-1].end for m in untaught)
    if not free and _in_turn(messages):
        taught = [m for m in messages if m.taught]
        return Temporal((_phase(ACTIVITIES, untaught, trace, batch), _phase(ERRORS, taught, trace, batch)))
    start = spans[0].start
    phases = [_phase(FREE, [m for m in untaught if m.number < start], trace, batch)] if free else []
    for span, end in zip(spans, [*(span.start for span in spans[1:]), len(trace.operations)], strict=True):
        inside = [m for m in messages if span.start <= m.number < end]
        phases.append(_phase(_condition(trace, found, span, where.output), inside, trace, batch))
    return Temporal(tuple(phases))


def _in_turn(messages: Sequence[Message]) -> bool:
    """Whether errors travel down, and nothing up once the first of them has."""
    downwards = [m.number for m in messages if m.taught and min(m.sent) > max(m.heard)]
    return bool(downwards) and not any(m.number > downwards[0] and max(m.sent) < min(m.heard) for m in messages)


def _phase(condition: str, messages: Sequence[Message], trace: Trace, batch: int) -> Phase:
    copies = [_rows(m, trace) // batch for m in messages]
    return Phase(condition, mode(copies) if copies else 1, len(messages))


def _rows(m: Message, trace: Trace) -> int:
    """How many samples hear a message."""
    size = trace.operations[m.number].outputs[0].size
    return size[1 - m.axis % 2] if len(size) == 2 else size[0] if len(size) > 2 else 1


@final
@dataclass(frozen=True)
class _Entry:
    """Targets enter: the operation, what tells one way from another, and whether they are sent themselves."""

    number: int
    how: str
    sent: bool


@final
@dataclass(frozen=True)
class _Span:
    """A span of operations in which targets enter in the same ways."""

    start: int
    end: int
    entries: tuple[_Entry, ...]


def _entries(trace: Trace, found: Signals, numbers: Sequence[int], messages: Sequence[Message]) -> list[_Entry]:
    """Where targets meet something else, or are sent themselves."""
    entries: list[_Entry] = []
    senders, contacts = {m.number: m.sender for m in messages}, set(found.contacts)

    def look(number: int, operation: Operation, storages: Storages) -> None:
        if number in senders and _only_targets(found, operation.args[senders[number]]):
            entries.append(_Entry(number, "sent", sent=True))
        elif number in contacts:
            targets = [r.on(storages) for r in operation.inputs if _only_targets(found, r)]
            strengths = [arg for arg in (*operation.args, *operation.kwargs.values()) if isinstance(arg, int | float)]
            entries.append(_Entry(number, f"{operation.func} {strengths} {_digest(targets)}", sent=False))

    replay(trace, numbers, look=look)
    return entries


def _only_targets(found: Signals, r: Ref) -> bool:
    return found.of.get(r.storage) == {"y"}


def _digest(tensors: Sequence[Tensor]) -> str:
    """What tells tensors from others."""
    parts = [
        t.detach().resolve_conj().contiguous().cpu().flatten().view(torch.uint8).numpy().tobytes() for t in tensors
    ]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def _spans(entries: Sequence[_Entry], sent: Sequence[int]) -> list[_Span]:
    """Group entries: the spans of two ways of entering are one if they overlap, or if no message lies between them."""
    ways: dict[str, list[_Entry]] = {}
    for entry in entries:
        ways.setdefault(entry.how, []).append(entry)
    spans: list[_Span] = []
    for way in sorted(ways.values(), key=lambda way: way[0].number):
        start, end = way[0].number, way[-1].number
        apart = bool(spans) and any(spans[-1].end < number < start for number in sent)
        if spans and not (apart and any(number > start for number in sent)):
            last = spans.pop()
            spans.append(_Span(last.start, max(last.end, end), (*last.entries, *way)))
        else:
            spans.append(_Span(start, end, tuple(way)))
    return spans


def _condition(trace: Trace, found: Signals, span: _Span, output: int) -> str:
    """Nudged if targets meet what the output has heard meanwhile."""
    held = {m.number: m.sender for m in found.messages}
    heard = {m.number for m in found.messages if output in m.heard and m.number > span.start}
    for entry in sorted(span.entries, key=lambda entry: entry.number)[::-1][:2]:
        met = [r for r in trace.operations[entry.number].inputs if not _only_targets(found, r)]
        if not entry.sent and heard & set(ancestors(trace, met, held, before=entry.number)):
            return NUDGED
    return CLAMPED
