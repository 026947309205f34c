"""ResNet18 for small images, as a chain: a residual block is one map, whose last activation is the stage's own.

Within a block errors travel by autograd, whatever the rule; between blocks as the rule has it.
"""

from collections.abc import Callable

from torch import nn

from dyadnet.network.residual import Residual

BLOCKS = ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1))
"""Channels and stride of every block."""


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
