"""A residual block, which branches and joins again: to a chain it is one map."""

from collections.abc import Callable

from torch import Tensor, nn


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut, each with batch normalisation; a 1x1 convolution where shapes differ.

    >>> import torch
    >>> Residual(4, 8, 2, nn.ReLU)(torch.zeros(2, 4, 6, 6)).shape
    torch.Size([2, 8, 3, 3])
    """

    def __init__(self, below: int, channels: int, stride: int, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(below, channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels, affine=False),
            activation(),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels, affine=False),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or below != channels:
            self.shortcut.append(nn.Conv2d(below, channels, 1, stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(channels, affine=False))

    def forward(self, x: Tensor) -> Tensor:
        """Return the drive of the block's neurons for states `x` of shape `(batch, below, height, width)`."""
        return self.main(x) + self.shortcut(x)
