"""The saturating nonlinearity of an optical machine, as its digital twin has it fitted:

    y = d u / (1 + |u|^c)^(1/c) + f + g z,        u = a z + b,         z and y in volts.

Networks know it in units in which its slope and its range are those of tanh, `zeta = a z` and `s = y / d`:

    s = u / (1 + |u|^c)^(1/c) + f/d + (g / (a d)) zeta,        u = zeta + b.
"""

from dataclasses import dataclass
from math import inf, isfinite
from typing import final

import numpy as np
import torch
from torch import Tensor

from dyadnet.activation import Activation, Elementwise


@final
@dataclass(frozen=True)
class Saturation:
    """The six numbers of the nonlinearity.

    Args:
        a: amplification of the state, per volt.
        b: offset of its argument.
        c: how sharply it saturates.
        d: volts at which it saturates.
        f: offset of its value, volts.
        g: what goes on rising beyond saturation.

    Raises:
        ValueError: unless `a`, `c` and `d` are positive and `g` is not negative: it would not be monotone.

    >>> f = Saturation(a=3.6, b=0.0, c=4.0, d=0.2).activation()
    >>> f.f(torch.tensor([0.1, 1.0, 50.0]))
    tensor([0.1000, 0.8409, 1.0000])
    """

    a: float
    b: float
    c: float
    d: float
    f: float = 0.0
    g: float = 0.0

    def __post_init__(self) -> None:
        numbers = (self.a, self.b, self.c, self.d, self.f, self.g)
        if not (all(map(isfinite, numbers)) and min(self.a, self.c, self.d) > 0 and self.g >= 0):
            raise ValueError(f"a saturation needs positive a, c and d and a g of at least 0, not {self}")

    def volts(self, z: Tensor) -> Tensor:
        """Return `y(z)` for pre-activations in volts, of any shape."""
        return self.d * _squashed(self.a * z + self.b, self.c) + self.f + self.g * z

    def activation(self) -> Activation:
        """Return the nonlinearity as the neurons of a network have it, in units of `1/a` and `d` volts."""
        leak = self.g / (self.a * self.d)

        def f(zeta: Tensor) -> Tensor:
            return self.volts(zeta / self.a) / self.d

        def derivative(zeta: Tensor, s: Tensor) -> Tensor:
            return (1 + (zeta + self.b).abs() ** self.c) ** (-1 - 1 / self.c) + leak

        def inverse(s: Tensor) -> Tensor:
            return _bisected(f, s)

        def potential(s: Tensor) -> Tensor:
            return sum(weight * s * inverse(point * s) for point, weight in _GAUSS)  # pyright: ignore[reportReturnType]

        ends = (-inf, inf) if leak else (self.f / self.d - 1, self.f / self.d + 1)
        return Activation(f"saturation({self.c:g})", f, f, inverse, potential, derivative, *ends, slope=1 + leak)


_GAUSS = [((1 + float(t)) / 2, float(w) / 2) for t, w in zip(*np.polynomial.legendre.leggauss(24), strict=True)]
_REACH = 1e4  # beyond it the saturation differs from its ends by less than rounding


def _squashed(u: Tensor, c: float) -> Tensor:
    return u / (1 + u.abs() ** c) ** (1 / c)


def _bisected(f: Elementwise, s: Tensor) -> Tensor:
    """The argument at which a rising function has the value s."""
    low, high = torch.full_like(s, -_REACH), torch.full_like(s, _REACH)
    for _ in range(64):
        middle = (low + high) / 2
        below = f(middle) < s
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2
