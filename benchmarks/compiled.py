"""Training steps with compiled rules; gradients that are not the rule's own are refused, not timed."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.cases import BACKPROP, Bench, Step
from dyadnet import AbstractRule, cross_entropy
from dyadnet.rule.compiled import compiled


def compiled_step(bench: Bench, rule: AbstractRule | None, compiler: Callable[[Any], Any] = torch.compile) -> Step:
    """Return one training step with `rule`, compiled, or with backpropagation; the optimiser stays eager.

    Raises:
        ArithmeticError: if the compiled gradients are not those of the rule.
    """
    if rule is None:
        loss = compiler(lambda x, y: nn.functional.cross_entropy(bench.model(x), y))
        return bench.update(lambda: loss(bench.x, bench.y).backward())
    fast = compiled(rule, bench.net, cross_entropy, bench.x, bench.y, compiler)
    found, expected = (
        each.estimate(bench.net, cross_entropy, bench.x, bench.y, keep_states=False).grads for each in (fast, rule)
    )
    for parameter, grad in expected.items():
        _check(rule, found[parameter], grad)
    return bench.update(lambda: fast.backward(bench.net, cross_entropy, bench.x, bench.y))


def compiled_steps(bench: Bench, rules: dict[str, AbstractRule]) -> dict[str, Step]:
    """Return the compiled steps of backpropagation and of rules, and eager backpropagation with them."""
    steps = {f"{BACKPROP} (eager)": bench.step(BACKPROP), BACKPROP: compiled_step(bench, None)}
    return steps | {name: compiled_step(bench, rule) for name, rule in rules.items()}


def _check(rule: AbstractRule, grad: Tensor, expected: Tensor) -> None:
    """Refuse to time what computes something else."""
    if (error := (grad - expected).norm() / expected.norm()) > 1e-2:
        raise ArithmeticError(f"compiled, the gradients of {rule} are off by {100 * error:.2g} %: do not use this form")
