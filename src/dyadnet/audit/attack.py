"""Adversarial examples by projected gradient ascent (Madry et al. 2018): the worst inputs near given ones.

    x <- proj( x + step * direction(dl/dx) )

onto the ball of radius epsilon around the sample and the box of valid inputs. The direction is the one that raises the
loss most at a given length: the sign of the gradient in the maximum norm, the gradient itself, scaled, in the Euclidean
one. One step of full length is the fast gradient sign method (Goodfellow et al. 2015).
"""

from dataclasses import dataclass
from math import inf
from typing import Literal, final

import torch
from torch import Tensor

from dyadnet.audit.rows import floored, lengths, over
from dyadnet.audit.sensitivity import input_gradient
from dyadnet.loss import Loss
from dyadnet.network.base import AbstractNetwork


def margin(output: Tensor, y: Tensor) -> Tensor:
    """Return by how much the best wrong class beats the right one, `(batch,)`: a loss that never saturates.

    Args:
        output: one score a class, `(batch, classes)`.
        y: integer classes `(batch,)`.

    >>> margin(torch.tensor([[0.0, 3.0, 1.0]]), torch.tensor([2]))
    tensor([2.])
    """
    right = output.gather(1, y[:, None])
    return (output.scatter(1, y[:, None], -inf).amax(1, keepdim=True) - right)[:, 0]


@final
@dataclass(frozen=True, eq=False)
class Box:
    """Where inputs may lie, and what sizes of changes are measured in.

    Pixels that a network sees as `(x - mean) / std` have the box from `-mean / std` to `(1 - mean) / std` and the unit
    `1 / std`: changes of inputs, measured in units, are changes of pixels.

    Args:
        low, high: the least and the largest valid inputs, numbers or tensors that broadcast to inputs `(batch, ...)`.
        unit: by how much inputs change where a size says 1, likewise.

    Raises:
        ValueError: for an empty box or a unit that is not positive.
    """

    low: Tensor | float = 0.0
    high: Tensor | float = 1.0
    unit: Tensor | float = 1.0

    def __post_init__(self) -> None:
        low, high, unit = map(torch.as_tensor, (self.low, self.high, self.unit))
        if not bool((low < high).all() and (unit > 0).all()):
            raise ValueError(f"a box needs low below high and a positive unit, not {self}")

    def nearest(self, x: Tensor) -> Tensor:
        """Return the valid inputs that are nearest to `x`, of its shape."""
        low, high = (torch.as_tensor(end).to(x) for end in (self.low, self.high))
        return x.clamp(low, high)


PIXELS = Box()
"""Inputs in [0, 1]."""


@final
@dataclass(frozen=True)
class Attack:
    """Projected gradient ascent.

    Args:
        epsilon: how far inputs may move, in the norm and in units of the box.
        norm: the maximum norm or the Euclidean one.
        steps: gradients taken; 1 is the fast gradient method.
        box: of valid inputs.
        loss: what is raised.

    Raises:
        ValueError: for an unknown norm, no steps or a negative radius.
    """

    epsilon: float
    norm: Literal["max", "euclidean"] = "max"
    steps: int = 20
    box: Box = PIXELS
    loss: Loss = margin

    def __post_init__(self) -> None:
        if self.norm not in ("max", "euclidean"):
            raise ValueError(f"the norm is max or euclidean, not {self.norm!r}")
        if self.steps < 1 or not self.epsilon >= 0:
            raise ValueError(f"an attack needs steps and a radius that is not negative, not {self}")

    def worst(self, net: AbstractNetwork, x: Tensor, y: Tensor) -> Tensor:
        """Return inputs within the radius of `x` with the largest loss that was met on the way, of its shape.

        Args:
            net: the network.
            x: inputs `(batch, ...)`, in the box.
            y: targets, as the loss takes them.

        >>> from dyadnet import Layered
        >>> net = Layered.from_sequential(torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False)))
        >>> _ = net.stages[0].map.weight.data.copy_(torch.eye(2))
        >>> Attack(0.25).worst(net, torch.tensor([[0.75, 0.5]]), torch.tensor([0]))
        tensor([[0.5000, 0.7500]])
        """
        worst, highest, at = x, x.new_full((len(x),), -inf), x
        for taken in range(self.steps + 1):
            values, gradient = input_gradient(net, self.loss, at, y)
            higher = values > highest
            highest = values.where(higher, highest)
            worst = at.where(over(higher, at), worst)
            if taken < self.steps:
                moved = (at - x) / self.box.unit + self._stride() * self._direction(self.box.unit * gradient)
                at = self.box.nearest(x + self.box.unit * self._within(moved))
        return worst

    def _stride(self) -> float:
        """A length with which the far side of the ball is in reach."""
        return self.epsilon if self.steps == 1 else 2.5 * self.epsilon / self.steps

    def _direction(self, gradient: Tensor) -> Tensor:
        """The step of length 1 that raises the loss most, given the gradient in units."""
        if self.norm == "max":
            return gradient.sign()
        return gradient / over(floored(lengths(gradient)), gradient)

    def _within(self, moved: Tensor) -> Tensor:
        """Into the ball; the box comes after it, and leaves no point of the ball around a point of the box."""
        if self.norm == "max":
            return moved.clamp(-self.epsilon, self.epsilon)
        return moved * over((self.epsilon / floored(lengths(moved))).clamp(max=1), moved)


@torch.no_grad()
def accuracy(net: AbstractNetwork, x: Tensor, y: Tensor) -> float:
    """Return the share of samples whose class has the largest output."""
    return float((net(x).argmax(1) == y).double().mean())
