"""Networks with binary weights made by hand, in single precision."""

from typing import Any

import torch
from torch import Tensor, nn

from dyadnet.activation import Sign, UnitSigmoid
from dyadnet.network.residual import Residual


def binarised(layer: Any, *, by_output: bool = False) -> Any:
    """Make a layer's weight binary, with one scale or one for every output."""
    with torch.no_grad():
        weight = layer.weight.sign_()
        weight.mul_(torch.rand(len(weight) if by_output else 1).add_(0.5).view(-1, *[1] * (weight.dim() - 1)))
    return layer


def binarised_block(block: Residual) -> Residual:
    for module in block.modules():
        if isinstance(module, nn.Conv2d):
            binarised(module)
    return block


def convolutional() -> nn.Sequential:
    """Return a network of many kinds of layers on 3x8x8 inputs, its first and last layer with float weights."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        binarised(nn.Conv2d(8, 16, 3, stride=2, padding=1, padding_mode="circular"), by_output=True),
        nn.BatchNorm2d(16, affine=False, momentum=0.2),
        nn.Hardtanh(-0.5, 2.0),
        binarised_block(Residual(16, 16, 1, nn.ReLU)),
        nn.Dropout(0.3),
        binarised(nn.Conv2d(16, 32, (2, 1), groups=2)),
        nn.Sequential(nn.Flatten(), binarised(nn.Linear(64, 128), by_output=True), UnitSigmoid()),
        binarised(nn.Linear(128, 24)),
        nn.BatchNorm1d(24),
        Sign(),
        nn.Linear(24, 5),
    )
    model(torch.randn(50, 3, 8, 8))  # moves the statistics
    torch.set_default_dtype(before)
    return model.eval()


def images(count: int = 6) -> Tensor:
    return torch.randn(count, 3, 8, 8, dtype=torch.float32)
