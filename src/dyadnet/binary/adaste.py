"""AdaSTE: a bilevel problem's gradient by directional finite differences of adaptive spacing (paper B; thesis 5.2).

A weight minimises a double well around its latent,

    E(w; theta) = (w - theta)^2 / 2 + mu/2 (|w| - (1 + alpha))^2      for -1 <= w <= 1
    s(theta)    = argmin_w E = clip( (theta + mu (1 + alpha) sign theta) / (1 + mu), -1, 1 )

which is `sign(theta)` exactly once `mu alpha >= 1`. The optimal value reformulation of `min_theta l(s(theta))`, with
the loss linearised, gives latents the gradient

    d = ( s(theta) - s(theta - beta g) ) / beta = c g,        g = dl/dw

with a `beta` of its own for every weight. Where theta and g have the same sign the step leads towards the jump of s at
zero, and `beta = |theta / g|` looks just beyond it; else `beta -> 0` leaves the derivative:

    sign(theta) g > 0    c = ( |s(theta)| + min(1, mu (1 + alpha) / (1 + mu)) ) / |theta|       at most `cap`
    otherwise            c = s'(theta) = 1 / (1 + mu) where |theta| < 1 - mu alpha, else 0

A zero has the side of its sign bit, as its weight has.

With a cap of 1 and latents between -1 and 1, c is 1 wherever the step leads towards zero: then this is the
straight-through estimator, but for latents that would grow.
"""

from dataclasses import dataclass
from math import inf, nextafter
from typing import final

import torch
from torch import Tensor

from dyadnet.binary.course import Course, geometric
from dyadnet.binary.method import AbstractMethod, sign
from dyadnet.binary.wells import Wells
from dyadnet.bounds import bounded, positive

_aten = torch.ops.aten


def energy(w: Tensor, theta: Tensor, mu: float, alpha: float) -> Tensor:
    """Return the inner objective `E(w; theta)`, elementwise; infinite for weights beyond -1 and 1.

    >>> energy(torch.tensor([0.5, 2.0]), torch.tensor(0.0), mu=2.0, alpha=0.5)
    tensor([1.1250,    inf])
    """
    wells = (w - theta).square() / 2 + mu / 2 * (w.abs() - (1 + alpha)).square()
    return torch.where(w.abs() <= 1, wells, inf)


def minimiser(theta: Tensor, mu: float, alpha: float, out: Tensor | None = None) -> Tensor:
    """Return `s(theta)`, the weights that minimise the inner objective, elementwise.

    >>> minimiser(torch.tensor([-0.1, 0.1, 0.7]), mu=1.0, alpha=0.5)
    tensor([-0.8000,  0.8000,  1.0000])
    >>> minimiser(torch.tensor([-0.1, 0.1, 0.7]), mu=2.0, alpha=0.5)
    tensor([-1.,  1.,  1.])
    """
    if mu * alpha >= 1:
        return sign(theta, out)
    well = torch.copysign(theta.new_tensor(mu * (1 + alpha)), theta, out=out)
    return well.add_(theta).div_(1 + mu).clamp_(-1, 1)


def difference(theta: Tensor, grad: Tensor, beta: Tensor, mu: float, alpha: float) -> Tensor:
    """Return the directional finite difference `(s(theta) - s(theta - beta grad)) / beta`, elementwise.

    >>> difference(torch.tensor(0.5), torch.tensor(1.0), torch.tensor(0.8), mu=2.0, alpha=0.5)
    tensor(2.5000)
    """
    return (minimiser(theta, mu, alpha) - minimiser(theta - beta * grad, mu, alpha)) / beta


def multiplier(
    theta: Tensor, grad: Tensor, mu: float, alpha: float, cap: float = inf, weight: Tensor | None = None
) -> Tensor:
    """Return `c`, by which the finite difference with adaptive spacing multiplies the gradient, elementwise.

    Args:
        theta: the latents.
        grad: the gradient of the loss in the weights.
        mu: how deep the wells are.
        alpha: how far beyond -1 and 1 they lie.
        cap: the largest multiplier.
        weight: `s(theta)`, where it is known.

    >>> multiplier(torch.tensor([0.5, 0.5, 4.0]), torch.tensor([1.0, -1.0, 1.0]), mu=2.0, alpha=0.5)
    tensor([4.0000, 0.0000, 0.5000])
    """
    size = (minimiser(theta, mu, alpha) if weight is None else weight).abs()
    ahead = (size < 1).to(theta.dtype).div_(1 + mu)
    crossed = size.add_(min(1.0, mu * (1 + alpha) / (1 + mu))).div_(theta.abs()).clamp_(max=cap)
    return torch.where(sign(theta) * grad > 0, crossed, ahead)


def _at_most_one(theta: Tensor, weight: Tensor, grad: Tensor, mu: float, alpha: float) -> Tensor:
    """`c g` for `c` 1 towards the jump, else the derivative; in place, since memory is what takes time."""
    side, edge = weight.mul_(grad), 1 - mu * alpha
    if edge <= 0:
        return _aten.threshold_backward.grad_input(grad, side, 0, grad_input=grad)
    towards = _aten.threshold_backward.grad_input(grad, side, 0, grad_input=side)
    ahead = _aten.hardtanh_backward.grad_input(grad.sub_(towards), theta, -edge, edge, grad_input=grad)
    return torch.add(towards, ahead, alpha=1 / (1 + mu), out=grad)


@final
@dataclass(frozen=True)
class AdaSTE(AbstractMethod):
    """Weights `s(theta)` that become binary as `mu` grows; latents learn from `c g`.

    Args:
        alpha: how far beyond -1 and 1 the wells lie. The paper has 0.01, for hundreds of epochs: `mu` then goes to 100,
            where a gradient that does not lead towards the jump counts a hundredth, so that latents only shrink and
            signs go on flipping. With 10 it counts ten elevenths, until weights are saturated.
        mu: how deep the wells are at first; it grows by equal factors to `1/alpha`.
        anneal: the share of training over which it does; afterwards latents only ever shrink.
        cap: the largest multiplier; 1 is never stronger than the straight-through estimator.
        clip: the largest latent; zero for none.
    """

    alpha: float = 10.0
    mu: float = 1e-3
    anneal: float = 1.0
    cap: float = 1.0
    clip: float = 1.0

    def __post_init__(self) -> None:
        positive(alpha=self.alpha, cap=self.cap)
        positive(most=1 / self.alpha, mu=self.mu)
        bounded("", 0, 1, anneal=self.anneal)
        bounded(clip=self.clip)

    def depth(self, course: Course) -> float:
        """Return `mu` at a place of training; once annealed, `mu alpha >= 1` in floating point, too.

        >>> [round(AdaSTE(alpha=0.01, mu=0.01, anneal=0.5).depth(Course(steps=4, done=done)), 6) for done in range(3)]
        [0.01, 1.0, 100.0]
        """
        if course.share < self.anneal:
            return geometric(self.mu, 1 / self.alpha, course.share, self.anneal)
        return 1 / self.alpha if 1 / self.alpha * self.alpha >= 1 else nextafter(1 / self.alpha, inf)

    def write(self, out: Tensor, theta: Tensor, course: Course, generator: torch.Generator) -> None:
        """The minimiser."""
        minimiser(theta, self.depth(course), self.alpha, out)

    def gradient(self, theta: Tensor, weight: Tensor, grad: Tensor, course: Course) -> Tensor:
        """`c g`."""
        mu = self.depth(course)
        if self._at_most_one:
            return _at_most_one(theta, weight, grad, mu, self.alpha)
        return grad.mul_(multiplier(theta, grad, mu, self.alpha, self.cap, weight))

    def settle(self, theta: Tensor, before: Tensor | None, rate: float, course: Course) -> None:
        """Clip."""
        if self.clip:
            theta.clamp_(-self.clip, self.clip)

    def wells(self, course: Course) -> Wells | None:
        """Those of the inner objective, with multipliers of at most one.

        >>> AdaSTE(alpha=1.0, mu=0.25).wells(Course(steps=2))  # mu is 1/4 now, and 1/2 when weights are written
        Wells(ahead=0.8, edge=0.75, lift=1.0, pull=0.6666666666666666, most=1.0)
        """
        if not self._at_most_one:
            return None
        now, then = self.depth(course), self.depth(course.onward())
        lift = inf if then * self.alpha >= 1 else then * (1 + self.alpha)
        return Wells(1 / (1 + now), 1 - now * self.alpha, lift, 1 / (1 + then), self.clip)

    @property
    def _at_most_one(self) -> bool:
        """Whether c is 1 towards the jump: (|s(theta)| + ...) / |theta| is at least 1 for latents within 1."""
        return self.cap == 1 and 0 < self.clip <= 1

    def active(self, theta: Tensor, grad: Tensor, course: Course) -> Tensor:
        """Where the difference looks across the jump."""
        return sign(theta) * grad > 0
