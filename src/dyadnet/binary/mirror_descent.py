"""Mirror descent with the map tanh (Ajanthan and others, 2021), in the space of the weights and in its stable form.

    MD-tanh      w <- (E - 1) / (E + 1),  E = (1 + w) / (1 - w) exp(2 B step)      the latents are the weights
                 which is  w <- tanh( artanh(w) + B step ),  step = what the base optimiser would change w by
    stable       w = tanh(B theta),  theta <- step(theta, g)                       g passes straight through the tanh

As `B` grows, weights of the stable form sharpen by themselves; those of the other do not, and are told from the binary
ones at the end by their signs.
"""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from dyadnet.binary.course import Course
from dyadnet.binary.sharpened import AbstractSharpened


@final
@dataclass(frozen=True)
class MDTanh(AbstractSharpened):
    """Mirror descent in the space of weights between -1 and 1."""

    sharpest: float = 100.0
    remembers: ClassVar[bool] = True

    def write(self, out: Tensor, theta: Tensor, course: Course, generator: torch.Generator) -> None:
        """The latents themselves."""
        out.copy_(theta)

    def settle(self, theta: Tensor, before: Tensor | None, rate: float, course: Course) -> None:
        """Take the step in the dual space instead; weights that rounding has made binary may come back."""
        assert before is not None
        inside = 1 - torch.finfo(theta.dtype).eps
        dual = before.clamp(-inside, inside).atanh_()
        theta.sub_(before).mul_(self.sharpness(course)).add_(dual).tanh_()


@final
@dataclass(frozen=True)
class MDTanhStable(AbstractSharpened):
    """Mirror descent with the dual variables kept."""

    def write(self, out: Tensor, theta: Tensor, course: Course, generator: torch.Generator) -> None:
        """`tanh(B theta)`."""
        torch.mul(theta, self.sharpness(course), out=out).tanh_()
