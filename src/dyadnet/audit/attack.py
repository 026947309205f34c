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
@dataclass(frozen=True)
class Attack:
    """Projected gradient ascent.

    Args:
        epsilon: how far inputs may move, in the norm.
        norm: the maximum norm or the Euclidean one.
        steps: gradients taken; 1 is the fast gradient method.
        low, high: the box of valid inputs.
        loss: what is raised.

    Raises:
        ValueError: for an unknown norm, no steps, a negative radius or an empty box.
    """

    epsilon: float
    norm: Literal["max", "euclidean"] = "max"
    steps: int = 20
    low: float = 0.0
    high: float = 1.0
    loss: Loss = margin

    def __post_init__(self) -> None:
        if self.norm not in ("max", "euclidean"):
            raise ValueError(f"the norm is max or euclidean, not {self.norm!r}")
        if self.steps < 1 or not self.epsilon >= 0 or not self.low < self.high:
            raise ValueError(f"an attack needs steps, a radius that is not negative, and a box, not {self}")

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
                at = self._projected(at + self._stride() * self._direction(gradient), x)
        return worst

    def _stride(self) -> float:
        """A length with which the far side of the ball is in reach."""
        return self.epsilon if self.steps == 1 else 2.5 * self.epsilon / self.steps

    def _direction(self, gradient: Tensor) -> Tensor:
        """The step of length 1 that raises the loss most."""
        if self.norm == "max":
            return gradient.sign()
        return gradient / over(floored(lengths(gradient)), gradient)

    def _projected(self, at: Tensor, x: Tensor) -> Tensor:
        """Into the ball, then into the box, which leaves no point of the ball around `x` in the box."""
        moved = at - x
        if self.norm == "max":
            moved = moved.clamp(-self.epsilon, self.epsilon)
        else:
            moved = moved * over((self.epsilon / floored(lengths(moved))).clamp(max=1), moved)
        return (x + moved).clamp(self.low, self.high)


@torch.no_grad()
def accuracy(net: AbstractNetwork, x: Tensor, y: Tensor) -> float:
    """Return the share of samples whose class has the largest output."""
    return float((net(x).argmax(1) == y).double().mean())
