"""One layer of the unknowns of an energy, on its way down by projected gradient steps:

    s <- P( s + step (target - s) ),        target = s - dE/ds

with `P` the projection on what is allowed. Where `dE/ds` is divided by a bound on the layer's curvature (that is the
default step) no update of one layer raises the energy. A full step of 1 measures how far the layer is from settled:
`|P(target) - s|` vanishes where the conditions of Karush, Kuhn and Tucker hold, and nowhere else.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from dyadnet.activation import Elementwise
from dyadnet.network.state import AbstractMovable, AbstractState


@final
@dataclass(eq=False, slots=True)  # not frozen: relaxations make one a visit
class Unknown(AbstractMovable):
    """A layer of unknowns, or (as an update proposes it) its target.

    Attributes:
        s: where the layer is, or its target.
        allowed: the projection on what is allowed.
        shows: what travels up, as a function of `s`.
        step: how far an update goes towards its target; None stands for all the way, whatever the solver's factor.
        resting: whether this layer and those below are still where a forward pass left them, without any gap.
    """

    s: Tensor
    allowed: Elementwise
    shows: Elementwise
    step: float | None = None
    resting: bool = False
    shown: Tensor | None = field(default=None, init=False)

    def mean(self) -> Tensor:
        """Return what travels up, computed once."""
        if self.shown is None:
            self.shown = self.shows(self.s)
        return self.shown

    def error(self) -> None:
        """Return None: what goes down depends on the layer below, and the wiring knows it."""

    def parts(self) -> tuple[Tensor, ...]:
        """Return `P(s)`."""
        return (self.allowed(self.s),)

    def of_parts(self, parts: Sequence[Tensor]) -> "Unknown":
        """Return the layer at `P` of another point."""
        return Unknown(self.allowed(parts[0]), self.allowed, self.shows, self.step)

    def share(self, factor: float) -> float:
        """Return the step times the factor."""
        return 1.0 if self.step is None else self.step * factor

    def toward(self, old: AbstractState | None, factor: float) -> "Unknown":
        """Return the layer after a projected step from `old`."""
        if old is self:
            return self
        length = self.share(factor)
        ahead = torch.lerp(old.s, self.s, length) if length != 1 and isinstance(old, Unknown) else self.s
        return Unknown(self.allowed(ahead), self.allowed, self.shows, self.step)
