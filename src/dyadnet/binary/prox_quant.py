"""ProxQuant (Bai, Wang and Liberty, 2019): real weights, drawn to -1 and 1 by a proximal step of growing strength.

    theta <- clip( prox( step(theta, g) ), -1, 1 ),      prox of lr lam sum min(|theta - 1|, |theta + 1|):
    prox(theta) = sign(theta) ( 1 + sign(|theta| - 1) max(0, ||theta| - 1| - lr lam) ),      lam = rate * epoch

and from some place of training on the signs are frozen and what else there is learns alone.
"""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from dyadnet.binary.course import Course
from dyadnet.binary.method import AbstractMethod, sign
from dyadnet.bounds import positive


@final
@dataclass(frozen=True)
class ProxQuant(AbstractMethod):
    """Proximal steps towards -1 and 1.

    Args:
        rate: what an epoch adds to the strength.
        freeze: the share of training after which signs no longer change.
    """

    rate: float = 1e-4
    freeze: float = 2 / 3
    remembers: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive(rate=self.rate)
        positive(most=1, freeze=self.freeze)

    def write(self, out: Tensor, theta: Tensor, course: Course, generator: torch.Generator) -> None:
        """The latents themselves; their signs once frozen."""
        sign(theta, out) if course.share >= self.freeze else out.copy_(theta)

    def settle(self, theta: Tensor, before: Tensor | None, rate: float, course: Course) -> None:
        """Take the proximal step, or nothing back."""
        assert before is not None
        if course.share >= self.freeze:
            sign(before, theta)
        else:
            theta.copy_(proximal(theta, rate * self.rate * course.number)).clamp_(-1, 1)


def proximal(theta: Tensor, strength: float) -> Tensor:
    """Return what minimises `(w - theta)^2 / 2 + strength min(|w - 1|, |w + 1|)`, elementwise.

    >>> proximal(torch.tensor([0.2, 0.95, -1.5]), 0.25)
    tensor([ 0.4500,  1.0000, -1.2500])
    """
    beyond = nn.functional.softshrink(theta.abs().sub_(1), strength)
    return beyond.add_(1).copysign_(theta)
