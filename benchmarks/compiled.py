"""A rule as one compiled graph.

`torch.compile` follows Python, and breaks its graph at what it cannot follow: data-dependent checks, tensors as keys of
a dictionary. A rule's estimate has no data-dependent branch on valid input, so its tensor operations are recorded once
instead, and the record is compiled.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx

from benchmarks.cases import BACKPROP, Bench, Step
from dyadnet import AbstractRule, Layered, cross_entropy
from dyadnet.names import rule as named_rule

add = torch.ops.aten.add.Tensor


def _scaled_sum(a: Any, b: Any, *, alpha: float = 1) -> Any:
    """Write `a + alpha b` out: where `b` is a product, Inductor makes `addmm` of it and loses `alpha` (torch 2.13)."""
    return NotImplemented if alpha == 1 else a + alpha * b


def record(rule: AbstractRule, net: Layered, x: Tensor, y: Tensor) -> fx.GraphModule:
    """Return the operations of `rule.estimate` with cross-entropy, as a graph `(x, y) -> [loss, *gradients]`.

    The gradients are those of `net.parameters()`, in their order; weights are read anew at every call.

    Args:
        rule: the rule; not one that draws random numbers.
        net: the network, all of it trainable.
        x, y: inputs and soft labels of the shapes to come.
    """
    parameters = list(net.parameters())

    def estimate(x: Tensor, y: Tensor) -> list[Tensor]:
        step = rule.estimate(net, cross_entropy, x, y, keep_states=False)
        return [step.loss, *(step.grads[p] for p in parameters)]

    return make_fx(estimate, decomposition_table={add: _scaled_sum})(x, y)


def compiled_step(bench: Bench, rule: str, compiler: Callable[[Any], Any] = torch.compile) -> Step:
    """Return one training step with `rule`, compiled; the optimiser stays eager, as it does for backpropagation.

    Raises:
        ArithmeticError: if the compiled gradients are not those of the rule.
    """
    if rule == BACKPROP:
        loss = compiler(lambda x, y: nn.functional.cross_entropy(bench.model(x), y))
        return bench.update(lambda: loss(bench.x, bench.y).backward())
    learn, parameters = named_rule(rule), list(bench.net.parameters())
    expected = learn.estimate(bench.net, cross_entropy, bench.x, bench.y).grads
    run = compiler(record(learn, bench.net, bench.x, _soft(bench.y)))

    @torch.no_grad()
    def fill() -> None:
        _, *grads = run(bench.x, _soft(bench.y))
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = grad

    fill()
    for parameter in parameters:
        _check(rule, parameter.grad, expected[parameter])
    return bench.update(fill)


def _soft(y: Tensor) -> Tensor:
    """Classes as soft labels, which need no check of their range."""
    return nn.functional.one_hot(y, 10).float()


def _check(rule: str, grad: Tensor | None, expected: Tensor) -> None:
    """Refuse to time what computes something else."""
    assert grad is not None
    if (error := (grad - expected).norm() / expected.norm()) > 1e-2:
        raise ArithmeticError(f"compiled, the gradients of {rule} are off by {100 * error:.2g} %: do not use this form")
