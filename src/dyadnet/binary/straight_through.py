"""The straight-through estimator and BinaryConnect: the gradient in the binary weights is that of the latents.

    w = sign(theta), or in the stochastic form +1 with probability clip((theta + 1) / 2, 0, 1)
    theta <- clip( step(theta, g), -clip, clip )

BinaryConnect (Courbariaux and others, 2015) is the one with `clip = 1`. It also scales the learning rate of a layer by
`sqrt((fan_in + fan_out) / 1.5)`, which a group of parameters with its own learning rate does.
"""

from dataclasses import dataclass
from math import inf
from typing import final

import torch
from torch import Tensor

from dyadnet.binary.course import Course
from dyadnet.binary.method import AbstractMethod, sign
from dyadnet.binary.wells import Wells
from dyadnet.bounds import bounded


@final
@dataclass(frozen=True)
class STE(AbstractMethod):
    """Binary weights whose gradient is handed to the latents as it is.

    Args:
        clip: the largest latent; zero for none.
    """

    clip: float = 0.0

    def __post_init__(self) -> None:
        bounded(clip=self.clip)

    def write(self, out: Tensor, theta: Tensor, course: Course, generator: torch.Generator) -> None:
        """The sign."""
        sign(theta, out)

    def settle(self, theta: Tensor, before: Tensor | None, rate: float, course: Course) -> None:
        """Clip."""
        if self.clip:
            theta.clamp_(-self.clip, self.clip)

    def wells(self, course: Course) -> Wells:
        """Binary weights from the start, and whole gradients."""
        return Wells(most=self.clip or inf)


@final
@dataclass(frozen=True)
class BinaryConnect(AbstractMethod):
    """The straight-through estimator with latents between -1 and 1.

    Args:
        stochastic: whether weights are drawn, `1` with probability `(theta + 1) / 2`, instead of the sign.
    """

    stochastic: bool = False

    def write(self, out: Tensor, theta: Tensor, course: Course, generator: torch.Generator) -> None:
        """The sign, or a draw."""
        if not self.stochastic:
            sign(theta, out)
            return
        drawn = torch.rand(theta.shape, generator=generator, device=theta.device, dtype=theta.dtype)
        sign(theta.add(1).div_(2).sub_(drawn), out)

    def settle(self, theta: Tensor, before: Tensor | None, rate: float, course: Course) -> None:
        """Clip."""
        theta.clamp_(-1, 1)

    def wells(self, course: Course) -> Wells | None:
        """Those of the estimator, but for draws."""
        return None if self.stochastic else Wells(most=1.0)
