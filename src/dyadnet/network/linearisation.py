"""What a map is at a point: its value there, and its transposed derivative, which carries differences down.

Means travel up through the map itself; a difference `delta` above travels down as the gradient of

    phi(s, theta) = sum(map(s, theta) * delta)

with respect to the lower state (the feedback) and to the parameters (the local update).
"""

import abc
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

Below = Float[Tensor, "batch *below"]
Above = Float[Tensor, "batch *above"]
Gradients = dict[Tensor, Tensor]
"""A gradient for every parameter, which is found by identity."""
Point = Callable[[], Tensor]
"""Gives a lower state when called: an activity is cheaper to compute twice than to keep."""
Detours = Mapping[nn.Module, Tensor]
"""Weights, of the shapes of their own ones, through which differences leave modules downwards."""
NO_DETOURS: Detours = MappingProxyType({})


class AbstractLinearisation(abc.ABC):
    """A map at a point.

    Attributes:
        value: the value of the map there.
        affine: whether the derivative is the same everywhere, so that `send` gives the value at any other point.
    """

    value: Tensor
    affine: ClassVar[bool] = False

    def send(self, below: Below) -> Above:
        """Return the value of an affine map at another state of the same shape."""
        raise NotImplementedError(f"{type(self).__name__} is not affine: linearise it anew")

    @abc.abstractmethod
    def pull(self, delta: Above, *, down: bool = True, learn: bool = True) -> tuple[Below | None, Gradients]:
        """Return the gradients of `sum(value * delta)`.

        Args:
            delta: of the value's shape.
            down: whether the gradient in the lower state is wanted (else None).
            learn: whether the gradients in the trainable parameters are wanted (else none).
        """

    @abc.abstractmethod
    def push(self, direction: Below) -> Above:
        """Return `J direction`: how the value changes with the lower state."""

    @abc.abstractmethod
    def learn_push(self, direction: Below, delta: Above) -> Gradients:
        """Return the gradient of `sum(push(direction) * delta)` in every trainable parameter.

        Exact where the derivative depends on the parameters through the map's own weights only (linear maps,
        convolutions, pooling between them).
        """

    def feedback(self, delta: Above, onto: Below | None = None, gain: float = 1.0) -> Below:
        """Return `onto + gain J^T delta`, with `J^T delta` the gradient in the lower state alone.

        Args:
            delta: of the value's shape.
            onto: what to add it to; None stands for zero, with a gain of 1.
            gain: the factor.
        """
        below, _ = self.pull(delta, learn=False)
        assert below is not None
        return below if onto is None else torch.add(onto, below, alpha=gain)


def merge(grads: Gradients, more: Gradients) -> None:
    """Add `more` to `grads` in place: a parameter that is used twice sums its gradients."""
    for parameter, grad in more.items():
        grads[parameter] = grads[parameter] + grad if parameter in grads else grad
