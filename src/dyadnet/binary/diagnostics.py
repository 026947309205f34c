"""What an epoch did to binary weights: flips, multipliers at work, the spread of latents; and which are binary."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dyadnet.binary.optimizer import BinaryOptimizer

BINS = 41


def signs(optimizer: BinaryOptimizer) -> list[Tensor]:
    """Return which weights are 1."""
    return [optimizer.method.signs(one.latent) > 0 for one in optimizer.owned]


def exact(optimizer: BinaryOptimizer) -> tuple[int, int]:
    """Return how many weights that stand in the parameters are exactly -1 or 1, or that times their scale; of how many.

    All are within `optimizer.binarized()`, and in training only with methods that use binary weights there.
    """
    found = total = 0
    for one in optimizer.owned:
        one_of_two = one.parameter.detach().abs() == (1.0 if one.scale is None else one.scale)
        found, total = found + int(one_of_two.sum()), total + one_of_two.numel()
    return found, total


def flipped(optimizer: BinaryOptimizer, before: Sequence[Tensor]) -> float:
    """Return the share of weights that have another sign than before."""
    changed = sum(int((now != then).sum()) for now, then in zip(signs(optimizer), before, strict=True))
    return changed / sum(then.numel() for then in before)


def active(optimizer: BinaryOptimizer, grads: Mapping[Tensor, Tensor]) -> float | None:
    """Return the share of weights with a multiplier at work on these gradients; None where the method has none."""
    found = [
        optimizer.method.active(one.latent, grads[one.parameter], optimizer.course)
        for one in optimizer.owned
        if one.parameter in grads
    ]
    known = [share for share in found if share is not None]
    return sum(int(share.sum()) for share in known) / sum(share.numel() for share in known) if known else None


def histogram(optimizer: BinaryOptimizer, bins: int = BINS) -> dict[str, Any]:
    """Return how many latents lie in each of some bins of equal width, the outermost at the largest size.

    Latents that are pairs count by their difference, those of Bop by the mean gradient.
    """
    latents = [
        one.latent if one.latent.shape == one.parameter.shape else one.latent.diff(dim=0) for one in optimizer.owned
    ]
    largest = max(float(latent.abs().max()) for latent in latents) or 1.0
    counts = sum(torch.histc(latent.float().flatten(), bins, -largest, largest) for latent in latents)
    assert isinstance(counts, Tensor)
    return {"largest": largest, "counts": [int(count) for count in counts.tolist()]}
