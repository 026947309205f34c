"""Batch-normalisation statistics for other weights than those of training."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_Norm = nn.modules.batchnorm._BatchNorm


@contextmanager
def reestimated(net: nn.Module, batches: Iterable[Tensor]) -> Iterator[None]:
    """Let running means and variances be those of these batches, and afterwards what they were.

    Every batch counts alike. A network without batch normalisation does not look at them. Training mode is left as it
    is, of every module.

    Args:
        net: the network; its batch normalisations track their statistics.
        batches: inputs.
    """
    norms = [module for module in net.modules() if isinstance(module, _Norm) and module.track_running_stats]
    kept = [{name: buffer.clone() for name, buffer in norm.named_buffers()} for norm in norms]
    try:
        if norms:
            _estimate(net, norms, batches)
        yield
    finally:
        for norm, buffers in zip(norms, kept, strict=True):
            for name, buffer in norm.named_buffers():
                buffer.copy_(buffers[name])


@torch.no_grad()
def _estimate(net: nn.Module, norms: list[_Norm], batches: Iterable[Tensor]) -> None:
    """Average the statistics of all batches, with all else as it is in evaluation."""
    momenta, modes = [norm.momentum for norm in norms], {module: module.training for module in net.modules()}
    net.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    try:
        for x in batches:
            net(x)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, mode in modes.items():
            module.training = mode
