"""A stage: a map of the layer below, and the activation of the layer's own neurons."""

from dataclasses import dataclass

from torch import nn

from dyadnet.activation import Activation
from dyadnet.network.linearisation import NO_DETOURS, AbstractLinearisation, Detours, Point
from dyadnet.network.linearise import linearise


@dataclass(frozen=True, eq=False)
class Stage:
    """One layer: a map of the state below, and the activation of its own neurons.

    Attributes:
        map: any module; its transpose is its vector-Jacobian product.
        activation: the elementwise `f`.
        name: where the map stands in the user's model, for messages and reports.
    """

    map: nn.Module
    activation: Activation
    name: str

    def linearise(self, below: Point, detours: Detours = NO_DETOURS) -> AbstractLinearisation:
        """Return the map at the state `below()`.

        Args:
            below: gives the state.
            detours: weights through which differences travel down in the place of the map's own.

        Raises:
            ValueError: naming the stage, if it cannot take a state of that shape.
        """
        try:
            return linearise(self.map, below, detours)
        except RuntimeError as error:
            shape = tuple(below().shape)
            raise ValueError(f"{self.name} cannot take states of shape {shape}: {_first_line(error)}") from error

    def parameters(self) -> list[nn.Parameter]:
        """Return the trainable parameters of the map."""
        return [p for p in self.map.parameters() if p.requires_grad]


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
