"""Momentum over whole passes, sample by sample (Nesterov 1983).

A pass maps states `y` to `s = g(y)`. The next one begins ahead of where the last two led:

    y = s + m (s - s_before),                   s_before: at first where the first pass began

with a constant `m`, or with one that grows:

    m = (t - 1)/t_next,        t_next = (1 + sqrt(1 + 4 t^2)) / 2,        t = 1 at first

Over one projected gradient step of a convex function this is FISTA (Beck and Teboulle 2009). A sample that its growing
momentum carries uphill, `<y_before - s, s - s_before> > 0`, begins anew (O'Donoghue and Candes 2015).
"""

from typing import final

import torch
from torch import Tensor

from dyadnet.relax.mixing import AbstractMixer


@final
class Momentum(AbstractMixer):
    """The memory of an accelerated relaxation: where the last pass led, and how far ahead to begin.

    Args:
        constant: the momentum; None lets it grow.
    """

    def __init__(self, constant: float | None = None) -> None:
        self.constant = constant
        self.before: Tensor | None = None
        self.t: Tensor | None = None

    def combine(self, old: Tensor, reached: Tensor) -> Tensor:
        """Return where the momentum carries."""
        moved = reached - (old if self.before is None else self.before)
        self.before = reached
        if self.constant is not None:
            return torch.add(reached, moved, alpha=self.constant)
        uphill = ((old - reached).conj() * moved).real.sum(1, keepdim=True) > 0
        t = torch.ones_like(uphill, dtype=reached.real.dtype) if self.t is None else self.t
        ahead = (1 + (1 + 4 * t * t).sqrt()) / 2
        self.t = ahead.where(~uphill, 1.0)
        return reached + ((t - 1) / ahead).where(~uphill, 0.0) * moved
