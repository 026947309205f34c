"""Boundary conditions of an output layer: nudged towards (or away from) a target, or clamped to it."""

from functools import cache

import torch
from torch import Tensor

from dyadnet.energy.base import Output
from dyadnet.loss import AbstractLoss, Strength, held
from dyadnet.network.base import AbstractNetwork


def nudged(net: AbstractNetwork, loss: AbstractLoss, y: Tensor, strength: Strength, last: int) -> Output:
    """Return the boundary condition of an output layer `last` that minimises `G(s) - <s, drive> + strength l(s, y)`.

    For linear and clipped outputs (`G = h/2 s^2` on a range) it is the proximal step, exactly; for others, and for
    losses without a proximal step, the loss is linearised at the state before: a fixed point of the updates is
    stationary all the same.

    Raises:
        ValueError: for a nudge away from the target beyond the bound of the network or of the loss.
    """
    strength = loss.applied(strength)
    net.check_nudge(loss, strength * loss.mass(y))
    stiffness = net.stiffness(last)
    if stiffness is not None and loss.exact:
        step = loss.nudge(y, strength / stiffness)
        return lambda drive, before: net.respond(last, step(drive))

    rows = held(loss, y)

    def linearised(drive: Tensor, before: Tensor | None) -> Tensor:
        at = net.respond(last, drive) if before is None else before
        return net.respond(last, net.tilted(drive, -strength * loss.gradient(at, rows(at))))

    return linearised


def both(net: AbstractNetwork, loss: AbstractLoss, y: Tensor, strengths: Tensor, last: int) -> Output:
    """Return the boundary condition of copies of a batch that are nudged with one strength each."""
    targets, each = torch.cat([y] * len(strengths)), strengths.repeat_interleave(len(y))

    @cache
    def of(dimensions: int) -> Output:
        """The condition for outputs of so many dimensions."""
        return nudged(net, loss, targets, each.view(-1, *[1] * (dimensions - 1)), last)

    return lambda drive, before: of(drive.dim())(drive, before)


def clamped(values: Tensor) -> Output:
    """Return the boundary condition that holds the output at `values`."""
    return lambda drive, before: values
