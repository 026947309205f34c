"""Devices by technology, with the figures that are published for them.

What is not published for a technology is left perfect. Full scales are choices of ours, and so is the number of pulses.
"""

from dyadnet.hardware.device import Device
from dyadnet.hardware.synapses import Synapses
from dyadnet.hardware.units import Reading, Units
from dyadnet.hardware.updates import Updates

RERAM = Device(
    synapses=Synapses(
        on_off=40,
        # 0.348 + 16.03 r - 43.853 r^2 + 45.393 r^3 - 16.815 r^4 uS a second after writing, of 40 uS
        programming=tuple(c / 40 for c in (0.348, 16.03, -43.853, 45.393, -16.815)),
        full_scale=4.0,
    ),
    reading=Reading(relative=0.01),
    # ReRamSB of aihwkit: dw_min .002 of full scale, spread .3, cycle to cycle 3.75, soft bounds, 31 pulses
    updates=Updates(pulse=0.002 * 4, spread=0.3, noise=3.75, asymmetry=1.0, bound=4.0, most=31),
)
"""Resistive memory: programming of Wan et al. 2022, as aihwkit's ReRamWan2022 has it; pulses of aihwkit's ReRamSB."""

PCM = Device(
    synapses=Synapses(
        on_off=100,
        # 0.26348 + 1.9650 r - 1.1731 r^2 uS, of 25 uS; the exponent of drift is .05 for conductances near the largest
        programming=tuple(c / 25 for c in (0.26348, 1.9650, -1.1731)),
        drift=0.05,
        drift_spread=0.01,
        full_scale=4.0,
    ),
)
"""Phase-change memory for inference: programming and drift of aihwkit's PCMLikeNoiseModel; `synapses.age` ages it."""

CAPACITOR = Device(updates=Updates(pulse=0.005 * 4, spread=0.1, noise=0.3, asymmetry=0.05, bound=4.0, most=31))
"""Charge on capacitors: pulses of aihwkit's Capacitor preset (linear step, gamma .05)."""

OPTICAL = Device(
    synapses=Synapses(bits=9),
    units=Units(bits=9),
    reading=Reading(reads=40),
)
"""The analog optical computer: weights of 9 bits, 40 samples averaged a reading (Nature 2025, s41586-025-09430-z).

How unlike its ways forward and backward are without calibration is for a feedback path to say: `mismatched`.
"""
