"""How a circuit stores weights: as differences of two conductances, each of them somewhat wrong.

A weight `w` of full scale `W` is held by two conductances in shares of the largest one, `r = g_min / g_max`,

    g^+- = r + (1 - r) max(0, +-w / W),        w' = W (g^+ - g^-) / (1 - r)

and each conductance is, in turn: rounded to a level, programmed with an error, off by what its device is off, stuck,
and drifting. What a device is off by is fixed when it is made; programming errs anew at every writing. A weight that is
nowhere negative when the circuit is made is one of conductances itself: `g = max(r, w / W)`, `w' = W g`.
"""

from dataclasses import dataclass
from math import inf
from typing import final

import torch
from torch import Tensor, nn

from dyadnet.bounds import bounded, positive
from dyadnet.hardware.aihwkit import AbstractModel, by_model
from dyadnet.hardware.converter import quantised


@final
@dataclass(frozen=True)
class Synapses:
    """The imperfections of stored weights; by default there are none.

    Args:
        bits: a weight has `2^bits - 1` levels, one that is nowhere negative `2^(bits - 1)`; in [2, 16]; None: any.
        full_scale: the largest magnitude stored, in root mean squares of the weight when the circuit was made; larger
            ones are clipped. None: the range follows the weight's own largest.
        on_off: ratio of the largest conductance to the smallest, above 1.
        programming: standard deviation of a conductance after writing, in shares of the largest: the coefficients of a
            polynomial in `g / g_max`.
        mismatch: fixed relative deviation of every conductance, standard deviation.
        twin: fixed relative deviation between the weights of two circuits that run the free and the nudged phase of a
            contrast, or its two nudged phases, side by side; 0: one circuit runs both.
        stuck: share of conductances that are stuck, half of them at either end of the range.
        drift: mean exponent `nu` of `g(t) = g (t / t_0)^-nu`; shows once `age` exceeds 1.
        drift_spread: standard deviation of `nu` over devices.
        age: `t / t_0`, at least 1.
        model: a noise model of aihwkit, in the place of programming and drift.

    Raises:
        ValueError: for what no device can have.

    >>> stored = Synapses(bits=2).made(torch.ones(1), seed=0)
    >>> stored(torch.tensor([1.0, 0.4, -0.6]))
    tensor([ 1.,  0., -1.])
    """

    bits: int | None = None
    full_scale: float | None = None
    on_off: float = inf
    programming: tuple[float, ...] = (0.0,)
    mismatch: float = 0.0
    twin: float = 0.0
    stuck: float = 0.0
    drift: float = 0.0
    drift_spread: float = 0.0
    age: float = 1.0
    model: AbstractModel | None = None

    def __post_init__(self) -> None:
        bounded("synapses", 2, 16, bits=self.bits)
        bounded("synapses", 1, age=self.age)
        if self.on_off != inf:
            bounded("synapses", 1, on_off=self.on_off)
        bounded(
            "synapses",
            0,
            programming=self.programming[0],
            mismatch=self.mismatch,
            twin=self.twin,
            drift_spread=self.drift_spread,
            drift=self.drift,
        )
        bounded("synapses", 0, 1, stuck=self.stuck)
        if self.on_off == 1:
            raise ValueError("synapses: on_off must exceed 1: a range of conductances of no width stores nothing")
        positive("synapses", full_scale=self.full_scale)

    def made(self, weight: Tensor, seed: int) -> "Stored":
        """Return the devices that hold a weight.

        Args:
            weight: as it is when the circuit is made.
            seed: of what differs from device to device.
        """
        return Stored(self, weight, seed)


@final
class Stored(nn.Module):
    """The devices that hold one weight: its values as the circuit has them.

    It is what `torch.nn.utils.parametrize` takes; the derivative is that of the identity, as whatever learns is told
    what the circuit did and changes what is to be written.

    Args:
        synapses: the imperfections.
        weight: as it is when the circuit is made.
        seed: of what differs from device to device.
    """

    gain: Tensor
    unlike: Tensor
    """The weights of the second of two circuits over those of the first."""
    low: Tensor
    high: Tensor
    nu: Tensor

    def __init__(self, synapses: Synapses, weight: Tensor, seed: int) -> None:
        super().__init__()
        self.synapses, generator = synapses, torch.Generator().manual_seed(seed)
        self.full_scale = synapses.full_scale and synapses.full_scale * float(weight.detach().square().mean().sqrt())
        self.errors = torch.Generator().manual_seed(seed ^ 0x5DEECE66D)
        """Of programming errors, where nobody hands in another."""
        self.paired = bool((weight < 0).any()) or not bool((weight > 0).any())
        shape = (2 if self.paired else 1, *weight.shape)

        def drawn(spread: float) -> Tensor:
            return (spread * torch.randn(shape, generator=generator)).to(weight)

        fate = torch.rand(shape, generator=generator).to(weight)
        low, high = fate < synapses.stuck / 2, fate > 1 - synapses.stuck / 2
        self.register_buffer("gain", (1 + drawn(synapses.mismatch)).clamp(min=0))
        self.register_buffer("unlike", (1 + drawn(synapses.twin)[0]).clamp(min=0))
        self.register_buffer("low", low)
        self.register_buffer("high", high)
        self.register_buffer("nu", (synapses.drift + drawn(synapses.drift_spread)).abs())

    def forward(self, weight: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the weight as the circuit has it, of the same shape.

        Args:
            weight: as it is to be.
            generator: of programming errors; None stands for the devices' own.
        """
        wanted = weight.detach()
        full_scale = self.full_scale or float(wanted.abs().max())
        if self.synapses == Synapses() or full_scale == 0:
            return weight
        share = quantised((wanted / full_scale).clamp(-1, 1), self.synapses.bits, 1.0)
        if self._discrete():
            share = self._difference(self.conductances(share, generator))
        return weight + (full_scale * share - wanted)

    def conductances(self, share: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return `g^+` and `g^-` in shares of the largest conductance, `(2, ...)`, or `g` alone, `(1, ...)`.

        Args:
            share: weights in shares of full scale, in [-1, 1].
            generator: of programming errors.
        """
        s = self.synapses
        least = 1 / s.on_off
        if self.paired:
            g = least + (1 - least) * torch.stack([share, -share]).clamp(min=0)
        else:
            g = share[None].clamp(min=least)
        if s.model is not None:
            g = by_model(s.model, g, s.age, generator or self.errors)
        elif any(s.programming):
            noise = torch.randn(g.shape, generator=generator or self.errors).to(g)
            g = (g + _polynomial(s.programming, g) * noise).clamp(min=0)
        g = torch.where(self.low, least, torch.where(self.high, 1.0, g * self.gain))
        return g * s.age**-self.nu

    def saturated(self, weight: Tensor) -> float:
        """Return the share of weights that would have to be larger than what can be stored, or are stuck."""
        beyond = torch.zeros_like(weight, dtype=torch.bool)
        if self.full_scale is not None:
            beyond = weight.detach().abs() >= self.full_scale
        return float((beyond | (self.low | self.high).any(0)).double().mean())

    def _difference(self, g: Tensor) -> Tensor:
        return (g[0] - g[1]) / (1 - 1 / self.synapses.on_off) if self.paired else g[0]

    def _discrete(self) -> bool:
        """Whether the two conductances have to be told apart."""
        s = self.synapses
        bounded = not self.paired and s.on_off < inf
        erring = any(s.programming) or bool(s.mismatch or s.stuck or s.drift or s.drift_spread)
        return bounded or erring or s.model is not None


def _polynomial(coefficients: tuple[float, ...], g: Tensor) -> Tensor:
    """`c_0 + c_1 g + c_2 g^2 + ...`, at least 0."""
    value = torch.zeros_like(g)
    for coefficient in reversed(coefficients):
        value = value * g + coefficient
    return value.clamp(min=0)
