"""How a circuit teaches its outputs: too strongly, too weakly, or towards a target that is not quite the target."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from dyadnet.bounds import bounded
from dyadnet.loss import AbstractLoss, Outputs, Strength


@final
@dataclass(frozen=True)
class Teaching:
    """The imperfections of a nudge; by default there are none.

    Args:
        strength: fixed relative deviation of the nudging strength, one towards the target and one away from it,
            standard deviation.
        target: standard deviation of the loss gradient that nudges, in the unit of the output, drawn for
            every phase and held while states settle.

    Raises:
        ValueError: for a negative deviation.
    """

    strength: float = 0.0
    target: float = 0.0

    def __post_init__(self) -> None:
        bounded("teaching", 0, strength=self.strength, target=self.target)


@final
class Taught(AbstractLoss):
    """A loss as a circuit applies it: its value is the loss's, its nudges are not quite.

    Args:
        loss: what is to be taught.
        teaching: the imperfections.
        seed: of the deviations of strength.
        generator: of the noise on targets.
    """

    def __init__(self, loss: AbstractLoss, teaching: Teaching, seed: int, generator: torch.Generator) -> None:
        self.loss, self.teaching, self.generator = loss, teaching, generator
        self.curvature, self.exact, self.quadratic = loss.curvature, loss.exact, loss.quadratic
        self.drawn: dict[torch.Size, Tensor] = {}
        towards, away = torch.randn(2, generator=torch.Generator().manual_seed(seed)).tolist()
        self.towards, self.away = 1 + teaching.strength * towards, 1 + teaching.strength * away

    def __call__(self, output: Outputs, y: Tensor) -> Tensor:
        """Return the loss of every sample."""
        return self.loss(output, y)

    def mass(self, y: Tensor) -> Strength:
        """Return that of the loss."""
        return self.loss.mass(y)

    def applied(self, strength: Strength) -> Strength:
        """Return the strength that the circuit applies where this one is asked for."""
        if isinstance(strength, Tensor) and not strength.is_complex():
            return strength * torch.where(strength > 0, self.towards, self.away)
        return strength * self.towards if isinstance(strength, Tensor) or strength > 0 else strength * self.away

    def gradient(self, output: Outputs, y: Tensor) -> Outputs:
        """Return the gradient, and the noise of the target."""
        gradient = self.loss.gradient(output, y)
        return gradient + self._noise(gradient) if self.teaching.target else gradient

    def nudge(self, y: Tensor, strength: Strength) -> Callable[[Outputs], Outputs]:
        """Return the proximal step towards a target that is shifted by the noise."""
        step = self.loss.nudge(y, strength)
        return (lambda a: step(a - strength * self._noise(a))) if self.teaching.target else step

    def proximal(self, a: Outputs, y: Tensor, strength: Strength) -> Outputs:
        """Return that step."""
        return self.nudge(y, strength)(a)

    def _noise(self, like: Tensor) -> Tensor:
        """The noise of the targets of a phase, the same whenever it is asked for."""
        if like.shape not in self.drawn:
            noise = torch.randn(like.shape, generator=self.generator, dtype=like.dtype).to(like.device)
            self.drawn[like.shape] = self.teaching.target * noise
        return self.drawn[like.shape]
