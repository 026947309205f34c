"""Calibrations in the twin's format: the distortions against slow NumPy, one by one, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from dyadnet.hardware.calibration import Calibration, read_calibration
from dyadnet.hardware.light import asymmetry, small_signal, write
from dyadnet.hardware.modulator import Modulator
from dyadnet.hardware.saturation import Saturation
from tests.hardware.optics import ROW, drawn, saved, slow_product

N = 8
IDEAL: dict[str, dict[str, Any]] = {
    "saturation": {},
    "diode": {"led_poly_coeffs_pos": [0, 0, 1, 0], "led_poly_coeffs_neg": [0, 0, 1, 0]},
    "inputs": {"row_profiles": {f"{side}_row{ROW}": [1] * N for side in ("positive", "negative")}},
    "modulator": {
        "column_wise_weights_distortion": {f"{side}_row{ROW}": [[0, 1, 0]] * N for side in ("positive", "negative")}
    },
    "outputs": {"output_correction": {side: [1] * N for side in ("positive", "negative")}},
    "crosstalk": {
        "pd_crosstalk": {
            f"ratio_to_{way}_{side}_row{ROW}": [0] * N
            for way in ("later", "earlier")
            for side in ("positive", "negative")
        }
    },
    "loop": {
        "close_loop_offset_and_scale": {
            "scaling": [1] * N,
            "dc_offset": [0] * N,
            "linear_offset": [0] * N,
            "solution_to_adc_ratio": 1,
        }
    },
}


def weights(seed: int = 0, n: int = N) -> torch.Tensor:
    W = torch.randn(n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return W.fill_diagonal_(0)


def states(seed: int = 1) -> torch.Tensor:
    return 2 * torch.rand(3, N, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1


def expected(found: dict[str, Any], W: torch.Tensor, s: torch.Tensor, beta: float) -> torch.Tensor:
    """In the network's units, with the two paths written by hand."""
    share = (W / W.abs().max()).numpy()
    a, d = found["tanh_sigmoid_coeffs"][0], found["tanh_sigmoid_coeffs"][3]
    rows = [slow_product(found, np.maximum(share, 0), np.maximum(-share, 0), d * row.numpy(), beta) for row in s]
    return a * torch.tensor(np.array(rows))


@pytest.mark.parametrize("kept", [*IDEAL, "all"])
def test_every_distortion_alone_and_all_together_are_those_of_slow_numpy(kept: str, tmp_path: Path):
    found = drawn(N)
    for source, values in IDEAL.items():
        if kept not in (source, "all"):
            found |= values
    calibration = read_calibration(saved(found, tmp_path))
    written = write(weights(), Modulator(bits=None), calibration)
    assert_close(written(states()), expected(found, weights(), states(), float(written.gain)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("source", [name for name in IDEAL if name != "saturation"])
def test_a_distortion_switched_off_is_one_that_the_file_does_not_have(source: str, tmp_path: Path):
    off = read_calibration(saved(drawn(N), tmp_path)).without(source)
    absent = read_calibration(saved(drawn(N) | IDEAL[source], tmp_path))
    one, other = (write(weights(), Modulator(), each)(states()) for each in (off, absent))
    assert_close(one, other, rtol=1e-14, atol=1e-14)
    with_it = write(weights(), Modulator(), read_calibration(saved(drawn(N), tmp_path)))(states())
    assert float((one - with_it).abs().max()) > 1e-6


def test_without_any_distortion_light_multiplies_by_the_weights(tmp_path: Path):
    calibration = read_calibration(saved(drawn(N), tmp_path))
    clean = calibration.without("saturation", "diode", "inputs", "modulator", "outputs", "crosstalk", "loop", "clamp")
    for machine in (clean, Calibration.ideal(N)):
        written = write(weights(), Modulator(bits=None), machine)
        assert_close(written(states()), states() @ weights().T, rtol=1e-13, atol=1e-13)
        assert_close(small_signal(written), weights(), rtol=1e-13, atol=1e-13)
        assert machine.high == torch.inf


def test_the_small_signal_matrix_is_the_quotient_of_small_differences(tmp_path: Path):
    written = write(weights(), Modulator(), read_calibration(saved(drawn(N), tmp_path)))
    step = 1e-4 * torch.eye(N, dtype=torch.float64)
    assert_close(small_signal(written), ((written(step) - written(-step)) / 2e-4).T, rtol=1e-6, atol=1e-8)


def test_magnitudes_like_the_published_ones_make_the_matrix_about_a_seventh_asymmetric(tmp_path: Path):
    """The published file of 48 channels: .14 for symmetric targets, .15 for skew ones; this one is drawn anew."""
    calibration = read_calibration(saved(drawn(48), tmp_path))
    for gain in (1.0, -1.0):
        found = []
        for seed in range(5):
            target = weights(seed, 48)
            target = target + gain * target.T
            assert asymmetry(target, gain) == 0
            found.append(asymmetry(small_signal(write(target, Modulator(), calibration)), gain))
        assert 0.08 < sum(found) / 5 < 0.25


def test_channels_all_alike_leave_no_asymmetry_but_that_of_crosstalk(tmp_path: Path):
    alike, target = read_calibration(saved(drawn(48), tmp_path)).averaged(48), weights(0, 48)
    target = target + target.T
    assert 0.01 < asymmetry(small_signal(write(target, Modulator(), alike))) < 0.08
    assert asymmetry(small_signal(write(target, Modulator(), alike.without("crosstalk")))) < 1e-12


@pytest.mark.parametrize("units", [5, 20])
def test_a_machine_of_another_size_repeats_the_channels_or_takes_their_mean(units: int, tmp_path: Path):
    calibration = read_calibration(saved(drawn(N), tmp_path))
    averaged, repeated = calibration.averaged(units), calibration.repeated(units)
    assert averaged.channels == repeated.channels == units
    assert_close(averaged.plus.modulator[units - 1], calibration.plus.modulator.mean(0))
    assert_close(repeated.minus.inputs[units - 1], calibration.minus.inputs[(units - 1) % N], rtol=0, atol=0)
    assert repeated.saturation == calibration.saturation


def test_an_older_file_has_neither_output_efficiencies_nor_a_correction_of_the_loop(tmp_path: Path):
    found = drawn(N)
    del found["output_correction"], found["close_loop_offset_and_scale"]
    found["tanh_sigmoid_coeffs"] = found["tanh_sigmoid_coeffs"][:5]
    calibration = read_calibration(saved(found, tmp_path))
    assert_close(calibration.plus.outputs, torch.full((N,), 0.65, dtype=torch.float64))
    assert_close(calibration.minus.outputs, torch.ones(N, dtype=torch.float64))
    assert not calibration.offset.any()
    assert calibration.saturation is not None
    assert calibration.saturation.g == 0


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "no saturation": ({"tanh_sigmoid_coeffs": [-3.6, 0, 4, 0.2, 0]}, "positive a, c and d"),
    "falling diode": ({"led_poly_coeffs_pos": [0, 0, -1, 0]}, "rises at 0"),
    "negative efficiency": ({"row_profiles": {"positive_row12": [-1] * N, "negative_row12": [1] * N}}, "negative"),
    "not a number": ({"row_profiles": {"positive_row12": [float("nan")] * N}}, "not finite"),
    "fewer columns": (
        {"column_wise_weights_distortion": {"positive_row12": [[0, 1, 0]] * 3, "negative_row12": [[0, 1, 0]] * 3}},
        "8 channels need modulator of shape",
    ),
    "darker than dark": (
        {"column_wise_weights_distortion": {"positive_row12": [[-2, 1, 0]] * N, "negative_row12": [[0, 1, 0]] * N}},
        "more through bright than dark",
    ),
    "clamped to nothing": ({"deq_input_min_max": [0.5, 1.3]}, "below and above 0"),
    "words": ({"row_profiles": "none"}, "calibration"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_no_machine_can_have_is_refused_in_one_line_that_names_the_file(name: str, tmp_path: Path):
    change, complaint = CHANGES[name]
    path = saved(drawn(N) | change, tmp_path)
    with pytest.raises(ValueError, match=complaint) as told:
        read_calibration(path)
    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)


def test_other_files_are_refused(tmp_path: Path):
    found = drawn(N)
    del found["pd_crosstalk"]
    with pytest.raises(ValueError, match="it lacks 'pd_crosstalk'"):
        read_calibration(saved(found, tmp_path))
    (tmp_path / "broken.yaml").write_text("a: [")
    for name in ("broken.yaml", "missing.yaml"):
        with pytest.raises(ValueError, match=f"{name} cannot be read as YAML"):
            read_calibration(tmp_path / name)
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(ValueError, match="not a machine's calibration"):
        read_calibration(tmp_path / "list.yaml")
    with pytest.raises(ValueError, match="it lacks 'positive_row7'"):
        read_calibration(saved(drawn(N), tmp_path), row=7)


def test_a_distortion_of_another_name_is_refused():
    with pytest.raises(ValueError, match="there are saturation, diode"):
        Calibration.ideal(3).without("dust")


# --- the saturating nonlinearity ---

PUBLISHED = Saturation(3.58, -0.022, 4.27, 0.215, 0.0004, 0.0048)


def test_the_nonlinearity_is_the_published_one_and_in_the_networks_units_like_tanh():
    z = torch.linspace(-3, 3, 61, dtype=torch.float64)
    u = 3.58 * z.numpy() - 0.022
    expected = 0.215 * u / (1 + np.abs(u) ** 4.27) ** (1 / 4.27) + 0.0004 + 0.0048 * z.numpy()
    assert_close(PUBLISHED.volts(z).numpy(), expected)
    f = PUBLISHED.activation()
    assert_close(f.f(3.58 * z), PUBLISHED.volts(z) / 0.215)
    plain = Saturation(3.58, 0.0, 4.27, 0.215).activation()
    small = torch.tensor([1e-3], dtype=torch.float64)
    assert_close(plain.f(small), small.tanh(), rtol=1e-5, atol=0)
    assert (plain.lower, plain.upper, plain.slope) == (-1.0, 1.0, 1.0)


def test_its_derivative_inverse_and_potential_belong_to_it():
    f = PUBLISHED.activation()
    a = torch.linspace(-1.5, 1.5, 13, dtype=torch.float64, requires_grad=True)
    s = f.f(a)
    assert_close(f.derivative(a, s), torch.autograd.grad(s.sum(), a)[0])
    assert f.inverse is not None
    assert f.potential is not None
    s = s.detach()
    assert_close(f.inverse(s), a.detach(), rtol=1e-9, atol=1e-9)
    slope = (f.potential(s + 1e-5) - f.potential(s - 1e-5)) / 2e-5
    assert_close(slope, a.detach(), rtol=1e-6, atol=1e-6)
