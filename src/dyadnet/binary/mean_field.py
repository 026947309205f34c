"""Proximal mean field (PMF; Ajanthan and others, 2019): a softmax over the two values of every weight.

    u = softmax(B theta),  theta = (theta_-, theta_+),      w = u_+ - u_-
    theta <- step( theta, B (I - u u^T) g_u ),              g_u = (-g, g)

with I where the derivative of the softmax has diag(u), as published. `B` grows by equal factors from 1.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from dyadnet.binary.course import Course, geometric
from dyadnet.binary.method import AbstractMethod, check, sign


@final
@dataclass(frozen=True)
class PMF(AbstractMethod):
    """Two latents a weight, one a value.

    Args:
        sharpest: what `B` grows to.
        anneal: the share of training over which it does.
    """

    sharpest: float = 1000.0
    anneal: float = 0.9

    def __post_init__(self) -> None:
        check("sharpest", self.sharpest)
        check("anneal", self.anneal, zero=True, most=1)

    def start(self, weight: Tensor, generator: torch.Generator) -> Tensor:
        """Opposite latents."""
        return torch.stack([-0.1 * weight, 0.1 * weight])

    def write(self, out: Tensor, theta: Tensor, course: Course, generator: torch.Generator) -> None:
        """`tanh(B (theta_+ - theta_-) / 2)`, which is `u_+ - u_-`."""
        torch.sub(theta[1], theta[0], out=out).mul_(self._scale(course) / 2).tanh_()

    def gradient(self, theta: Tensor, weight: Tensor, grad: Tensor, course: Course) -> Tensor:
        """`B (g_u - u (u . g_u))`."""
        along = weight * grad  # u . g_u
        below = -grad - (1 - weight) / 2 * along
        return torch.stack([below, grad - (1 + weight) / 2 * along]).mul_(self._scale(course))

    def signs(self, theta: Tensor) -> Tensor:
        """The likelier value."""
        return sign(theta[1] - theta[0])

    def _scale(self, course: Course) -> float:
        return geometric(1.0, self.sharpest, course.share, self.anneal)
