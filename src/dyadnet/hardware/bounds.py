"""What no circuit can have is refused, with the bound that it breaks."""

from math import inf

from torch import Tensor


def check(owner: str, low: float = 0.0, high: float = inf, **settings: float | None) -> None:
    """Refuse settings outside `[low, high]`; None stands for something that is not there.

    Raises:
        ValueError: naming the setting and the bound.

    >>> check("readings", 1, noise=0)
    Traceback (most recent call last):
    ValueError: readings: noise must be a number of at least 1, not 0
    """
    for name, value in settings.items():
        if value is not None and not (low <= value <= high and value < inf):
            bound = f"be a number of at least {low:g}" if high == inf else f"lie in [{low:g}, {high:g}]"
            raise ValueError(f"{owner}: {name} must {bound}, not {value:g}")


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
