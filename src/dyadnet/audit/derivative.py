"""Whether a rule evaluates the derivatives of activations: it is given activations that refuse to be differentiated.

Their values are those of the activations; asked for a derivative, by autograd or by formula, they raise. A formula of
the rule's own asks nobody. It is found by its result: some tensor of the computation is `f'`, entry by entry, at the
pre-activations that the activations were applied to. A product in which `f'` never stands by itself is not found.
"""

import copy
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dyadnet.activation import Activation
from dyadnet.audit.trace import Trace, aten
from dyadnet.network.base import AbstractHopfield, AbstractNetwork
from dyadnet.network.layered import Layered
from dyadnet.network.lifted import Lifted

_BACKWARD = {
    aten.tanh_backward,
    aten.sigmoid_backward,
    aten.threshold_backward,
    aten.hardtanh_backward,
    aten.leaky_relu_backward,
    aten.silu_backward,
    aten.gelu_backward,
    aten.elu_backward,
    aten.softplus_backward,
    aten.hardsigmoid_backward,
    aten.hardswish_backward,
    aten.mish_backward,
}


class Refused(RuntimeError):
    """An activation was asked for its derivative."""


@final
@dataclass(frozen=True)
class Derivatives:
    """Whether derivatives of activations were evaluated.

    Attributes:
        used: whether they were.
        refused: what an activation said that was asked for one; None if none was.
        operations: the derivatives of activations among the operations of the computation.
        formulas: how many of its tensors are the derivative at a pre-activation, though nobody was asked.
    """

    used: bool
    refused: str | None
    operations: tuple[str, ...]
    formulas: int


def derivatives(estimate: Callable[[AbstractNetwork], object], net: AbstractNetwork, trace: Trace) -> Derivatives:
    """Return whether an estimate needs derivatives.

    Args:
        estimate: runs the rule on a network.
        net: the network.
        trace: of the estimate.
    """
    log: list[str] = []
    with suppress(Refused):
        estimate(with_activations(net, lambda a: _refusing(a, log)))
    asked = tuple(sorted({op.packet.__name__ for op in trace.operations if op.packet in _BACKWARD}))
    formulas = _formulas(estimate, net)
    return Derivatives(bool(log or asked or formulas), log[0] if log else None, asked, formulas)


def with_activations(net: AbstractNetwork, change: Callable[[Activation], Activation]) -> AbstractNetwork:
    """Return a copy of a network with other activations; linear units stay as they are."""
    twin = copy.deepcopy(net)
    if isinstance(twin, Layered | Lifted):
        twin.stages = tuple(replace(stage, activation=_changed(stage.activation, change)) for stage in twin.stages)
        twin.activations = tuple(stage.activation for stage in twin.stages)
    elif isinstance(twin, AbstractHopfield):
        twin.activations = tuple(_changed(activation, change) for activation in twin.activations)
    return twin


def _changed(activation: Activation, change: Callable[[Activation], Activation]) -> Activation:
    return activation if activation.name == "identity" else change(activation)


def _refusing(activation: Activation, log: list[str]) -> Activation:
    """An activation with the same values that raises where its derivative is asked for."""

    def derivative(a: Tensor, s: Tensor) -> Tensor:
        raise _refusal(f"{activation.name} was asked for its derivative by a formula", log)

    def f(a: Tensor) -> Tensor:
        return _Opaque.apply(a, activation, log) if a.requires_grad and torch.is_grad_enabled() else activation.f(a)

    def f_(a: Tensor) -> Tensor:
        return f(a) if a.requires_grad and torch.is_grad_enabled() else activation.f_(a)

    return replace(activation, f=f, f_=f_, derivative=derivative)


def _refusal(message: str, log: list[str]) -> Refused:
    log.append(message)
    return Refused(message)


class _Opaque(torch.autograd.Function):
    """An activation through which no derivative passes."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, activation: Activation, log: list[str]) -> Tensor:
        ctx.name, ctx.log = activation.name, log
        return activation.f(a)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        raise _refusal(f"{ctx.name} was asked for its derivative by autograd", ctx.log)

    @staticmethod
    def jvp(ctx: Any, *grad_inputs: Any) -> Any:
        raise _refusal(f"{ctx.name} was asked for its derivative by forward-mode autograd", ctx.log)


def _formulas(estimate: Callable[[AbstractNetwork], object], net: AbstractNetwork) -> int:
    """How many tensors of an estimate are the derivative of an activation where it was applied."""
    slopes: list[Tensor] = []

    def remembering(activation: Activation) -> Activation:
        def note(a: Tensor) -> None:
            with torch.no_grad():
                if not a.is_complex():
                    slopes.append(activation.derivative(a, activation.f(a)).detach().clone())

        def f(a: Tensor) -> Tensor:
            note(a)
            return activation.f(a)

        def f_(a: Tensor) -> Tensor:
            note(a)
            return activation.f_(a)

        return replace(activation, f=f, f_=f_)

    estimate(with_activations(net, remembering))
    search = _Search(slopes)
    with search:
        estimate(net)
    return search.found


class _Search(TorchDispatchMode):
    """Counts the tensors of a computation that are one of those sought, told by a product with random numbers."""

    def __init__(self, sought: Iterable[Tensor]) -> None:
        super().__init__()
        self.found = 0
        self.marks: dict[tuple[int, ...], Tensor] = {}
        marks: dict[tuple[int, ...], list[float]] = {}
        for tensor in sought:
            if bool((tensor != tensor.flatten()[0]).any()):  # a constant tells nothing
                marks.setdefault(tuple(tensor.shape), []).append(_mark(tensor))
        for shape, values in marks.items():
            self.marks[shape] = torch.tensor(sorted(values), dtype=torch.float64)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tuple(tensor.shape) in self.marks and not tensor.is_complex():
                marks = self.marks[tuple(tensor.shape)]
                self.found += bool(((marks - _mark(tensor)).abs() < 1e-9 * marks.abs()).any())
        return result


def _mark(tensor: Tensor) -> float:
    """A number that no two tensors are likely to share."""
    generator = torch.Generator().manual_seed(tensor.numel())
    other = torch.rand(tensor.numel(), generator=generator, dtype=torch.float64) + 0.5
    return float(tensor.detach().double().flatten().cpu() @ other)
