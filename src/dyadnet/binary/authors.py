"""The published training loop of AdaSTE, with its constants and its quirks: for reproduction, not for use.

It differs from the equations in `adaste.py`: a multiplier is at work only where `|g| > 1e-3`, which is almost nowhere;
it is capped at 1/2, and half as large where weights are binary; for latents between the wells a sign is wrong on the
positive side. Latents start at -10 or 10 and are never clipped, gradients are multiplied by `N^2`, N ten times the
number of training samples, and `mu` grows by a factor an epoch. Its base optimiser is `CorrectedMomentum` with a weight
decay of 1. Two things are left out: the second pass through the network, for reports alone, and that a network was
tested with the weights from before the last update.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from dyadnet.binary.adaste import minimiser
from dyadnet.binary.course import Course
from dyadnet.binary.method import AbstractMethod, random_signs
from dyadnet.bounds import positive

THRESHOLD = 1e-3  # of gradients, and once weights are binary of latents
CAP = 0.5
NEAR = 1e-6  # latents nearer to zero have no side


def published_multiplier(theta: Tensor, grad: Tensor, mu: float, alpha: float) -> Tensor:
    """Return the multiplier of the published loop, elementwise.

    >>> theta, grad = torch.tensor([4.0, 4.0, 4.0]), torch.tensor([1.0, -1.0, 1e-4])
    >>> published_multiplier(theta, grad, mu=100.0, alpha=0.01)
    tensor([0.2500, 0.0000, 1.0000])
    """
    size, significant = theta.abs(), grad.abs() > THRESHOLD
    towards, away = significant & (theta * grad > 0), significant & (theta * grad < 0)
    if mu * alpha >= 1:
        outer, plain, crossed = size > THRESHOLD, 1.0, 1 / size
    else:
        outer, plain = size > max(NEAR, 1 - mu * alpha), 1 / (1 + mu)
        crossed = theta.new_tensor(1 + 2 * mu + mu * alpha) / ((1 + mu) * size)  # a tensor: divided, not inverted
    c = torch.where(towards & outer, crossed.clamp(0, CAP), torch.full_like(theta, plain))
    c = torch.where(away & outer, torch.zeros_like(c), c)
    if mu * alpha >= 1:
        return c
    inner = (size > NEAR) & (size < 1 - mu * alpha)
    between = (2 * mu * (1 + alpha) - theta) / ((1 + mu) * size)
    return torch.where(towards & inner, between.clamp(0, CAP), c)


@final
@dataclass(frozen=True)
class PublishedAdaSTE(AbstractMethod):
    """AdaSTE as its authors' loop computes it.

    Args:
        alpha: how far beyond -1 and 1 the wells lie.
        mu: how deep the wells are before the first epoch.
        growth: by what that is multiplied at the start of an epoch, until it is `1/alpha`.
        spread: the size of latents at the start.
    """

    alpha: float = 0.01
    mu: float = 0.01
    growth: float = 1.05
    spread: float = 10.0

    def __post_init__(self) -> None:
        positive(alpha=self.alpha, mu=self.mu, growth=self.growth, spread=self.spread)

    def depth(self, course: Course) -> float:
        """Return `mu`, multiplied up epoch by epoch as the loop does it."""
        mu = self.mu
        for _ in range(course.number):
            before, mu = mu, min(mu * self.growth, 1 / self.alpha)
            if mu == before:  # and will be so for ever
                break
        return mu

    def start(self, weight: Tensor, generator: torch.Generator) -> Tensor:
        """Far out, on a side that a coin decides."""
        return self.spread * random_signs(weight, generator)

    def write(self, out: Tensor, theta: Tensor, course: Course, generator: torch.Generator) -> None:
        """The minimiser."""
        minimiser(theta, self.depth(course), self.alpha, out)

    def gradient(self, theta: Tensor, weight: Tensor, grad: Tensor, course: Course) -> Tensor:
        """`N c g N`."""
        often = 10 * course.samples
        return (published_multiplier(theta, grad, self.depth(course), self.alpha) * grad).mul_(often).mul_(often)

    def active(self, theta: Tensor, grad: Tensor, course: Course) -> Tensor:
        """Where the gradient is large enough for a multiplier, and meets or leaves its latent's side."""
        return grad.abs() > THRESHOLD
