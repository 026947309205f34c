"""Diodes as elements of a netlist.

    switch           i = G max(0, v - V_D)                    ideal as G grows; V_D is the forward voltage
    exponential      i = I_s (exp(v / nV_T) - 1)              Shockley

An ideal diode leaves only ratios of voltages to matter, so that a circuit may run at any scale. The other two have a
scale of their own, and are what a real circuit is to be checked with.
"""

import abc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

from dyadnet.bounds import bounded, positive

_THERMAL = 8.617333262e-5 * 300.15
"""`V_T` at 27 degrees, where SPICE simulates unless it is told otherwise."""


class AbstractDiode(abc.ABC):
    """A diode, which carries the current `i` from its anode to its cathode under the voltage `v` between them."""

    @abc.abstractmethod
    def element(self, name: str, anode: str, cathode: str) -> str:
        """Return the line of one diode; its name starts with a letter of its own."""

    @abc.abstractmethod
    def models(self) -> Iterator[str]:
        """Yield the lines that all diodes share."""


@final
@dataclass(frozen=True)
class Switch(AbstractDiode):
    """A conductance above a forward voltage, and nothing below it.

    Args:
        threshold: `V_D`, in volts; 0 makes the diode ideal.
        conductance: `G`, in siemens, far above those of the resistors.

    Raises:
        ValueError: for a negative threshold, or a conductance that is not positive.

    >>> Switch(threshold=0.5).element("1_0", "0", "n1_0")
    'B1_0 0 n1_0 I=1000000000.0*uramp(V(0,n1_0)-0.5)'
    """

    threshold: float = 0.0
    conductance: float = 1e9

    def __post_init__(self) -> None:
        bounded("diode", threshold=self.threshold)
        positive("diode", conductance=self.conductance)

    def element(self, name: str, anode: str, cathode: str) -> str:
        """Return a source whose current is that of the switch."""
        return f"B{name} {anode} {cathode} I={self.conductance}*uramp(V({anode},{cathode})-{self.threshold})"

    def models(self) -> Iterator[str]:
        """Yield nothing."""
        return iter(())


@final
@dataclass(frozen=True)
class Exponential(AbstractDiode):
    """Shockley's diode.

    Args:
        saturation: `I_s`, in amperes.
        slope: `nV_T`, in volts: 26 mV for `n = 1` at room temperature.

    Raises:
        ValueError: for a value that is not positive.
    """

    saturation: float = 1e-14
    slope: float = 0.026

    def __post_init__(self) -> None:
        positive("diode", saturation=self.saturation, slope=self.slope)

    def element(self, name: str, anode: str, cathode: str) -> str:
        """Return a diode of the model."""
        return f"D{name} {anode} {cathode} exponential"

    def models(self) -> Iterator[str]:
        """Yield the model."""
        yield f".model exponential D(IS={self.saturation} N={self.slope / _THERMAL})"
