"""A device: what an analog circuit that carries a network gets wrong, each imperfection with a switch of its own."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, final

from dyadnet.hardware.synapses import Synapses
from dyadnet.hardware.teaching import Teaching
from dyadnet.hardware.units import Reading, Units
from dyadnet.hardware.updates import Updates

SHOWN_BY: dict[str, tuple[str, ...]] = {
    "synapses.drift": ("synapses.age",),
    "synapses.drift_spread": ("synapses.age",),
    "synapses.age": ("synapses.drift", "synapses.drift_spread", "synapses.model"),
    "synapses.on_off": (
        "synapses.programming",
        "synapses.mismatch",
        "synapses.stuck",
        "synapses.drift",
        "synapses.drift_spread",
        "synapses.model",
    ),
    "units.range": ("units.bits",),
    "reading.range": ("reading.bits",),
    "reading.reads": ("reading.noise", "reading.relative"),
    "updates.bound": ("updates.asymmetry",),
}
"""Settings that change nothing on their own, with those of which one has to be there (weights of either sign)."""


@final
@dataclass(frozen=True)
class Device:
    """The imperfections of a circuit; `Device()` has none, and changes no bit of anything.

    Args:
        synapses: of stored weights.
        units: of the units and of how they settle.
        reading: of the readings from which weights learn.
        teaching: of the nudge.
        updates: of changes of weights.

    >>> Device(reading=Reading(noise=1e-3), synapses=Synapses(bits=4)).sources()
    {'synapses.bits': 4, 'reading.noise': 0.001}
    """

    synapses: Synapses = field(default_factory=Synapses)
    units: Units = field(default_factory=Units)
    reading: Reading = field(default_factory=Reading)
    teaching: Teaching = field(default_factory=Teaching)
    updates: Updates = field(default_factory=Updates)

    def sources(self) -> dict[str, Any]:
        """Return what is not perfect, by name."""
        return {
            f"{part.name}.{setting.name}": getattr(held, setting.name)
            for part in dataclasses.fields(self)
            for held in [getattr(self, part.name)]
            for setting in dataclasses.fields(held)
            if getattr(held, setting.name) != setting.default
        }

    def replaced(self, **settings: Any) -> "Device":
        """Return the device with other settings, named `part.setting` as `sources` does.

        Raises:
            ValueError: for a setting that there is not, or out of range.

        >>> Device().replaced(**{"reading.noise": 0.5}).reading.noise
        0.5
        """
        parts = {part.name: getattr(self, part.name) for part in dataclasses.fields(self)}
        changes: dict[str, dict[str, Any]] = {name: {} for name in parts}
        for name, value in settings.items():
            part, _, setting = name.partition(".")
            if part not in parts or setting not in {f.name for f in dataclasses.fields(parts[part])}:
                raise ValueError(f"a device has no setting {name!r}")
            changes[part][setting] = value
        # all settings of a part at once: one may only go with another
        return Device(**{name: dataclasses.replace(part, **changes[name]) for name, part in parts.items()})
