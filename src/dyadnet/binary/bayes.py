"""BayesBiNN (Meng, Bachmann and Khan, 2020): natural gradients of Bernoulli weights, sampled by a relaxation.

    delta = 1/2 log( eps / (1 - eps) ),  eps uniform in (0, 1)
    w = tanh( (theta + delta) / T )                                 what the forward pass uses
    s = (1 - w^2 + 1e-10) / ( T (1 - tanh(theta)^2 + 1e-10) )
    theta <- step( theta, N s g + theta )                           N ten times the number of training samples

for a prior without preference. Its base optimiser is `CorrectedMomentum`.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from dyadnet.binary.course import Course
from dyadnet.binary.method import AbstractMethod, random_signs
from dyadnet.bounds import positive

_TINY = 1e-10


@final
@dataclass(frozen=True)
class BayesBiNN(AbstractMethod):
    """Latents are natural parameters of the weights' distribution.

    Args:
        temperature: `T` of the relaxation.
        spread: the size of latents at the start.
    """

    temperature: float = 1e-10
    spread: float = 10.0

    def __post_init__(self) -> None:
        positive(temperature=self.temperature, spread=self.spread)

    def start(self, weight: Tensor, generator: torch.Generator) -> Tensor:
        """Far out, on a side that a coin decides."""
        return self.spread * random_signs(weight, generator)

    def write(self, out: Tensor, theta: Tensor, course: Course, generator: torch.Generator) -> None:
        """A sample."""
        drawn = torch.rand(theta.shape, generator=generator, device=theta.device, dtype=theta.dtype)
        edge = torch.finfo(theta.dtype).eps
        torch.add(theta, drawn.clamp_(edge, 1 - edge).logit_(), alpha=0.5, out=out).div_(self.temperature).tanh_()

    def gradient(self, theta: Tensor, weight: Tensor, grad: Tensor, course: Course) -> Tensor:
        """`N s g + theta`."""
        spread = (1 - theta.tanh().square()).add_(_TINY).mul_(self.temperature)
        scale = (1 - weight.square()).add_(_TINY).div_(spread)
        return grad.mul_(scale).mul_(10 * course.samples).add_(theta)
