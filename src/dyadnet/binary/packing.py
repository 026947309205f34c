"""Signs as bits: a byte holds eight of them, the first in its lowest bit; a set bit is +1.

Only the last dimension is packed, and every row of it starts a byte of its own; the bits that fill a row's last byte up
are clear.
"""

import torch
from torch import Tensor, nn

BIT_ORDER = "lowest bit first, set for +1, rows padded with clear bits to whole bytes"
SIGNS = 2.0 * ((torch.arange(256)[:, None] >> torch.arange(8)) & 1).to(torch.float32) - 1.0
"""`(256, 8)`: the eight signs that every byte stands for."""

_PLACES = 2 ** torch.arange(8)


def pack_signs(values: Tensor) -> Tensor:
    """Return the signs of `values`, of shape `(..., n)`, as bytes `(..., ceil(n / 8))`.

    >>> pack_signs(torch.tensor([1.0, -1, -1, -1, -1, -1, -1, 1, 1]))
    tensor([129,   1], dtype=torch.uint8)
    """
    positive = nn.functional.pad(values > 0, (0, -values.shape[-1] % 8))
    return (positive.unflatten(-1, (-1, 8)) * _PLACES.to(values.device)).sum(-1).to(torch.uint8)


def unpack_signs(bits: Tensor, count: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the first `count` signs of every row of `bits`, as +1 and -1: the inverse of `pack_signs`.

    >>> unpack_signs(torch.tensor([5], dtype=torch.uint8), 4)
    tensor([ 1., -1.,  1., -1.])
    """
    table = SIGNS.to(bits.device, dtype)
    return nn.functional.embedding(bits.int(), table).flatten(-2)[..., :count]


def binary_scale(weight: Tensor) -> Tensor | None:
    """Return the `scale` with which `weight = +-scale`, exactly, or None if there is none.

    Args:
        weight: of a linear map or a convolution, `(outputs, ...)`.

    Returns:
        `(1,)` where one scale serves all, else one for every output, `(outputs,)`. None also where an output has a
        single input, or none: any weight would be binary then.

    >>> binary_scale(torch.tensor([[0.5, -0.5], [2.0, 2.0]]))
    tensor([0.5000, 2.0000])
    >>> binary_scale(torch.tensor([[0.5, -0.5], [2.0, 2.1]])) is None
    True
    """
    size = weight.detach().abs().flatten(1)
    if size.shape[1] < 2 or not len(size):
        return None
    scale = size[:, 0]
    if not bool((size == scale[:, None]).all() & (scale > 0).all() & scale.isfinite().all()):
        return None
    return scale[:1].clone() if bool((scale == scale[0]).all()) else scale.clone()
