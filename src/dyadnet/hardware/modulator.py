"""A light modulator: weights as attenuations of b bits, in two paths that the electronics subtract.

    k = clamp( round((L - 1) W / max|W|), -L, L - 1 ),    L = 2^(b-1)         W ~ max|W| k / (L - 1)

An element only attenuates, so it lies in [0, 1], and a signed weight takes two: `k / (L - 1) = plus - minus`. The
largest magnitude goes back in through the gain of the loop. The analog optical computer has 9 bits, `L = 256`.
"""

from typing import final

import torch
from torch import Tensor, nn

from dyadnet.hardware.converter import quantised


@final
class Modulator(nn.Module):
    """What a modulator makes of weights; what learns, the digital accumulator, keeps full precision (straight-through).

    As a module it serves `torch.nn.utils.parametrize.register_parametrization(layer, "weight", Modulator())`.

    Args:
        bits: of a weight, its sign included; None stands for elements of any value.

    Raises:
        ValueError: for fewer than 2 bits.

    Source: Kalinin et al., Nature 2025 (analog optical computer), whose digital twin has this formula.

    >>> W = torch.tensor([[1.0, -0.26], [0.74, 0.0]])
    >>> Modulator(bits=2)(W)
    tensor([[1., 0.],
            [1., 0.]])
    >>> plus, minus = Modulator(bits=None).paths(2 * W)
    >>> plus, minus
    (tensor([[1.0000, 0.0000],
            [0.7400, 0.0000]]), tensor([[0.0000, 0.2600],
            [0.0000, 0.0000]]))
    """

    def __init__(self, bits: int | None = 9) -> None:
        super().__init__()
        if bits is not None and bits < 2:
            raise ValueError(f"a signed weight takes at least 2 bits, not {bits}")
        self.bits = bits

    def gain(self, weights: Tensor) -> Tensor:
        """Return the largest magnitude, by which the loop amplifies what the elements let through; a scalar."""
        return weights.abs().max()

    def elements(self, weights: Tensor) -> Tensor:
        """Return the weights in units of the gain, in [-1, 1], as the bits can tell them apart."""
        share = weights / self.gain(weights).clamp(min=torch.finfo(weights.dtype).tiny)
        return quantised(share, self.bits, 1.0)

    def paths(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the two paths let through, both in [0, 1]; their difference are the elements."""
        elements = self.elements(weights)
        return elements.clamp(min=0), elements.clamp(max=0).abs()

    def forward(self, weights: Tensor) -> Tensor:
        """Return the weights as the modulator has them; gradients pass as though it changed nothing."""
        realised = self.elements(weights) * self.gain(weights)
        return realised.detach() + (weights - weights.detach())

    def extra_repr(self) -> str:
        """Return the bits."""
        return f"bits={self.bits}"
