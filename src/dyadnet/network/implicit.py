"""The derivative of a lifted network's prediction, by implicit differentiation at its least point.

There `dE/dz = 0` for the units inside their boxes, A, and the others rest at an end. As a parameter or input t moves,

    dz_A/dt = -H_AA^-1 d/dt (dE/dz)_A        so that        dl/dt = -d/dt <dE/dz, v>,    H_AA v_A = (dl/dz)_A

with v zero elsewhere: the least point of the same quadratic with `dl/dz` in the place of the inputs, and units that are
on or off in that of boxes. It relaxes as the states do. No rule needs it: it is what rules are compared with, and what
shows how the prediction hangs on the inputs.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dyadnet.network.state import AbstractState, Activity
from dyadnet.relax.relaxation import settle

if TYPE_CHECKING:
    import dyadnet.network.lifted  # the network is built on this module


class LeastPoint(torch.autograd.Function):
    """`(net, x, *parameters) -> z_L` at the least point."""

    @staticmethod
    def forward(ctx: Any, net: "dyadnet.network.lifted.Lifted", x: Tensor, *parameters: Tensor) -> Tensor:
        """Relax the states, and keep them."""
        z = [state.mean() for state in net.relax(x).states]
        ctx.net, ctx.parameters = net, parameters
        ctx.save_for_backward(x, *z)
        return z[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        """Return the derivatives of `<z_L, slope>` in `x` and in every parameter."""
        (slope,), (x, *z) = grad_outputs, ctx.saved_tensors
        v = adjoint(ctx.net, z, slope)
        with torch.enable_grad():
            x, z = x.detach().requires_grad_(), [layer.detach().requires_grad_() for layer in z]
            slopes = torch.autograd.grad(ctx.net.energy([x.flatten(1), *z]).sum(), z, create_graph=True)
            product = torch.stack([(s * part).sum() for s, part in zip(slopes, v, strict=True)]).sum()
            wanted = [x, *(p for p in ctx.parameters if p.requires_grad)]
            found = dict(zip(wanted, torch.autograd.grad(-product, wanted, materialize_grads=True), strict=True))
        return None, *(found.get(t) for t in (x, *ctx.parameters))


def adjoint(net: "dyadnet.network.lifted.Lifted", z: Sequence[Tensor], slope: Tensor) -> list[Tensor]:
    """Return `v`, one part a layer, for the slope of a loss in the output layer."""
    inside = [(s > a.lower) & (s < a.upper) for s, a in zip(z, net.activations, strict=True)]
    wiring, size = net.linear(len(slope)), slope.abs().amax(1, keepdim=True).clamp(min=torch.finfo(slope.dtype).tiny)
    sent = slope / size / wiring.blocks[-1].curvature  # slopes are small, and what is settled is measured against 1

    def neuron(k: int, drive: Tensor, feedback: Tensor | None, before: AbstractState | None) -> Activity:
        return Activity(inside[k - 1] * (drive if k < net.depth else drive + sent))

    return [size * state.mean() for state in settle(wiring, neuron, net.relaxation).states]
