"""The parts of a resistive network besides its resistors: gains, diodes, and how conductances are drawn."""

from dataclasses import dataclass
from typing import final

from dyadnet.bounds import bounded, positive


@final
@dataclass(frozen=True)
class Circuit:
    """The settings of a resistive network; the defaults are passive.

    Args:
        input_gain: `A_in`, what inputs are multiplied with before they become the voltages of sources.
        gain: `A`, what the voltage of a hidden node is multiplied with on its way up.
        current_gain: `c`, what the current that the layer above draws is multiplied with on its way down. `1 / gain`
            is a bidirectional amplifier (Kendall et al. 2020), `gain` a transformer without losses.
        threshold: `V_D`, the forward voltage of the diodes, in the units of the node voltages; 0 for ideal ones.
        scale: conductances are drawn uniformly from `+-scale / sqrt(nodes below)`, and negative ones become 0.
        guarded: whether nudges under which the circuit would be unstable are refused.

    Raises:
        ValueError: for a gain or a scale that is not positive, or a negative threshold.
    """

    input_gain: float = 100.0
    gain: float = 1.0
    current_gain: float = 1.0
    threshold: float = 0.0
    scale: float = 1.0
    guarded: bool = True

    def __post_init__(self) -> None:
        positive(input_gain=self.input_gain, gain=self.gain, current_gain=self.current_gain, scale=self.scale)
        bounded("", threshold=self.threshold)

    def discount(self, layers: int) -> float:
        """Return the weight of a layer in the energy, so many layers above the output, `(c / A)^layers`.

        >>> Circuit(gain=4.0, current_gain=0.25).discount(-1)        # the currents of the layer below count A / c
        16.0
        """
        return (self.current_gain / self.gain) ** layers
