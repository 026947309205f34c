"""Maps at a point, one after another.

`Linear`, `Conv2d`, `Flatten` and `MaxPool2d` have closed forms, which need no graph and less memory; every other module
goes through autograd, so that a normalisation or a whole block inside a map uses its own derivative.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from dyadnet.network.closed_forms import Conv2dAt, FlattenAt, LinearAt, MaxPool2dAt
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

    @property
    def value(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]: that of the uppermost
        return self.links[-1].value

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
        return LinearAt(module, module.weight.detach(), bias, point, [state])
    with torch.no_grad():
        if type(module) is nn.Conv2d and _plain(module, state) and zero_padded(module):
            return Conv2dAt(module, module.weight, point, state.shape, [module(state)])
        if type(module) is nn.Flatten and _plain(module, state):
            return FlattenAt(state.shape, module(state))
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
            return MaxPool2dAt(switches, state.shape, value)
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
        return _Detour(at, LinearAt(module, weight, None, point, []), module.weight, other)
    return _Detour(at, Conv2dAt(module, weight, point, point().shape, []), module.weight, other)


def _chain(modules: nn.Sequential, point: Point, detours: Detours) -> AbstractLinearisation:
    """Linearise the modules of a map from the bottom up."""
    links: list[AbstractLinearisation] = []
    for module in modules or (nn.Identity(),):
        if links:
            point = _constant(links[-1].value)
        links.append(linearise(module, point, detours))
    learns = [any(p.requires_grad for p in module.parameters()) for module in modules]
    return _Chain(links, learns)


def _constant(value: Tensor) -> Point:
    return lambda: value
