"""How the units of a circuit move and how they are read, where they are not perfect.

    received     u' = clip((1 + gain) u + offset), rounded to the levels of a converter
    moved        s' = s + sqrt(a (2 - a)) sigma xi    for a share a of the way: the variance of a unit alone is sigma^2
    read         r  = s + sqrt(noise^2 + (relative s)^2) xi / sqrt(reads), clipped and rounded

Gains and offsets are fixed when a circuit is made; agitation and read noise are drawn at every visit and every reading.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import sqrt
from typing import final

import torch
from torch import Tensor

from dyadnet.bounds import bounded, positive
from dyadnet.hardware.converter import quantised
from dyadnet.network.state import AbstractMovable, AbstractState
from dyadnet.network.substrate import AbstractSubstrate


@final
@dataclass(frozen=True)
class Units:
    """The imperfections of units; by default there are none.

    Args:
        gain: fixed relative spread of how strongly units take their drive, standard deviation.
        offset: fixed spread of the units' thresholds, standard deviation, in the unit of the drive.
        agitation: thermal noise within the relaxation: the standard deviation of a unit that is left alone, in the unit
            of the state; for a capacitor that is `sqrt(kT / C)`.
        bits: of the converters between drive and unit, in [2, 24]; None: no converters.
        range: converters clip the drive to plus and minus this.
        passes: the relaxation is cut off after so many passes; None: it ends when states have settled.

    Raises:
        ValueError: for what no unit can have, and for agitation without an end of the relaxation.
    """

    gain: float = 0.0
    offset: float = 0.0
    agitation: float = 0.0
    bits: int | None = None
    range: float = 4.0
    passes: int | None = None

    def __post_init__(self) -> None:
        bounded("units", 0, gain=self.gain, offset=self.offset, agitation=self.agitation)
        bounded("units", 2, 24, bits=self.bits)
        bounded("units", 1, passes=self.passes)
        positive("units", range=self.range)
        if self.agitation and self.passes is None:
            raise ValueError("units: agitation never lets states settle: say after how many passes to stop, passes=20")


@final
@dataclass(frozen=True)
class Reading:
    """The imperfections of readings; by default there are none. What weights learn from is read.

    Args:
        noise: standard deviation of one reading, in the unit of the state; errors that are signals of their own are
            amplified to a largest of 1 before.
        relative: standard deviation of one reading, in shares of what is read.
        reads: readings averaged.
        bits: of the converter behind, in [2, 24]; None: none.
        range: the converter clips to plus and minus this.

    Raises:
        ValueError: for what no instrument can have.
    """

    noise: float = 0.0
    relative: float = 0.0
    reads: int = 1
    bits: int | None = None
    range: float = 1.0

    def __post_init__(self) -> None:
        bounded("reading", 0, noise=self.noise, relative=self.relative)
        bounded("reading", 1, reads=self.reads)
        bounded("reading", 2, 24, bits=self.bits)
        positive("reading", range=self.range)


@final
class RealUnits(AbstractSubstrate):
    """The units of one specimen, while they are at work.

    Args:
        units, reading: the imperfections.
        seed: of what differs from unit to unit.
        generator: of what differs from visit to visit and from reading to reading.
        made: gains and offsets drawn before, by layer; more are added to it.
        beside: puts the second of two circuits in the place of the first.
    """

    def __init__(
        self,
        units: Units,
        reading: Reading,
        seed: int,
        generator: torch.Generator,
        made: dict[int, tuple[Tensor, Tensor]] | None = None,
        beside: Callable[[], AbstractContextManager[None]] | None = None,
    ) -> None:
        self.units, self.reads, self.seed, self.generator = units, reading, seed, generator
        self.made, self.beside = {} if made is None else made, beside

    def received(self, k: int, drive: Tensor) -> Tensor:
        """Return the drive as it is amplified, shifted and converted."""
        if self.units.gain or self.units.offset:
            gain, offset = self._spread(k, drive)
            drive = torch.addcmul(offset, drive, gain)
        return quantised(drive, self.units.bits, self.units.range)

    def moved(self, k: int, state: AbstractState, factor: float) -> AbstractState:
        """Return the state after the agitation that goes with a share `factor` of the way."""
        if not self.units.agitation:
            return state
        state = _movable(state)
        share = state.share(factor)
        amplitude = self.units.agitation * sqrt(share * (2 - share))
        pairs = zip(state.parts(), state.units(), strict=True)
        return state.of_parts([part + amplitude * unit * self._noise(part) for part, unit in pairs])

    def read(self, k: int, state: AbstractState) -> AbstractState:
        """Return what is measured."""
        if self.reads == Reading():
            return state
        state = _movable(state)
        return state.of_parts([self._read(p, unit) for p, unit in zip(state.parts(), state.units(), strict=True)])

    def _read(self, part: Tensor, unit: Tensor | float) -> Tensor:
        """One part of a state, which is `unit` at full scale."""
        r, value = self.reads, part / unit
        if r.noise or r.relative:
            spread = (r.noise**2 + (r.relative * value.abs()).square()).sqrt()
            value = value + spread / sqrt(r.reads) * self._noise(value)
        return unit * quantised(value, r.bits, r.range)

    def _noise(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self.generator, dtype=like.dtype).to(like.device)

    def _spread(self, k: int, drive: Tensor) -> tuple[Tensor, Tensor]:
        """Gain and offset of every unit of a layer."""
        if k not in self.made:
            generator, shape = torch.Generator().manual_seed(self.seed + k), drive.shape[1:]
            gain, offset = (torch.randn(shape, generator=generator).to(drive) for _ in range(2))
            self.made[k] = 1 + self.units.gain * gain, self.units.offset * offset
        return self.made[k]


def _movable(state: AbstractState) -> AbstractMovable:
    if not isinstance(state, AbstractMovable):
        raise TypeError(f"{type(state).__name__} cannot be measured: let it derive from AbstractMovable")
    return state
