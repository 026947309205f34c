"""The calibration of an optical machine: what distorts its matrix-vector product, channel by channel.

On each of its two paths (for positive and for negative weights), with sender j, receiver i and `y_j` in volts,

    light      p_j = (k3 y_j^3 + k2 y_j^2 + k1 y_j + k0) e_j               light-emitting diode, efficiency of the input
    element    m_ij = a_i w_ij^2 + b_i w_ij + c_i,   w_ij in [0, 1]        modulator; c is what leaks through when dark
    current    q_i = o_i sum_j m_ij p_j                                    photodiode and amplifier
    crosstalk  q_i + l_{i-1} (q_{i-1} - c_{i-1}) + r_{i+1} (q_{i+1} - c_{i+1})

and of the two paths the electronics make, with the gain `beta` of the loop and n channels,

    volts      scale_i ( beta / n (q_i^plus - q_i^minus) + offset_i + beta drift_i ) .

The numbers come from a YAML file in the format of the public digital twin, github.com/microsoft/aoc, 16 or 48 channels.
The twin's model of leakage in the polarising beam splitter, off by default there, is left out.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, final

import torch
import yaml
from torch import Tensor

from dyadnet.hardware.saturation import Saturation


@final
@dataclass(frozen=True, eq=False)
class LightPath:
    """One of the two paths of light; tensors have one row a channel.

    Attributes:
        diode: the cubic of the light-emitting diode, highest power first, `(4,)` numbers.
        inputs: efficiency of every sender, `(channels,)`.
        modulator: the parabola of every receiver's elements, highest power first, `(channels, 3)`.
        outputs: efficiency of every receiver, `(channels,)`.
        later, earlier: the share of a receiver's current that the next one and the one before it get, `(channels,)`.
    """

    diode: tuple[float, ...]
    inputs: Tensor
    modulator: Tensor
    outputs: Tensor
    later: Tensor
    earlier: Tensor

    def __post_init__(self) -> None:
        channels = len(self.inputs)
        expected = dict.fromkeys(("inputs", "outputs", "later", "earlier"), (channels,))
        for name, shape in (expected | {"modulator": (channels, 3)}).items():
            found = tuple(getattr(self, name).shape)
            _require(found == shape, f"{channels} channels need {name} of shape {shape}, not {found}")
        _require(len(self.diode) == 4 and self.diode[2] > 0, f"a diode needs a cubic that rises at 0, not {self.diode}")
        _require(bool((self.inputs >= 0).all() and (self.outputs >= 0).all()), "efficiencies must not be negative")
        spilt = torch.stack([self.later, self.earlier])
        _require(bool(((spilt >= 0) & (spilt < 1)).all()), "crosstalk must be a share in [0, 1)")
        dark, bright = self.modulator[:, 2], self.modulator.sum(1)
        _require(bool((dark >= 0).all() and (bright > dark).all()), "elements must let more through bright than dark")

    def elements(self, weights: Tensor) -> Tensor:
        """Return `m` for weights in [0, 1], `(channels, channels)`, receivers in rows."""
        a, b, c = self.modulator.T[:, :, None]
        return (a * weights + b) * weights + c

    def light(self, volts: Tensor) -> Tensor:
        """Return what the diodes make of `y` in volts, `p` before the efficiency of the inputs, `(batch, channels)`."""
        k3, k2, k1, k0 = self.diode
        return ((k3 * volts + k2) * volts + k1) * volts + k0

    def spread(self, current: Tensor) -> Tensor:
        """Return the currents `q` with what their neighbours get of them, `(batch, channels)`."""
        bright = current - self.modulator[:, 2]
        total = current.clone()
        total[:, 1:] += (self.later * bright)[:, :-1]
        total[:, :-1] += (self.earlier * bright)[:, 1:]
        return total

    def behind_the_diodes(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return all that is linear behind the diodes, `(senders, receivers)`, and the currents without any light."""
        dark = self.spread(torch.zeros_like(self.inputs)[None])
        currents = (self.elements(weights) * self.outputs[:, None]).T * self.inputs[:, None]
        return self.spread(currents) - dark, dark[0]


@final
@dataclass(frozen=True, eq=False)
class Calibration:
    """What distorts the product of an optical machine.

    Attributes:
        plus, minus: the two paths.
        saturation: the nonlinearity; None stands for that of the network.
        scale, offset, drift: of the closed loop, in volts, the last per unit of its gain, `(channels,)`.
        low, high: volts to which the sum of input and bias is clamped.

    >>> Calibration.ideal(3).transmission()
    1.0
    """

    plus: LightPath
    minus: LightPath
    saturation: Saturation | None
    scale: Tensor
    offset: Tensor
    drift: Tensor
    low: float = -inf
    high: float = inf

    def __post_init__(self) -> None:
        _require(self.low < 0 < self.high, f"inputs must be clamped below and above 0, not to {self.low}, {self.high}")
        for name in ("scale", "offset", "drift"):
            found = tuple(getattr(self, name).shape)
            _require(found == (self.channels,), f"{self.channels} channels need as many of {name}, not {found}")
        _require(len(self.minus.inputs) == self.channels, "both paths must have the same channels")
        _require(bool((self.scale > 0).all()), "the scale of the loop must be positive")

    @classmethod
    def ideal(cls, channels: int) -> "Calibration":
        """Return the calibration of a machine that computes `W s` exactly."""
        one, zero = torch.ones(channels, dtype=torch.float64), torch.zeros(channels, dtype=torch.float64)
        path = LightPath((0.0, 0.0, 1.0, 0.0), one, torch.stack([zero, one, zero], 1), one, zero, zero)
        return cls(path, path, None, one, zero, zero)

    @property
    def channels(self) -> int:
        """How many units the machine has."""
        return len(self.plus.inputs)

    def transmission(self) -> float:
        """Return what of `y` arrives, on average over channels and paths, where an element's weight is 1."""
        arrived = [
            path.diode[2] * path.inputs.mean() * (self.scale * path.outputs * path.modulator[:, 1]).mean()
            for path in (self.plus, self.minus)
        ]
        return float(sum(arrived)) / 2

    def without(self, *sources: str) -> "Calibration":
        """Return the same machine with these distortions switched off.

        They are saturation (the network's own takes its place), diode, inputs, modulator, outputs, crosstalk, loop and
        clamp.
        """
        ideal = Calibration.ideal(self.channels)
        unknown = [source for source in sources if source not in _FIELDS]
        _require(not unknown, f"there is no distortion {', '.join(unknown)}; there are {', '.join(_FIELDS)}")
        ours, paths = [], []
        for source in sources:
            (ours if hasattr(self, _FIELDS[source][0]) else paths).extend(_FIELDS[source])
        paths = {name: getattr(ideal.plus, name) for name in paths}
        return dataclasses.replace(
            self,
            plus=dataclasses.replace(self.plus, **paths),
            minus=dataclasses.replace(self.minus, **paths),
            **{name: getattr(ideal, name) for name in ours},
        )

    def averaged(self, channels: int) -> "Calibration":
        """Return a machine of any size whose channels are all like the mean of these."""
        return _mapped(self, lambda each: each.mean(0, keepdim=True).expand(channels, *each.shape[1:]).contiguous())

    def repeated(self, channels: int) -> "Calibration":
        """Return a machine of any size whose channels are these, over and over: they share them in time."""
        return _mapped(self, lambda each: each[torch.arange(channels) % len(each)])

    def like(self, tensor: Tensor) -> "Calibration":
        """Return the same with the type and on the device of a tensor."""
        return _mapped(self, lambda each: each.to(tensor))


_FIELDS: dict[str, tuple[str, ...]] = {
    "saturation": ("saturation",),
    "diode": ("diode",),
    "inputs": ("inputs",),
    "modulator": ("modulator",),
    "outputs": ("outputs",),
    "crosstalk": ("later", "earlier"),
    "loop": ("scale", "offset", "drift"),
    "clamp": ("low", "high"),
}


def read_calibration(path: Path | str, row: int = 12) -> Calibration:
    """Read a calibration in the format of the public digital twin.

    Older files, of 16 channels, hold neither efficiencies of outputs nor a correction of the closed loop: the twin
    takes .65 for the positive path, and so does this.

    Args:
        path: the YAML file.
        row: of the modulator at which the channels were measured; it is part of the file's keys.

    Raises:
        ValueError: for a file that is not in this format, or holds what no machine can have.
    """
    try:
        found = yaml.safe_load(Path(path).read_text())
        if not isinstance(found, dict):
            raise TypeError("it holds no keys")
        return _calibration(found, row)
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from error
    except KeyError as error:
        raise ValueError(f"{path} is not a calibration in the twin's format: it lacks {error}") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a machine's calibration: {error}") from error


def _calibration(found: dict[str, Any], row: int) -> Calibration:
    plus, minus = (_path(found, sign, short, row) for sign, short in (("positive", "pos"), ("negative", "neg")))
    none = [0.0] * len(plus.inputs)
    loop = found.get("close_loop_offset_and_scale", {"scaling": [1.0] * len(none), "solution_to_adc_ratio": 1.0})
    ratio = float(loop["solution_to_adc_ratio"])
    return Calibration(
        plus,
        minus,
        Saturation(*map(float, found["tanh_sigmoid_coeffs"])),
        _numbers(loop["scaling"]),
        ratio * _numbers(loop.get("dc_offset", none)),
        ratio * _numbers(loop.get("linear_offset", none)),
        *map(float, found["deq_input_min_max"]),
    )


def _path(found: dict[str, Any], sign: str, short: str, row: int) -> LightPath:
    """One path of light; `sign` and `short` are what the file calls it."""
    inputs, crosstalk = _numbers(found["row_profiles"][f"{sign}_row{row}"]), found["pd_crosstalk"]
    older = torch.full_like(inputs, 0.65 if sign == "positive" else 1.0)
    return LightPath(
        tuple(map(float, found[f"led_poly_coeffs_{short}"])),
        inputs,
        _numbers(found["column_wise_weights_distortion"][f"{sign}_row{row}"]),
        _numbers(found["output_correction"][sign]) if "output_correction" in found else older,
        _numbers(crosstalk[f"ratio_to_later_{sign}_row{row}"]),
        _numbers(crosstalk[f"ratio_to_earlier_{sign}_row{row}"]),
    )


def _numbers(found: Any) -> Tensor:
    numbers = torch.tensor(found, dtype=torch.float64)
    _require(bool(numbers.isfinite().all()), "it holds numbers that are not finite")
    return numbers


def _mapped(thing: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A copy with every tensor changed, those of its paths included."""
    values = {field.name: getattr(thing, field.name) for field in dataclasses.fields(thing)}
    new = {name: change(value) for name, value in values.items() if isinstance(value, Tensor)}
    new |= {name: _mapped(value, change) for name, value in values.items() if isinstance(value, LightPath)}
    return dataclasses.replace(thing, **new)


def _require(good: bool, rule: str) -> None:
    if not good:
        raise ValueError(rule)
