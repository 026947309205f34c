"""What events cost on a substrate: a relaxation, presenting inputs, reading states, changing weights.

thermal noise      sqrt(kT/C)                    of a voltage on a capacitance
b bits             C >= 12 kT 4^b / swing^2      whose thermal noise is that of rounding
settling           ln(1/tolerance) tau
conversion         2^b steps
"""

import abc
from dataclasses import dataclass
from math import log
from typing import final

from dyadnet.hardware import merits
from dyadnet.hardware.figure import Figure, multiplied
from dyadnet.hardware.workload import Workload

BOLTZMANN, ROOM = 1.380649e-23, 300.0


def settling_constants(tolerance: float) -> float:
    """Return how many time constants a relaxation takes to come as close as `tolerance`, `ln(1/tolerance)`.

    Raises:
        ValueError: for a tolerance outside (0, 1).
    """
    if not 0 < tolerance < 1:
        raise ValueError(f"the tolerance of settling must lie in (0, 1), not {tolerance:g}")
    return log(1 / tolerance)


def thermal_noise(capacitance: float) -> float:
    """Return the deviation of a voltage on a capacitance at 300 K, `sqrt(kT/C)`.

    >>> f"{thermal_noise(1e-12):.1e}"
    '6.4e-05'
    """
    return (BOLTZMANN * ROOM / capacitance) ** 0.5


def thermal_capacitance(bits: int, swing: float = 1.0) -> float:
    """Return the capacitance whose thermal noise is that of rounding a swing to `bits`, `12 kT 4^bits / swing^2`.

    >>> f"{thermal_capacitance(8):.1e}"
    '3.3e-15'
    """
    return 12 * BOLTZMANN * ROOM * 4**bits / swing**2


@final
@dataclass(frozen=True)
class Converters:
    """Digital-to-analog and analog-to-digital conversion, one converter a channel.

    Args:
        bits: of a conversion.
        step: energy of a conversion step.
        time: of a conversion.

    Raises:
        ValueError: for bits outside 1 to 24.
    """

    bits: int = 8
    step: Figure = merits.STEP
    time: Figure = merits.CONVERSION

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 24:
            raise ValueError(f"converters have 1 to 24 bits, not {self.bits}")

    def costs(self, channels: float) -> list[Figure]:
        """Return what converting so many channels at once costs."""
        energy = multiplied("energy", "J", self.step, factor=channels * 2**self.bits)
        return [energy, multiplied("latency", "s", self.time)]


class AbstractCosts(abc.ABC):
    """What events cost on a substrate; figures are energies in J and latencies in s."""

    @abc.abstractmethod
    def relaxation(self, work: Workload) -> list[Figure]:
        """Return what one relaxation of one sample costs."""

    @abc.abstractmethod
    def inputs(self, work: Workload) -> list[Figure]:
        """Return what presenting one sample costs."""

    @abc.abstractmethod
    def reading(self, work: Workload, units: int) -> list[Figure]:
        """Return what reading the states of so many units costs, of one sample after one relaxation."""

    @abc.abstractmethod
    def update(self, work: Workload) -> list[Figure]:
        """Return what one training step's change of the weights costs."""

    def bounds(self, work: Workload) -> list[Figure]:
        """Return what physics allows; nothing where nothing is known."""
        return []

    def check(self, work: Workload) -> None:
        """Refuse what the substrate cannot do.

        Raises:
            ValueError: saying what it can.
        """
        if work.phases.derivatives:
            raise ValueError(
                "backprop needs derivatives of the activations, which only a digital computer knows: take a rule of "
                "free, nudged or clamped phases"
            )


@final
@dataclass(frozen=True)
class WeightWrites:
    """Programming devices, row by row.

    Args:
        energy: of one device.
        time: of one row.
    """

    energy: Figure = merits.WRITE
    time: Figure = merits.ROW

    def costs(self, devices: int, rows: int) -> list[Figure]:
        """Return what writing all devices once costs."""
        energy = multiplied("energy", "J", self.energy, factor=devices)
        return [energy, multiplied("latency", "s", self.time, factor=rows)]


CONVERTERS, WRITES = Converters(), WeightWrites()
