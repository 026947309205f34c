"""The derivative of the least point of a quadratic over boxes, by implicit differentiation.

There `dE/dz = 0` for the units inside their boxes, A, and the others rest at an end. As a parameter or input t moves,

    dz_A/dt = -H_AA^-1 d/dt (dE/dz)_A        so that        dl/dt = -d/dt <dE/dz, v>,    H_AA v_A = (dl/dz)_A

with v zero elsewhere: the least point of the same quadratic with `dl/dz` in the place of the inputs, and units that are
on or off in that of boxes. It relaxes as the states do. No rule needs it: it is what rules are compared with, and what
shows how the prediction hangs on the inputs.
"""

import abc
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call

from dyadnet.network.base import AbstractNetwork
from dyadnet.network.quadratic import QuadraticWiring
from dyadnet.network.state import AbstractState, Activity
from dyadnet.relax.relaxation import settle


class AbstractQuadratic(AbstractNetwork):
    """A network whose states are the least point of a quadratic over boxes.

    Attributes:
        depth: the number of layers.
    """

    depth: int

    @abc.abstractmethod
    def energy(self, z: Sequence[Tensor]) -> Tensor:
        """Return the quadratic of every sample, `(batch,)`, differentiable in `z` (inputs first) and in parameters."""

    @abc.abstractmethod
    def linear(self, batch: int) -> QuadraticWiring:
        """Return the wiring of the same quadratic without inputs, biases and boxes: the least point is zero."""

    @abc.abstractmethod
    def inside(self, k: int, s: Tensor) -> Tensor:
        """Return which states of layer k lie inside their boxes, and at no end."""


class LeastPoint(torch.autograd.Function):
    """`(net, x, *parameters) -> z_L` at the least point."""

    @staticmethod
    def forward(ctx: Any, net: AbstractQuadratic, x: Tensor, *parameters: Tensor) -> Tensor:
        """Relax the states, and keep them."""
        z = [state.mean() for state in net.relax(x).states]
        ctx.net = net
        ctx.save_for_backward(x, *z, *parameters)
        return z[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        """Return the derivatives of `<z_L, slope>` in `x` and in every parameter."""
        (slope,), net, (x, *others) = grad_outputs, ctx.net, ctx.saved_tensors
        z = [layer.detach().requires_grad_() for layer in others[: net.depth]]
        held = [p.detach().requires_grad_(p.requires_grad) for p in others[net.depth :]]
        x = x.detach().requires_grad_()

        def product() -> Tensor:
            v = adjoint(net, z, slope)
            slopes = torch.autograd.grad(net.energy([x.flatten(1), *z]).sum(), z, create_graph=True)
            return torch.stack([(s * part).sum() for s, part in zip(slopes, v, strict=True)]).sum()

        with torch.enable_grad():
            wanted = [x, *(p for p in held if p.requires_grad)]
            slopes = torch.autograd.grad(-_under(net, held, product), wanted, materialize_grads=True)
        found = dict(zip(wanted, slopes, strict=True))
        return None, *(found.get(t) for t in (x, *held))


class _Under(nn.Module):
    """Calls a function; as a module, while its network has other parameters."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, function: Callable[[], Tensor]) -> Tensor:
        """Return what the function returns."""
        return function()


def _under(net: nn.Module, parameters: Sequence[Tensor], function: Callable[[], Tensor]) -> Tensor:
    """Call a function while a network has the parameters of its forward pass, whatever it has by now."""
    named = zip((name for name, _ in net.named_parameters()), parameters, strict=True)
    return functional_call(_Under(net), {f"net.{name}": p for name, p in named}, (function,))


def adjoint(net: AbstractQuadratic, z: Sequence[Tensor], slope: Tensor) -> list[Tensor]:
    """Return `v`, one part a layer, for the slope of a loss in the output layer."""
    inside = [net.inside(k, s) for k, s in enumerate(z, 1)]
    wiring, size = net.linear(len(slope)), slope.abs().amax(1, keepdim=True).clamp(min=torch.finfo(slope.dtype).tiny)
    sent = slope / size / wiring.blocks[-1].curvature  # slopes are small, and what is settled is measured against 1

    def neuron(k: int, drive: Tensor, feedback: Tensor | None, before: AbstractState | None) -> Activity:
        return Activity(inside[k - 1] * (drive if k < net.depth else drive + sent))

    return [size * state.mean() for state in settle(wiring, neuron, net.relaxation).states]
