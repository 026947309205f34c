"""Converters between analogue and digital values."""

from torch import Tensor


def quantised(values: Tensor, bits: int | None, full_scale: float) -> Tensor:
    """Return values clipped to `+-full_scale` and rounded to `2^bits - 1` levels; as they are for None.

    >>> import torch
    >>> quantised(torch.tensor([-2.0, 0.2, 0.4]), 2, 1.0)
    tensor([-1.,  0.,  0.])
    """
    if bits is None:
        return values
    if values.is_complex():
        raise ValueError("a converter takes real values: leave bits out where states are complex")
    most = 2 ** (bits - 1) - 1
    return (values / full_scale * most).round().clamp(-most, most) / most * full_scale
