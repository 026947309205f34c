"""A trace: every operation on tensors that a computation ran, so that it can be looked at and run again.

Operations are recorded below autograd, where the backward pass of autograd, in-place updates and views are operations
like others. A tensor is remembered as a window onto its storage: whoever writes to the storage is seen by every view.
Recording copies what it keeps and changes nothing that is computed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

aten = torch.ops.aten
PRODUCTS = (aten.mm, aten.addmm, aten.bmm, aten.baddbmm, aten.mv, aten.addmv, aten.dot, aten.linear)
CONVOLUTIONS = (aten.convolution, aten.convolution_backward)
T = TypeVar("T")
Storages = dict[int, torch.UntypedStorage]


@final
@dataclass(frozen=True)
class Ref:
    """A tensor of a trace: a window onto a storage."""

    storage: int
    dtype: torch.dtype
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    conj: bool = False
    neg: bool = False

    def on(self, storages: Mapping[int, torch.UntypedStorage]) -> Tensor:
        """Return the tensor, on other storages."""
        storage = storages[self.storage]
        empty = torch.empty(0, dtype=self.dtype, device=storage.device)
        tensor = empty.set_(storage, self.offset, self.size, self.stride)
        tensor = torch.conj(tensor) if self.conj else tensor
        return torch.ops.aten._neg_view(tensor) if self.neg else tensor


@final
@dataclass(frozen=True, eq=False)
class Operation:
    """One operation.

    Attributes:
        func: what was called.
        args, kwargs: with what; tensors are `Ref`s.
        inputs, outputs: the tensors among them, and what was returned.
        writes: the storages that it wrote to; none for views.
        given: copies of the inputs of a product, by their place in `args`.
        kept: copies of the outputs of a random operation, and of decisions (tensors of true or false).
    """

    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: tuple[Ref, ...]
    outputs: tuple[Ref, ...]
    writes: frozenset[int]
    given: Mapping[int, Tensor] = field(default_factory=dict)
    kept: Sequence[Tensor] = ()

    @property
    def packet(self) -> Any:
        """What was called, whatever the overload."""
        return self.func._overloadpacket

    @property
    def random(self) -> bool:
        """Whether it draws numbers."""
        return torch.Tag.nondeterministic_seeded in self.func.tags


@final
@dataclass(eq=False)
class Trace:
    """The operations of one computation, in their order.

    Attributes:
        operations: in the order in which they ran.
        before: copies of the storages that it found, as they were.
        alive: the tensors that keep every storage from being used twice.
    """

    operations: list[Operation] = field(default_factory=list)
    before: Storages = field(default_factory=dict)
    alive: list[Tensor] = field(default_factory=list)
    known: set[int] = field(default_factory=set)

    def found(self, tensor: Tensor) -> None:
        """Remember a storage that comes from outside, as it is now."""
        if key(tensor) not in self.known:
            self.keep(tensor)
            self.before[key(tensor)] = tensor.untyped_storage().clone()

    def keep(self, tensor: Tensor) -> None:
        """Remember a storage."""
        if key(tensor) not in self.known:
            self.known.add(key(tensor))
            self.alive.append(tensor.detach())


def key(tensor: Tensor) -> int:
    """Return what tells a tensor's storage from others."""
    return tensor.untyped_storage()._cdata


def ref(tensor: Tensor) -> Ref:
    """Return the window that a tensor is."""
    return Ref(
        key(tensor),
        tensor.dtype,
        int(tensor.storage_offset()),
        tuple(tensor.shape),
        tensor.stride(),
        tensor.is_conj(),
        tensor.is_neg(),
    )


def record(computation: Callable[[], T]) -> tuple[T, Trace]:
    """Run a computation; return its result and its trace.

    >>> result, trace = record(lambda: torch.ones(2).mul(3).sum())
    >>> result, [operation.packet.__name__ for operation in trace.operations]
    (tensor(6.), ['ones', 'mul', 'sum'])
    """
    trace = Trace()
    with _Recorder(trace):
        return computation(), trace


class _Recorder(TorchDispatchMode):
    """Writes down what runs."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.trace = trace
        self.copies: dict[tuple[Ref, int], Tensor] = {}
        """Of the factors of products, each once as long as nobody writes to it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for tensor in _tensors((args, kwargs)):
            self.trace.found(tensor)
        given = self._copied(args) if func._overloadpacket in PRODUCTS + CONVOLUTIONS else {}
        result = func(*args, **kwargs)
        for part in _parts(func, args):
            self._write(func, part, kwargs, given, result)
        return result

    def _copied(self, args: Sequence[Any]) -> dict[int, Tensor]:
        found: dict[int, Tensor] = {}
        for i, arg in enumerate(args):
            if isinstance(arg, Tensor):
                state = ref(arg), arg._version
                if state not in self.copies:
                    self.copies[state] = arg.detach().clone()
                found[i] = self.copies[state]
        return found

    def _write(self, func: Any, args: Any, kwargs: Any, given: dict[int, Tensor], result: Any) -> None:
        """One operation, or one of the two that a convolution's backward pass is."""
        outputs = _tensors(_chosen(func, args, result))
        read = {key(tensor) for tensor in _tensors((args, kwargs))}
        for tensor in outputs:
            self.trace.keep(tensor)
        writes = {key(tensor) for tensor in outputs} - read | _written(func, args, kwargs)
        decides = any(tensor.dtype == torch.bool for tensor in outputs)
        kept = decides or torch.Tag.nondeterministic_seeded in func.tags
        self.trace.operations.append(
            Operation(
                func,
                tree_map_only(Tensor, ref, tuple(args)),
                tree_map_only(Tensor, ref, kwargs),
                tuple(ref(tensor) for tensor in _tensors((args, kwargs))),
                tuple(ref(tensor) for tensor in outputs),
                frozenset(writes),
                given,
                [tensor.clone() for tensor in outputs] if kept else (),
            )
        )


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_flatten(tree)[0] if isinstance(leaf, Tensor)]


def _written(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> set[int]:
    """The storages of arguments that an operation overwrites."""
    schema = func._schema.arguments
    values = [*args, *(kwargs.get(a.name) for a in schema[len(args) :])]
    pairs = zip(schema, values, strict=True)
    return {key(t) for a, value in pairs if a.alias_info and a.alias_info.is_write for t in _tensors(value)}


def _parts(func: Any, args: Any) -> list[Any]:
    """The backward pass of a convolution as two operations: what goes down, and what is learned."""
    if func._overloadpacket is not aten.convolution_backward:
        return [args]
    down, *learned = args[-1]
    masks = [[True, False, False]] * down + [[False, *learned]] * any(learned)
    return [(*args[:-1], mask) for mask in masks]


def _chosen(func: Any, args: Any, result: Any) -> Any:
    """What of a result belongs to a part."""
    if func._overloadpacket is not aten.convolution_backward:
        return result
    return [tensor for tensor, wanted in zip(result, args[-1], strict=True) if wanted and tensor is not None]
