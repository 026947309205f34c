"""A trace run again, in part or with something changed: what would have come out, had that been different?"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dyadnet.audit.trace import Operation, Ref, Storages, Trace

Held = Mapping[int, int]
"""For some operations, by their number, which argument keeps the value that it had."""
Change = Callable[[int, Tensor], None]
"""Changes the result of an operation, by its number, in place."""
Look = Callable[[int, Operation, Storages], None]
"""Looks at the inputs of an operation before it runs."""


def ancestors(
    trace: Trace, targets: Iterable[Ref], held: Held | None = None, *, before: int | None = None
) -> list[int]:
    """Return the numbers of the operations that some tensors depend on; views are left out.

    Args:
        trace: of the computation.
        targets: tensors at its end.
        held: arguments that are taken as they are: what they depend on is not looked for.
        before: the number of the operation before which the tensors are looked at; None stands for the end.
    """
    held = held or {}
    needed, found = {target.storage for target in targets}, []
    for number in reversed(range(len(trace.operations) if before is None else before)):
        operation = trace.operations[number]
        if needed & operation.writes:
            found.append(number)
            kept = operation.args[held[number]].storage if number in held else None
            needed |= {r.storage for r in operation.inputs if r.storage != kept}
    return found[::-1]


@torch.no_grad()
def replay(
    trace: Trace,
    numbers: Sequence[int],
    *,
    held: Held | None = None,
    decided: Collection[int] = (),
    leaves: Mapping[int, torch.UntypedStorage] | None = None,
    change: Change | None = None,
    look: Look | None = None,
) -> Storages:
    """Run operations of a trace again; return the storages at the end.

    Args:
        trace: of the computation.
        numbers: of the operations to run, in their order.
        held: arguments that keep the values that they had.
        decided: operations whose decisions fall as they fell.
        leaves: other values of storages that the computation found.
        change: applied to every result.
        look: called before every operation.
    """
    held, storages = held or {}, dict(leaves or {})
    for number in numbers:
        operation = trace.operations[number]
        for r in operation.inputs:
            if r.storage not in storages and r.storage in trace.before:
                storages[r.storage] = trace.before[r.storage].clone()
        if look is not None:
            look(number, operation, storages)
        results = _run(operation, storages, held.get(number), number in decided)
        for r, result in zip(operation.outputs, results, strict=True):
            storages.setdefault(r.storage, result.untyped_storage())
            if change is not None:
                change(number, result)
    return storages


def _run(operation: Operation, storages: Storages, kept: int | None, decided: bool) -> list[Tensor]:
    """The results of one operation."""
    if operation.random or (decided and operation.kept):
        return [tensor.clone() for tensor in operation.kept]
    args = [operation.given[i] if i == kept else _bound(arg, storages) for i, arg in enumerate(operation.args)]
    results = operation.func(*args, **{name: _bound(arg, storages) for name, arg in operation.kwargs.items()})
    return [r for r in (results if isinstance(results, tuple | list) else [results]) if isinstance(r, Tensor)]


def _bound(arg: Any, storages: Storages) -> Any:
    """An argument with the tensors that it stands for."""
    if isinstance(arg, Ref):
        return arg.on(storages)
    return [_bound(part, storages) for part in arg] if isinstance(arg, list | tuple) else arg
