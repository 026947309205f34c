"""Readings, gains, offsets and converters of units, each alone, with the mean and the variance that are stated."""

import pytest
import torch

from dyadnet.hardware.units import Reading, RealUnits, Units
from dyadnet.network.state import Activity, Pair
from dyadnet.rule.lagrangian import Held

N = 40_000


def circuit(units: Units | None = None, reading: Reading | None = None, draw: int = 0) -> RealUnits:
    return RealUnits(units or Units(), reading or Reading(), 0, torch.Generator().manual_seed(draw))


def read(reading: Reading, value: float) -> torch.Tensor:
    found = circuit(reading=reading).read(1, Activity(torch.full((1, N), value)))
    return found.mean()


@pytest.mark.parametrize(
    ("reading", "sigma"),
    [
        (Reading(noise=0.01), 0.01),
        (Reading(relative=0.02), 0.01),
        (Reading(noise=0.01, relative=0.02), 0.01 * 2**0.5),
        (Reading(noise=0.04, reads=16), 0.01),
    ],
)
def test_a_reading_has_its_mean_and_variance(reading: Reading, sigma: float) -> None:
    found = read(reading, 0.5)
    assert float(found.mean()) == pytest.approx(0.5, abs=4 * sigma / N**0.5)
    assert float(found.std()) == pytest.approx(sigma, rel=0.015)


def test_readings_are_clipped_and_rounded() -> None:
    assert read(Reading(bits=3), 0.5)[0, 0] in (1 / 3, 2 / 3)
    assert float(read(Reading(bits=8, range=0.25), 0.5)[0, 0]) == 0.25


def test_both_states_of_a_dyad_are_read() -> None:
    s = torch.zeros(1, N)
    pair = circuit(reading=Reading(noise=0.01)).read(1, Pair(s, s, scale=2.0))
    error = pair.error()
    assert error is not None
    assert float(error.std()) == pytest.approx(0.01 * 2**0.5 / 2, rel=0.015)
    assert float(pair.mean().std()) == pytest.approx(0.01 / 2**0.5, rel=0.015)


def test_errors_that_are_signals_of_their_own_are_amplified_first() -> None:
    error = torch.zeros(1, N)
    error[0, 0] = 1e-6
    found = circuit(reading=Reading(noise=0.01)).read(1, Held(torch.zeros(1, N), error)).error()
    assert found is not None
    assert float(found[0, 1:].std()) == pytest.approx(1e-8, rel=0.015)


def test_gains_and_offsets_are_fixed_with_the_spread_that_is_stated() -> None:
    drive, made = torch.ones(2, N), circuit(Units(gain=0.1, offset=0.2))
    found = made.received(3, drive)
    assert torch.equal(found[0], found[1])
    assert float(found[0].std()) == pytest.approx((0.01 + 0.04) ** 0.5, rel=0.02)
    assert float(found[0].mean()) == pytest.approx(1, abs=4 * 0.224 / N**0.5)
    assert torch.equal(found, circuit(Units(gain=0.1, offset=0.2), draw=7).received(3, drive))
    assert not torch.equal(found, circuit(Units(gain=0.1, offset=0.2)).received(2, drive))


def test_converters_of_the_drive() -> None:
    found = circuit(Units(bits=4, range=2.0)).received(1, torch.linspace(-3, 3, 1000)[None])
    assert len(found.unique()) == 15
    assert float(found.abs().max()) == 2.0
