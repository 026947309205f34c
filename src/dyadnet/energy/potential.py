"""What a layer pays for leaving its prediction: the potentials of lifted networks (thesis eqs 3.13-3.15).

With the drive `a = map(what the layer below shows)`:

                 shows    E(s, a)                                   least, at    sends down, -dE/da
    auxiliary    s        1/2 |s - f(a)|^2                          0, f(a)      f'(a) (s - f(a))           (3.13)
    predictive   f(s)     1/2 |s - a|^2                             0, a         s - a                      (3.14)
    proximal     s        1/2 |s - a|^2 + I(s in C)                 f(a)         s - a                      (3.15)
    Fenchel      s        1/2 |s - a|^2 - 1/2 |f(a) - a|^2 + I      0, f(a)      s - f(a)

The last two are for units that project, `f(a)` is the point of `C` next to `a`: ReLU, hard sigmoid, linear units. They
do without `f'`. The Fenchel form is `G(s) + G*(a) - s a` with `G = 1/2 s^2 + I`, the LPOM of Li et al. (2019).

A layer that hears feedback `v = J^T (what the layer above sends down)` is drawn to its target, `s - dE/ds`:

    f(a) + v,    a + f'(s) v,    a + v,    a + v .
"""

import abc
from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from dyadnet.activation import Activation


@dataclass(frozen=True)
class AbstractPotential(abc.ABC):
    """The potential of one layer, elementwise.

    Attributes:
        activation: the layer's own `f`.
        projects: whether states keep to the range of `f`, which has to be a projection on it.
        vanishes: whether the least potential is zero, so that a forward pass has no energy.
    """

    activation: Activation
    projects: ClassVar[bool]
    vanishes: ClassVar[bool]

    @abc.abstractmethod
    def value(self, s: Tensor, a: Tensor) -> Tensor:
        """Return `E(s, a)`, of the states' shape."""

    @abc.abstractmethod
    def sent(self, s: Tensor, a: Tensor) -> Tensor:
        """Return what goes down, `-dE/da`."""

    def shown(self, s: Tensor) -> Tensor:
        """Return what travels up."""
        return s

    @abc.abstractmethod
    def rest(self, a: Tensor) -> Tensor:
        """Return the target without feedback."""

    def felt(self, feedback: Tensor, s: Tensor, shown: Tensor) -> Tensor:
        """Return what feedback adds to the target of a layer that shows `shown`."""
        return feedback

    def allowed(self, s: Tensor) -> Tensor:
        """Return the state next to `s` that is allowed."""
        return s

    def moved_(self, s: Tensor, shown: Tensor, a: Tensor, feedback: Tensor, step: float) -> Tensor:
        """Return the layer after a step towards its target, at what is allowed next to `s + step (rest + felt - s)`.

        Args:
            s: where the layer is; free to be overwritten.
            shown: what it shows.
            a: its drive.
            feedback: what it hears from above.
            step: how far it goes.
        """
        return self.allowed(s.lerp_(self.rest(a) + self.felt(feedback, s, shown), step))


@final
@dataclass(frozen=True)
class Auxiliary(AbstractPotential):
    """The potential of the method of auxiliary coordinates (Carreira-Perpinan and Wang 2014)."""

    projects = False
    vanishes = True

    def value(self, s: Tensor, a: Tensor) -> Tensor:
        """Return `1/2 (s - f(a))^2`."""
        return (s - self.activation.f(a)).square() / 2

    def sent(self, s: Tensor, a: Tensor) -> Tensor:
        """Return `f'(a) (s - f(a))`."""
        rest = self.activation.f(a)
        return self.activation.derivative(a, rest) * (s - rest)

    def rest(self, a: Tensor) -> Tensor:
        """Return `f(a)`."""
        return self.activation.f(a)


@final
@dataclass(frozen=True)
class Predictive(AbstractPotential):
    """The potential of predictive coding and of alternating minimisation; states are pre-activations."""

    projects = False
    vanishes = True

    def value(self, s: Tensor, a: Tensor) -> Tensor:
        """Return `1/2 (s - a)^2`."""
        return (s - a).square() / 2

    def sent(self, s: Tensor, a: Tensor) -> Tensor:
        """Return `s - a`."""
        return s - a

    def shown(self, s: Tensor) -> Tensor:
        """Return `f(s)`."""
        return self.activation.f(s)

    def rest(self, a: Tensor) -> Tensor:
        """Return `a`."""
        return a

    def felt(self, feedback: Tensor, s: Tensor, shown: Tensor) -> Tensor:
        """Return `f'(s) v`."""
        return self.activation.derivative(s, shown) * feedback

    def moved_(self, s: Tensor, shown: Tensor, a: Tensor, feedback: Tensor, step: float) -> Tensor:
        """Return the layer after a step, in fewer passes over memory."""
        slope = self.activation.derivative(s, shown)
        return s.lerp_(a, step).addcmul_(feedback, slope, value=step)


@final
@dataclass(frozen=True)
class Proximal(AbstractPotential):
    """The potential of units that are projections (Zhang and Brand 2017); convex in both arguments together."""

    projects = True
    vanishes = False

    def value(self, s: Tensor, a: Tensor) -> Tensor:
        """Return `1/2 (s - a)^2`, for states that are allowed."""
        return (s - a).square() / 2

    def sent(self, s: Tensor, a: Tensor) -> Tensor:
        """Return `s - a`."""
        return s - a

    def rest(self, a: Tensor) -> Tensor:
        """Return `a`."""
        return a

    def allowed(self, s: Tensor) -> Tensor:
        """Return `f(s)`."""
        return self.activation.f(s)


@final
@dataclass(frozen=True)
class Fenchel(AbstractPotential):
    """The potential of lifted proximal operator machines (Li et al. 2019), convex in each argument."""

    projects = True
    vanishes = True

    def value(self, s: Tensor, a: Tensor) -> Tensor:
        """Return `1/2 (s - a)^2 - 1/2 (f(a) - a)^2`, for states that are allowed."""
        return ((s - a).square() - (self.activation.f(a) - a).square()) / 2

    def sent(self, s: Tensor, a: Tensor) -> Tensor:
        """Return `s - f(a)`."""
        return s - self.activation.f(a)

    def rest(self, a: Tensor) -> Tensor:
        """Return `a`."""
        return a

    def allowed(self, s: Tensor) -> Tensor:
        """Return `f(s)`."""
        return self.activation.f(s)
