"""A matrix-vector product in light: weights written on a modulator, states that shine through it.

    zeta_i = a volts_i(y),      y = d s,      beta = n max|W| / (a d kappa)

with the volts of `calibration.py` and the mean transmission `kappa`: one number, the gain, is all that a machine that
has not been calibrated otherwise makes good. Without distortions `zeta = W s` for the weights that the bits can tell.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from dyadnet.hardware.calibration import Calibration
from dyadnet.hardware.modulator import Modulator


@final
@dataclass(frozen=True, eq=False)
class Written:
    """Weights on a modulator; called with states, it returns what the light makes of them.

    Behind the diodes all is linear, and folded into one matrix a path.

    Attributes:
        calibration: of the machine.
        plus, minus: the matrices of the two paths, `(senders, receivers)`.
        rest: the drives that arrive without any light, `(receivers,)`.
        gain: of the loop, `beta`, a scalar.

    >>> W = torch.tensor([[0.0, -2.0], [1.0, 0.0]])
    >>> write(W, Modulator(), Calibration.ideal(2))(torch.tensor([[1.0, 0.5]]))
    tensor([[-1.0000,  1.0039]])
    """

    calibration: Calibration
    plus: Tensor
    minus: Tensor
    rest: Tensor
    gain: Tensor

    def __call__(self, states: Tensor) -> Tensor:
        """Return the drives of all units, `(batch, units)`, from their states.

        Raises:
            TypeError: for complex states, which no light can carry.
        """
        if states.is_complex():
            raise TypeError("light carries real states only: take a rule with real nudges")
        machine, (_, full) = self.calibration, _units(self.calibration)
        volts = full * states
        drives = torch.addmm(self.rest, machine.plus.light(volts), self.plus)
        return drives.addmm_(machine.minus.light(volts), self.minus, alpha=-1)


def write(weights: Tensor, modulator: Modulator, calibration: Calibration) -> Written:
    """Return `weights`, `(units, units)` with receivers in rows, as the modulator of a machine holds them."""
    machine = calibration.like(weights)
    per_volt, full = _units(machine)
    gain = modulator.gain(weights) * machine.channels / (per_volt * full * machine.transmission())
    (plus, bright), (minus, dark) = (
        path.behind_the_diodes(share)
        for path, share in zip((machine.plus, machine.minus), modulator.paths(weights), strict=True)
    )
    units, share = per_volt * machine.scale, gain / machine.channels
    rest = units * (share * (bright - dark) + machine.offset + gain * machine.drift)
    return Written(machine, units * share * plus, units * share * minus, rest, gain)


def small_signal(written: Written) -> Tensor:
    """Return the matrix M that small states around silence see, `(units, units)`, receivers in rows."""
    silence = written.plus.new_zeros(1, len(written.plus))
    return torch.func.jacrev(written)(silence)[0, :, 0]  # pyright: ignore[reportIndexIssue]


def asymmetry(matrix: Tensor, gain: float = 1.0) -> float:
    """Return `|M - c M^T| / |M + c M^T|` (Frobenius): how far M is from symmetric (`c = 1`) or skew (`c = -1`).

    >>> asymmetry(torch.tensor([[0.0, 1.25], [0.75, 0.0]]))
    0.25
    """
    return float((matrix - gain * matrix.T).norm() / (matrix + gain * matrix.T).norm())


def _units(calibration: Calibration) -> tuple[float, float]:
    """Units of the network per volt of `z`, and volts of a state of 1."""
    saturation = calibration.saturation
    return (1.0, 1.0) if saturation is None else (saturation.a, saturation.d)
