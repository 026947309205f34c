"""Settings out of range are refused with one line that names the setting, its bound and what was given."""

from collections.abc import Callable, Mapping
from math import inf

Settings = Mapping[str, float | None]


def bounded(owner: str = "", low: float = 0.0, high: float = inf, /, **settings: float | None) -> None:
    """Refuse settings outside `[low, high]` and those that are infinite or no numbers; None is left open.

    Args:
        owner: what the settings belong to, where their names do not tell.
        low: the lowest value.
        high: the highest value.
        settings: what was given.

    Raises:
        ValueError: naming the setting and the bound.

    >>> bounded("reading", 1, reads=0)
    Traceback (most recent call last):
    ValueError: reading: reads must be a number of at least 1, not 0
    """
    bound = f"be a number of at least {low:g}" if low else "be zero or a positive number"
    bound = f"lie in [{low:g}, {high:g}]" if high < inf else bound
    _refuse(owner, settings, lambda value: low <= value <= high, bound)


def positive(owner: str = "", /, *, most: float = inf, **settings: float | None) -> None:
    """Refuse settings outside `(0, most]` and those that are infinite or no numbers; None is left open.

    Raises:
        ValueError: naming the setting and the bound.

    >>> positive(beta=0.1, gamma=0.0)
    Traceback (most recent call last):
    ValueError: gamma must be a positive number, not 0.0
    """
    bound = f"lie in (0, {most:g}]" if most < inf else "be a positive number"
    _refuse(owner, settings, lambda value: 0 < value <= most, bound)


def _refuse(owner: str, settings: Settings, fits: Callable[[float], bool], bound: str) -> None:
    for name, value in settings.items():
        if value is not None and not (fits(value) and value < inf):
            raise ValueError(f"{owner and f'{owner}: '}{name} must {bound}, not {value}")
