"""What a way to train binary weights has to say; `optimizer.py` does what all have in common."""

import abc
from typing import ClassVar

import torch
from torch import Tensor

from dyadnet.binary.course import Course
from dyadnet.binary.wells import Wells


class AbstractMethod(abc.ABC):
    """How a latent `theta` is turned into the weight of the forward pass, and learns from its gradient.

    Every method is elementwise. Latents have the shape of their weights, behind leading dimensions where a weight has
    several. Hyper-parameters are fields of a frozen dataclass; what is annealed is a function of the course.
    """

    remembers: ClassVar[bool] = False
    """Whether `settle` looks at the latents from before the step: they are copied only then."""

    def start(self, weight: Tensor, generator: torch.Generator) -> Tensor:
        """Return the latents that training starts from.

        Args:
            weight: as initialised, divided by the root of its mean square.
            generator: the source of the method's randomness.
        """
        return 0.1 * weight

    @abc.abstractmethod
    def write(self, out: Tensor, theta: Tensor, course: Course, generator: torch.Generator) -> None:
        """Write the weights that the next forward pass uses into `out`."""

    def gradient(self, theta: Tensor, weight: Tensor, grad: Tensor, course: Course) -> Tensor | None:
        """Return what the base optimiser takes for the gradient of the latents; None if it is to leave them alone.

        Args:
            theta: the latents.
            weight: the weights of the forward pass; they may be overwritten, since `write` makes new ones.
            grad: the gradient of the loss in these; it may be overwritten.
            course: the place of the update that is being made.
        """
        return grad

    def settle(self, theta: Tensor, before: Tensor | None, rate: float, course: Course) -> None:  # noqa: B027
        """Change latents in place once the base optimiser has moved them.

        Args:
            theta: the latents after the step.
            before: those from before it, if the method remembers.
            rate: the learning rate of the step.
            course: the place of the update that is being made.
        """

    def wells(self, course: Course) -> Wells | None:
        """Return the numbers by which `wells.py` does all of the above in one pass; None if it cannot.

        Args:
            course: the place of the update that is being made; the weights it writes are those of the next.
        """
        return None

    def signs(self, theta: Tensor) -> Tensor:
        """Return the binary weights that training has come to, -1 and 1."""
        return sign(theta)

    def active(self, theta: Tensor, grad: Tensor, course: Course) -> Tensor | None:
        """Return where the gradient's multiplier is at work; None for methods that have none."""
        return None


def sign(theta: Tensor, out: Tensor | None = None) -> Tensor:
    """Return -1 or 1 by the sign bit, which zeros have, too.

    >>> sign(torch.tensor([-3.0, 0.0, 0.5]))
    tensor([-1.,  1.,  1.])
    """
    return torch.copysign(theta.new_ones(()), theta, out=out)


def random_signs(like: Tensor, generator: torch.Generator) -> Tensor:
    """Return -1 and 1 with equal chances, of the shape of `like`."""
    drawn = torch.randint(0, 2, like.shape, generator=generator, device=like.device)
    return drawn.to(like.dtype).mul_(2).sub_(1)
