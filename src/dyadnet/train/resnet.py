"""ResNet18 for small images, as a chain: a residual block is one map, whose last activation is the stage's own.

Within a block errors travel by autograd, whatever the rule; between blocks as the rule has it.
"""

from collections.abc import Callable

from torch import Tensor, nn

BLOCKS = ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1))
"""Channels and stride of every block."""


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


def resnet18(channels: int, classes: int, activation: Callable[[], nn.Module]) -> nn.Sequential:
    """Return a 3x3 stem, eight residual blocks, the mean over places and a linear map, with batch normalisation.

    >>> sum(p.numel() for p in resnet18(3, 10, nn.ReLU).parameters())
    11164352
    """
    layers: list[nn.Module] = [nn.Conv2d(channels, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64, affine=False)]
    below = 64
    for wide, stride in BLOCKS:
        layers += [activation(), Residual(below, wide, stride, activation)]
        below = wide
    layers += [activation(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(below, classes, bias=False)]
    return nn.Sequential(*layers, nn.BatchNorm1d(classes, affine=False))
