"""Proximal mean field (PMF; Ajanthan and others, 2019): a softmax over the two values of every weight.

    u = softmax(B theta),  theta = (theta_-, theta_+),      w = u_+ - u_-
    theta <- step( theta, B (I - u u^T) g_u ),              g_u = (-g, g)

with I where the derivative of the softmax has diag(u), as published.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from dyadnet.binary.course import Course
from dyadnet.binary.method import sign
from dyadnet.binary.sharpened import AbstractSharpened


@final
@dataclass(frozen=True)
class PMF(AbstractSharpened):
    """Two latents a weight, one a value."""

    def start(self, weight: Tensor, generator: torch.Generator) -> Tensor:
        """Opposite latents."""
        return torch.stack([-0.1 * weight, 0.1 * weight])

    def write(self, out: Tensor, theta: Tensor, course: Course, generator: torch.Generator) -> None:
        """`tanh(B (theta_+ - theta_-) / 2)`, which is `u_+ - u_-`."""
        torch.sub(theta[1], theta[0], out=out).mul_(self.sharpness(course) / 2).tanh_()

    def gradient(self, theta: Tensor, weight: Tensor, grad: Tensor, course: Course) -> Tensor:
        """`B (g_u - u (u . g_u))`."""
        along = weight * grad  # u . g_u
        below = -grad - (1 - weight) / 2 * along
        return torch.stack([below, grad - (1 + weight) / 2 * along]).mul_(self.sharpness(course))

    def signs(self, theta: Tensor) -> Tensor:
        """The likelier value."""
        return sign(theta[1] - theta[0])
