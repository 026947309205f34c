"""Closed forms of maps at a point: linear maps, convolutions, pooling. They need no graph, and less memory.

A point is called when the state below is needed, since an activity is cheaper to compute twice than to keep; what was
made once for looking at it is used up first.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn.grad import conv2d_input, conv2d_weight

from dyadnet.network.linearisation import Above, AbstractLinearisation, Below, Gradients, Point


@final
@dataclass(frozen=True)
class LinearAt(AbstractLinearisation):
    """`nn.Linear`: down `delta W`, `dW = delta^T s`.

    It stands in the inner loop of relaxations, where entering `no_grad` would take longer than the arithmetic.

    Attributes:
        module, weight, bias: what it is of.
        point: gives the state below.
        made: that state, until it is needed.
    """

    module: nn.Linear
    weight: Tensor
    bias: Tensor | None
    point: Point
    made: list[Tensor]
    affine: ClassVar[bool] = True

    @property
    def value(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]: computed when it is asked for
        """Return the value at the point."""
        return nn.functional.linear(self._below(), self.weight, self.bias)

    def send(self, below: Below) -> Above:
        """Return the value at another state."""
        # A product with few columns takes twice the time of its transpose on a processor.
        if self.bias is not None and self.bias.shape[0] < 16 and below.is_cpu and below.dim() == 2:
            return torch.addmm(self.bias.unsqueeze(1), self.weight, below.t()).t()
        return nn.functional.linear(below, self.weight, self.bias)

    def pull(self, delta: Above, *, down: bool = True, learn: bool = True) -> tuple[Below | None, Gradients]:
        """Return the gradients of `sum(value * delta)`."""
        grads: Gradients = {}
        if learn and self.module.weight.requires_grad:
            grads[self.module.weight] = delta.flatten(0, -2).T @ self._below().flatten(0, -2)
        if learn and self.module.bias is not None and self.module.bias.requires_grad:
            grads[self.module.bias] = delta.flatten(0, -2).sum(0)
        return delta @ self.weight if down else None, grads

    def feedback(self, delta: Above, onto: Below | None = None, gain: float = 1.0) -> Below:
        """Return `onto + gain J^T delta`."""
        if onto is None:
            return delta @ self.weight
        if delta.dim() != 2:
            return super().feedback(delta, onto, gain)
        return torch.addmm(onto, delta, self.weight, alpha=gain)

    def push(self, direction: Below) -> Above:
        """Return `J direction`."""
        return nn.functional.linear(direction, self.weight)

    def learn_push(self, direction: Below, delta: Above) -> Gradients:
        """Return the gradient of `sum(push(direction) * delta)`."""
        weight = self.module.weight
        return {weight: delta.flatten(0, -2).T @ direction.flatten(0, -2)} if weight.requires_grad else {}

    def _below(self) -> Tensor:
        return self.made.pop() if self.made else self.point()


@final
@dataclass(frozen=True)
class Conv2dAt(AbstractLinearisation):
    """`nn.Conv2d`: down the transposed convolution, `dW` the correlation of `delta` with the lower state.

    Attributes:
        module, weight: what it is of.
        point: gives the state below.
        shape: of that state.
        made: the value, until it is asked for: whoever asks keeps it, or has no more need of it.
    """

    module: nn.Conv2d
    weight: Tensor
    point: Point
    shape: torch.Size
    made: list[Tensor]

    @property
    def value(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]: handed over
        """Return the value at the point."""
        if self.made:
            return self.made.pop()
        with torch.no_grad():
            return self.module(self.point())

    @torch.no_grad()
    def pull(self, delta: Above, *, down: bool = True, learn: bool = True) -> tuple[Below | None, Gradients]:
        """Return the gradients of `sum(value * delta)`."""
        conv, grads, geometry = self.module, Gradients(), self._geometry()
        if not learn or not any(p.requires_grad for p in conv.parameters()):
            return conv2d_input(self.shape, self.weight, delta, *geometry) if down else None, grads
        # One call for all three: it reads delta once, and needs no stand-in for the lower state.
        stride, padding, dilation, groups = geometry
        mask, biases = [down, True, conv.bias is not None], None if conv.bias is None else list(conv.bias.shape)
        below, *found = torch.ops.aten.convolution_backward(
            delta, self.point(), self.weight, biases, stride, padding, dilation, False, [0, 0], groups, mask
        )
        for parameter, grad in zip((conv.weight, conv.bias), found, strict=True):
            if parameter is not None and parameter.requires_grad:
                grads[parameter] = grad
        return below if down else None, grads

    @torch.no_grad()
    def push(self, direction: Below) -> Above:
        """Return `J direction`."""
        return nn.functional.conv2d(direction, self.weight, None, *self._geometry())

    @torch.no_grad()
    def learn_push(self, direction: Below, delta: Above) -> Gradients:
        """Return the gradient of `sum(push(direction) * delta)`."""
        weight = self.module.weight
        grad = conv2d_weight(direction, weight.shape, delta, *self._geometry())
        return {weight: grad} if weight.requires_grad else {}

    def _geometry(self) -> Any:
        return self.module.stride, self.module.padding, self.module.dilation, self.module.groups


@final
@dataclass(frozen=True)
class MaxPool2dAt(AbstractLinearisation):
    """`nn.MaxPool2d`: down through the switches that the point set."""

    switches: Tensor
    shape: torch.Size
    value: Tensor

    def pull(self, delta: Above, *, down: bool = True, learn: bool = True) -> tuple[Below | None, Gradients]:
        """Return the gradients of `sum(value * delta)`."""
        planes = delta.new_zeros(self.shape).flatten(2)
        return planes.scatter_add_(2, self.switches.flatten(2), delta.flatten(2)).view(self.shape) if down else None, {}

    def push(self, direction: Below) -> Above:
        """Return `J direction`."""
        return direction.flatten(2).gather(2, self.switches.flatten(2)).view(self.value.shape)

    def learn_push(self, direction: Below, delta: Above) -> Gradients:
        """Return the gradient of `sum(push(direction) * delta)`."""
        return {}


@final
@dataclass(frozen=True)
class FlattenAt(AbstractLinearisation):
    """`nn.Flatten`: the same numbers in another shape."""

    shape: torch.Size
    value: Tensor

    def pull(self, delta: Above, *, down: bool = True, learn: bool = True) -> tuple[Below | None, Gradients]:
        """Return the gradients of `sum(value * delta)`."""
        return delta.reshape(self.shape) if down else None, {}

    def push(self, direction: Below) -> Above:
        """Return `J direction`."""
        return direction.reshape(self.value.shape)

    def learn_push(self, direction: Below, delta: Above) -> Gradients:
        """Return the gradient of `sum(push(direction) * delta)`."""
        return {}
