"""One value a sample, for samples of any shape."""

import torch
from torch import Tensor


def lengths(rows: Tensor) -> Tensor:
    """Return the Euclidean length of every sample, `(batch,)`.

    >>> lengths(torch.tensor([[[3.0], [4.0]]]))
    tensor([5.])
    """
    return rows.flatten(1).norm(dim=1)


def over(values: Tensor, like: Tensor) -> Tensor:
    """Return one value a sample, `(batch,)`, broadcastable to `like`."""
    return values.view(-1, *(1 for _ in like.shape[1:]))


def floored(values: Tensor) -> Tensor:
    """Return what may be divided by."""
    return values.clamp(min=torch.finfo(values.dtype).tiny)
