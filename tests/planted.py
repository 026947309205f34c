"""Rules that know nothing of the audit: honest ones, and ones that break what they seem to promise."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from dyadnet.loss import Loss, as_loss
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.layered import Layered
from dyadnet.network.linearisation import Gradients
from dyadnet.relax.schedule import AbstractSchedule, Sweeps
from dyadnet.rule.base import AbstractRule, Estimate
from dyadnet.rule.dual_propagation import DualPropagation
from dyadnet.rule.dyadic import Dyadic
from dyadnet.rule.feedback_alignment import DirectFeedbackAlignment

Slope = Literal["none", "autograd", "library", "formula"]


@dataclass(frozen=True)
class Own(AbstractRule):
    """Dual propagation at alpha 1/2 from scratch, for linear maps and tanh; or with a derivative in its place."""

    beta: float = 0.01
    slope: Slope = "none"

    @torch.no_grad()
    def estimate(self, net: AbstractNetwork, loss: Loss, x: Tensor, y: Tensor, **options: Any) -> Estimate:
        assert isinstance(net, Layered)
        drives, means = [], [x]
        for stage in net.stages:
            drives.append(stage.map(means[-1]))
            means.append(stage.activation.f(drives[-1]))
        error = as_loss(loss).gradient(means[-1], y) / len(x)
        grads: Gradients = {}
        for k in range(len(net.stages) - 1, -1, -1):
            weight, bias = net.stages[k].map.parameters()
            grads |= {weight: error.T @ means[k], bias: error.sum(0)}
            if k:
                error = self._error(net, k - 1, drives[k - 1], error @ weight)
        return Estimate(as_loss(loss)(means[-1], y).mean(), means[-1], grads)

    def _error(self, net: Layered, k: int, drive: Tensor, feedback: Tensor) -> Tensor:
        activation = net.stages[k].activation
        if self.slope == "library":
            return activation.derivative(drive, activation.f(drive)) * feedback
        if self.slope == "formula":
            return (1 - torch.tanh(drive) ** 2) * feedback
        if self.slope == "autograd":
            with torch.enable_grad():
                leaf = drive.detach().requires_grad_()
                return torch.autograd.grad(activation.f(leaf), leaf, feedback)[0]
        half = self.beta / 2 * feedback
        return (activation.f(drive + half) - activation.f(drive - half)) / self.beta


@dataclass(frozen=True)
class Peeking(AbstractRule):
    """Dual propagation whose lowest weights look at something that they should not know."""

    at: Literal["output", "neighbour", "target", "weight", "nothing"] = "output"
    schedule: AbstractSchedule = field(default_factory=Sweeps)

    @torch.no_grad()
    def estimate(self, net: AbstractNetwork, loss: Loss, x: Tensor, y: Tensor, **options: Any) -> Estimate:
        step = DualPropagation(schedule=self.schedule).estimate(net, loss, x, y)
        assert isinstance(net, Layered)
        assert step.states is not None
        lowest, output = (next(net.stages[k].map.parameters()) for k in (0, -1))
        seen = {
            "output": lambda: step.output[:, 0].mean(),
            "neighbour": lambda: step.states[0].mean().roll(1, 1).T @ x / len(x),
            "target": lambda: y.double().mean(),
            "weight": lambda: output.mean(),
            "nothing": lambda: torch.zeros(()),
        }
        grads = {p: g + 0.01 * seen[self.at]() if p is lowest else g for p, g in step.grads.items()}
        return dataclasses.replace(step, grads=grads)


@dataclass(frozen=True)
class Muttering(AbstractRule):
    """Direct feedback alignment that lets a hidden error read a unit of the output on its way to the weights."""

    @torch.no_grad()
    def estimate(self, net: AbstractNetwork, loss: Loss, x: Tensor, y: Tensor, **options: Any) -> Estimate:
        step = DualPropagation().estimate(net, loss, x, y)
        assert isinstance(net, Layered)
        first, second, third = (next(stage.map.parameters()) for stage in net.stages)
        error = as_loss(loss).gradient(step.output, y)
        hidden = error @ third + error[:, :1]  # a distant neuron, sent on through the weights of the layer below
        return dataclasses.replace(step, grads=step.grads | {first: (hidden @ second).T @ x})


@dataclass(frozen=True)
class Transporting(AbstractRule):
    """Direct feedback alignment that adds a little of what the transpose would send."""

    share: float = 0.1

    @torch.no_grad()
    def estimate(self, net: AbstractNetwork, loss: Loss, x: Tensor, y: Tensor, **options: Any) -> Estimate:
        step = DirectFeedbackAlignment().estimate(net, loss, x, y)
        assert isinstance(net, Layered)
        assert step.states is not None
        below, above = (next(net.stages[k].map.parameters()) for k in (-2, -1))
        error = as_loss(loss).gradient(step.output, y) / len(x)
        transported = (error @ above).T @ step.states[-3].mean()
        return dataclasses.replace(step, grads=step.grads | {below: step.grads[below] + self.share * transported})


@dataclass(frozen=True)
class Returning(AbstractRule):
    """Dyadic learning that relaxes another time before it learns: freely, or under another nudge."""

    again: Literal["free", "nudged", "not"] = "free"

    @torch.no_grad()
    def estimate(self, net: AbstractNetwork, loss: Loss, x: Tensor, y: Tensor, **options: Any) -> Estimate:
        step = Dyadic(form="joint").estimate(net, loss, x, y)
        if self.again == "not":
            return step
        if self.again == "nudged":
            other = Dyadic(beta=0.1, form="joint").estimate(net, loss, x, y, states=step.states)
            return dataclasses.replace(step, grads={p: (g + other.grads[p]) / 2 for p, g in step.grads.items()})
        assert isinstance(net, Layered)
        free = net.relax(x).states
        weight = next(net.stages[1].map.parameters())
        hebbian = free[1].mean().T @ free[0].mean() / len(x)
        return dataclasses.replace(step, grads=step.grads | {weight: step.grads[weight] + 0.01 * hebbian})
