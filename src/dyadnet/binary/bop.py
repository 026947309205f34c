"""Bop (Helwegen and others, 2019): no latent weights, but a running mean of gradients that decides when to flip.

m <- (1 - gamma) m + gamma g,        w <- -w where |m| > tau and m has the sign of w
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from dyadnet.binary.course import Course
from dyadnet.binary.method import AbstractMethod, sign
from dyadnet.bounds import bounded, positive


@final
@dataclass(frozen=True)
class Bop(AbstractMethod):
    """Binary weights that flip; the base optimiser and its learning rate do not concern them.

    Args:
        gamma: how fast the mean forgets.
        threshold: `tau`, the mean gradient that flips a weight.
    """

    gamma: float = 1e-4
    threshold: float = 1e-8

    def __post_init__(self) -> None:
        positive(most=1, gamma=self.gamma)
        bounded(threshold=self.threshold)

    def start(self, weight: Tensor, generator: torch.Generator) -> Tensor:
        """The weight and the mean."""
        return torch.stack([sign(weight), torch.zeros_like(weight)])

    def write(self, out: Tensor, theta: Tensor, course: Course, generator: torch.Generator) -> None:
        """The weight."""
        out.copy_(theta[0])

    def gradient(self, theta: Tensor, weight: Tensor, grad: Tensor, course: Course) -> None:
        """Flip."""
        own, mean = theta
        mean.lerp_(grad, self.gamma)
        own.mul_(1 - 2 * (mean * own > self.threshold).to(own.dtype))

    def signs(self, theta: Tensor) -> Tensor:
        """The weight."""
        return theta[0].clone()
