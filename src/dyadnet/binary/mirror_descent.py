"""Mirror descent with the map tanh (Ajanthan and others, 2021), in the space of the weights and in its stable form.

    MD-tanh      w <- (E - 1) / (E + 1),  E = (1 + w) / (1 - w) exp(2 B step)      the latents are the weights
                 which is  w <- tanh( artanh(w) + B step ),  step = what the base optimiser would change w by
    stable       w = tanh(B theta),  theta <- step(theta, g)                       g passes straight through the tanh

`B` grows by equal factors from 1. As it does, weights of the stable form sharpen by themselves; those of the other do
not, and are told from the binary ones at the end by their signs.
"""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from dyadnet.binary.course import Course, geometric
from dyadnet.binary.method import AbstractMethod, check


@final
@dataclass(frozen=True)
class MDTanh(AbstractMethod):
    """Mirror descent in the space of weights between -1 and 1.

    Args:
        sharpest: what `B` grows to.
        anneal: the share of training over which it does.
    """

    sharpest: float = 100.0
    anneal: float = 0.9
    remembers: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check("sharpest", self.sharpest)
        check("anneal", self.anneal, zero=True, most=1)

    def write(self, out: Tensor, theta: Tensor, course: Course, generator: torch.Generator) -> None:
        """The latents themselves."""
        out.copy_(theta)

    def settle(self, theta: Tensor, before: Tensor | None, rate: float, course: Course) -> None:
        """Take the step in the dual space instead; weights that rounding has made binary may come back."""
        assert before is not None
        inside = 1 - torch.finfo(theta.dtype).eps
        scale = geometric(1.0, self.sharpest, course.share, self.anneal)
        dual = before.clamp(-inside, inside).atanh_()
        theta.sub_(before).mul_(scale).add_(dual).tanh_()


@final
@dataclass(frozen=True)
class MDTanhStable(AbstractMethod):
    """Mirror descent with the dual variables kept.

    Args:
        sharpest: what `B` grows to.
        anneal: the share of training over which it does.
    """

    sharpest: float = 1000.0
    anneal: float = 0.9

    def __post_init__(self) -> None:
        check("sharpest", self.sharpest)
        check("anneal", self.anneal, zero=True, most=1)

    def write(self, out: Tensor, theta: Tensor, course: Course, generator: torch.Generator) -> None:
        """`tanh(B theta)`."""
        torch.mul(theta, geometric(1.0, self.sharpest, course.share, self.anneal), out=out).tanh_()
