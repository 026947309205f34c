"""Maps at a point, one after another.

`Linear`, `Conv2d`, `Flatten` and `MaxPool2d` have closed forms, which need no graph and less memory; every other module
goes through autograd, so that a normalisation or a whole block inside a map uses its own derivative.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn.grad import conv2d_input, conv2d_weight

from dyadnet.network.linearisation import (
    NO_DETOURS,
    Above,
    AbstractLinearisation,
    Below,
    Detours,
    Gradients,
    Point,
    merge,
)
from dyadnet.network.modules import detourable, hooked, in_sequence, zero_padded


@final
@dataclass(frozen=True)
class _Linear(AbstractLinearisation):
    """`nn.Linear`: down `delta W`, `dW = delta^T s`.

    It stands in the inner loop of relaxations, where entering `no_grad` would take longer than the arithmetic.

    Attributes:
        module, weight, bias: what it is of.
        point: gives the state below.
        made: that state, until it is asked for.
    """

    module: nn.Linear
    weight: Tensor
    bias: Tensor | None
    point: Point
    made: list[Tensor]
    affine: ClassVar[bool] = True

    @property
    def value(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]: computed when it is asked for
        return nn.functional.linear(self._below(), self.weight, self.bias)

    def send(self, below: Below) -> Above:
        # A product with few columns takes twice the time of its transpose on a processor.
        if self.bias is not None and self.bias.shape[0] < 16 and below.is_cpu and below.dim() == 2:
            return torch.addmm(self.bias.unsqueeze(1), self.weight, below.t()).t()
        return nn.functional.linear(below, self.weight, self.bias)

    def pull(self, delta: Above, *, down: bool = True, learn: bool = True) -> tuple[Below | None, Gradients]:
        grads: Gradients = {}
        if learn and self.module.weight.requires_grad:
            grads[self.module.weight] = delta.flatten(0, -2).T @ self._below().flatten(0, -2)
        if learn and self.module.bias is not None and self.module.bias.requires_grad:
            grads[self.module.bias] = delta.flatten(0, -2).sum(0)
        return delta @ self.weight if down else None, grads

    def feedback(self, delta: Above, onto: Below | None = None, gain: float = 1.0) -> Below:
        if onto is None:
            return delta @ self.weight
        if delta.dim() != 2:
            return super().feedback(delta, onto, gain)
        return torch.addmm(onto, delta, self.weight, alpha=gain)

    def push(self, direction: Below) -> Above:
        return nn.functional.linear(direction, self.weight)

    def learn_push(self, direction: Below, delta: Above) -> Gradients:
        weight = self.module.weight
        return {weight: delta.flatten(0, -2).T @ direction.flatten(0, -2)} if weight.requires_grad else {}

    def _below(self) -> Tensor:
        return self.made.pop() if self.made else self.point()


@final
@dataclass(frozen=True)
class _Conv2d(AbstractLinearisation):
    """`nn.Conv2d`: down the transposed convolution, `dW` the correlation of `delta` with the lower state."""

    module: nn.Conv2d
    weight: Tensor
    point: Point
    shape: torch.Size
    value: Tensor

    @torch.no_grad()
    def pull(self, delta: Above, *, down: bool = True, learn: bool = True) -> tuple[Below | None, Gradients]:
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
        return nn.functional.conv2d(direction, self.weight, None, *self._geometry())

    @torch.no_grad()
    def learn_push(self, direction: Below, delta: Above) -> Gradients:
        weight = self.module.weight
        grad = conv2d_weight(direction, weight.shape, delta, *self._geometry())
        return {weight: grad} if weight.requires_grad else {}

    def _geometry(self) -> Any:
        return self.module.stride, self.module.padding, self.module.dilation, self.module.groups


@final
@dataclass(frozen=True)
class _MaxPool2d(AbstractLinearisation):
    """`nn.MaxPool2d`: down through the switches that the point set."""

    switches: Tensor
    shape: torch.Size
    value: Tensor

    def pull(self, delta: Above, *, down: bool = True, learn: bool = True) -> tuple[Below | None, Gradients]:
        planes = delta.new_zeros(self.shape).flatten(2)
        return planes.scatter_add_(2, self.switches.flatten(2), delta.flatten(2)).view(self.shape) if down else None, {}

    def push(self, direction: Below) -> Above:
        return direction.flatten(2).gather(2, self.switches.flatten(2)).view(self.value.shape)

    def learn_push(self, direction: Below, delta: Above) -> Gradients:
        return {}


@final
@dataclass(frozen=True)
class _Flatten(AbstractLinearisation):
    """`nn.Flatten`: the same numbers in another shape."""

    shape: torch.Size
    value: Tensor

    def pull(self, delta: Above, *, down: bool = True, learn: bool = True) -> tuple[Below | None, Gradients]:
        return delta.reshape(self.shape) if down else None, {}

    def push(self, direction: Below) -> Above:
        return direction.reshape(self.value.shape)

    def learn_push(self, direction: Below, delta: Above) -> Gradients:
        return {}


@final
@dataclass(frozen=True)
class _Graph(AbstractLinearisation):
    """Any module, by autograd."""

    module: nn.Module
    leaf: Tensor
    output: Tensor
    value: Tensor

    def pull(self, delta: Above, *, down: bool = True, learn: bool = True) -> tuple[Below | None, Gradients]:
        wanted = [p for p in self.module.parameters() if p.requires_grad] if learn else []
        down = down and self.leaf.requires_grad
        inputs = [self.leaf, *wanted] if down else wanted
        if not inputs:
            return None, {}
        pulled = torch.autograd.grad(
            self.output, inputs, delta.to(self.output.dtype), retain_graph=True, materialize_grads=True
        )
        return pulled[0] if down else None, dict(zip(wanted, pulled[-len(wanted) :] if wanted else (), strict=True))

    def push(self, direction: Below) -> Above:
        # The pull-back is linear in delta: its own transpose, taken anywhere, is the push-forward.
        with torch.enable_grad():
            delta = torch.zeros_like(self.output, requires_grad=True)
            pulled = torch.autograd.grad(self.output, self.leaf, delta, create_graph=True, materialize_grads=True)[0]
        if not pulled.requires_grad:
            return torch.zeros_like(self.value)
        return torch.autograd.grad(pulled, delta, direction.to(pulled.dtype), retain_graph=True)[0].to(self.value.dtype)

    def learn_push(self, direction: Below, delta: Above) -> Gradients:
        wanted = [p for p in self.module.parameters() if p.requires_grad]
        if not wanted:
            return {}
        with torch.enable_grad():
            pulled = torch.autograd.grad(self.output, self.leaf, delta.to(self.output.dtype), create_graph=True)[0]
            product = (pulled * direction).sum() + sum(p.sum() * 0 for p in wanted)
            found = torch.autograd.grad(product, wanted, retain_graph=True)
        return dict(zip(wanted, found, strict=True))


@final
@dataclass(frozen=True)
class _Detour(AbstractLinearisation):
    """A linear map or a convolution that is left by other weights on the way down; if they learn, then what its own do.

    Attributes:
        at: the map.
        back: the same map with the other weights, of which only the way down is used.
        weight, other: its own weights and the others.
    """

    at: AbstractLinearisation
    back: AbstractLinearisation
    weight: Tensor
    other: Tensor

    @property
    def value(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]: that of the map
        return self.at.value

    @property
    def affine(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]: as the map
        return self.at.affine

    def send(self, below: Below) -> Above:
        return self.at.send(below)

    def pull(self, delta: Above, *, down: bool = True, learn: bool = True) -> tuple[Below | None, Gradients]:
        _, grads = self.at.pull(delta, down=False, learn=learn)
        return self.feedback(delta) if down else None, self._mirrored(grads)

    def feedback(self, delta: Above, onto: Below | None = None, gain: float = 1.0) -> Below:
        return self.back.feedback(delta, onto, gain).to(delta.dtype)

    def push(self, direction: Below) -> Above:
        return self.at.push(direction)

    def learn_push(self, direction: Below, delta: Above) -> Gradients:
        return self._mirrored(self.at.learn_push(direction, delta))

    def _mirrored(self, grads: Gradients) -> Gradients:
        if self.other.requires_grad and self.weight in grads:
            grads[self.other] = grads[self.weight].clone()
        return grads


@final
@dataclass(frozen=True)
class _Chain(AbstractLinearisation):
    """Modules one after another, each at the value of the one below."""

    links: Sequence[AbstractLinearisation]
    learns: Sequence[bool]
    value: Tensor

    def pull(self, delta: Above, *, down: bool = True, learn: bool = True) -> tuple[Below | None, Gradients]:
        grads: Gradients = {}
        below: Tensor | None = delta
        lowest = 0 if down or not learn else self.learns.index(True) if any(self.learns) else len(self.links)
        for i in range(len(self.links) - 1, lowest - 1, -1):
            if below is None:
                break
            needed = down or i > lowest
            below, found = self.links[i].pull(below, down=needed, learn=learn)
            merge(grads, found)
        return below if down else None, grads

    def push(self, direction: Below) -> Above:
        for link in self.links:
            direction = link.push(direction)
        return direction

    def learn_push(self, direction: Below, delta: Above) -> Gradients:
        directions = [direction]
        for link in self.links[:-1]:
            directions.append(link.push(directions[-1]))
        grads: Gradients = {}
        for i in range(len(self.links) - 1, -1, -1):
            merge(grads, self.links[i].learn_push(directions[i], delta))
            delta = self.links[i].feedback(delta) if any(self.learns[:i]) else delta
        return grads


def linearise(module: nn.Module, point: Point, detours: Detours = NO_DETOURS) -> AbstractLinearisation:
    """Return `module` at `point()`, a state of shape `(batch, ...)`.

    Args:
        module: the map.
        point: gives the state.
        detours: the weights through which differences leave some of its linear maps and convolutions downwards, in the
            place of their own.

    >>> layer = nn.Linear(2, 1, bias=False)
    >>> _ = nn.init.constant_(layer.weight, 3.0)
    >>> at = linearise(layer, lambda: torch.tensor([[1.0, 2.0]]))
    >>> at.value
    tensor([[9.]])
    >>> at.pull(torch.tensor([[0.5]]))[0]
    tensor([[1.5000, 1.5000]])
    """
    if in_sequence(module):
        return _chain(module, point, detours)
    other = detours.get(module)
    return _single(module, point) if other is None else _detour(module, other, point)


def _single(module: nn.Module, point: Point) -> AbstractLinearisation:
    """One module, by its closed form where it has one."""
    state = point()
    if type(module) is nn.Linear and _plain(module, state) and state.shape[-1] == module.in_features:
        bias = None if module.bias is None else module.bias.detach()
        return _Linear(module, module.weight.detach(), bias, point, [state])
    with torch.no_grad():
        if type(module) is nn.Conv2d and _plain(module, state) and zero_padded(module):
            return _Conv2d(module, module.weight, point, state.shape, module(state))
        if type(module) is nn.Flatten and _plain(module, state):
            return _Flatten(state.shape, module(state))
        if type(module) is nn.MaxPool2d and _plain(module, state) and not module.return_indices:
            value, switches = nn.functional.max_pool2d(
                state,
                module.kernel_size,
                module.stride,
                module.padding,
                module.dilation,
                module.ceil_mode,
                return_indices=True,
            )
            return _MaxPool2d(switches, state.shape, value)
    with torch.enable_grad():
        leaf = state.detach()
        if leaf.is_floating_point() or leaf.is_complex():  # indices of an embedding have no gradient
            leaf.requires_grad_()
        output = module(leaf)
    return _Graph(module, leaf, output, output.detach())


def _plain(module: nn.Module, state: Tensor) -> bool:
    """Whether nothing (a hook, autocast) can change what the module computes."""
    return not hooked(module) and not torch.is_autocast_enabled(state.device.type)


def _detour(module: nn.Module, other: Tensor, point: Point) -> AbstractLinearisation:
    """One module that is left by other weights."""
    at, weight = _single(module, point), other.detach()
    assert detourable(module)
    if isinstance(module, nn.Linear):
        return _Detour(at, _Linear(module, weight, None, point, []), module.weight, other)
    return _Detour(at, _Conv2d(module, weight, point, point().shape, at.value), module.weight, other)


def _chain(modules: nn.Sequential, point: Point, detours: Detours) -> AbstractLinearisation:
    """Linearise the modules of a map from the bottom up."""
    links: list[AbstractLinearisation] = []
    for module in modules:
        links.append(linearise(module, point, detours))
        point = _constant(links[-1].value)
    learns = [any(p.requires_grad for p in module.parameters()) for module in modules]
    return _Chain(links, learns, point())


def _constant(value: Tensor) -> Point:
    return lambda: value
