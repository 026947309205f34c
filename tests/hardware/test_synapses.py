"""Each error of stored weights, alone, against its equation."""

import pytest
import torch
from torch import Tensor, nn

from dyadnet.hardware.synapses import Synapses

WEIGHT = torch.linspace(-1, 1, 40_001, dtype=torch.float64)


def stored(synapses: Synapses, weight: Tensor = WEIGHT, seed: int = 0) -> Tensor:
    return synapses.made(weight, seed)(weight, torch.Generator().manual_seed(1))


def test_perfect_synapses_change_nothing() -> None:
    assert stored(Synapses()) is WEIGHT


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_levels(bits: int) -> None:
    found = stored(Synapses(bits=bits))
    assert len(found.unique()) == 2**bits - 1
    assert float((found - WEIGHT).abs().max()) == pytest.approx(0.5 / (2 ** (bits - 1) - 1), rel=1e-3)


def test_larger_weights_are_clipped_at_full_scale() -> None:
    rms = float(WEIGHT.square().mean().sqrt())
    found = stored(Synapses(full_scale=1.0))
    torch.testing.assert_close(found, WEIGHT.clamp(-rms, rms))
    assert Synapses(full_scale=1.0).made(WEIGHT, 0).saturated(WEIGHT) == pytest.approx(1 - rms, abs=1e-3)


@pytest.mark.parametrize("on_off", [4.5, 100.0])
def test_programming_error(on_off: float) -> None:
    """Two conductances of independent errors, over the range: `sqrt(2) sigma W / (1 - 1 / on_off)`."""
    weight = torch.full((40_000,), 0.4, dtype=torch.float64)
    weight[0] = -1.0
    off = (stored(Synapses(programming=(0.01,), on_off=on_off), weight) - weight)[1:]
    # conductances of 0 cannot err downwards: with a range from 1/4.5 none comes near
    least = 1 / on_off
    sigma = 0.01 * 2**0.5 / (1 - least) if on_off < 10 else None
    if sigma is not None:
        assert abs(float(off.mean())) < 4 * sigma / 200  # 4 standard errors
        assert float(off.std()) == pytest.approx(sigma, rel=0.015)  # 4 standard errors of a deviation
    else:
        assert float(off.std()) < 0.01 * 2**0.5 / (1 - least)


def test_programming_error_follows_its_polynomial() -> None:
    synapses = Synapses(programming=(0.002, 0.03, -0.02), on_off=4.0)
    made = synapses.made(torch.tensor([-1.0], dtype=torch.float64), 0)
    for share in (0.2, 0.8):
        g = made.conductances(torch.full((50_000,), share, dtype=torch.float64), torch.Generator().manual_seed(0))[0]
        wanted = 0.25 + 0.75 * share
        assert float(g.std()) == pytest.approx(0.002 + 0.03 * wanted - 0.02 * wanted**2, rel=0.015)
        assert float(g.mean()) == pytest.approx(wanted, abs=4 * 0.02 / 50_000**0.5)


def test_mismatch_is_relative_and_fixed() -> None:
    weight = torch.full((40_000,), 0.5, dtype=torch.float64)
    made = Synapses(mismatch=0.1).made(weight, 3)
    ratio = made(weight, torch.Generator().manual_seed(0)) / weight
    assert float(ratio.std()) == pytest.approx(0.1, rel=0.015)
    assert float(ratio.mean()) == pytest.approx(1, abs=4 * 0.1 / 200)
    assert torch.equal(ratio, made(weight, torch.Generator().manual_seed(5)) / weight)


def test_mismatch_leaves_an_offset_where_the_range_does_not_reach_zero() -> None:
    """`w = 0` is the difference of two smallest conductances, which are not the same."""
    weight = torch.zeros(40_000, dtype=torch.float64)
    weight[0] = -1.0
    off = stored(Synapses(mismatch=0.1, on_off=5.0), weight)[1:]
    assert float(off.std()) == pytest.approx(0.1 * 2**0.5 * 0.2 / 0.8, rel=0.02)


def test_conductances_themselves_stay_within_their_range() -> None:
    """Weights that are nowhere negative are held by one device each."""
    weight = WEIGHT.abs()
    found = stored(Synapses(on_off=5.0), weight)
    torch.testing.assert_close(found, weight.clamp(min=0.2))
    noisy = stored(Synapses(programming=(0.2,)), weight)
    assert float(noisy.min()) == 0
    assert float((noisy - weight)[weight > 0.9].std()) == pytest.approx(0.2, rel=0.05)


def test_stuck_devices() -> None:
    found = stored(Synapses(stuck=0.1))
    # of the two, the one that carries the weight changes it wherever it is stuck, the other one only at the top
    assert float((found - WEIGHT).abs().gt(1e-9).double().mean()) == pytest.approx(1 - 0.9 * 0.95, abs=0.007)
    assert Synapses(stuck=0.1).made(WEIGHT, 0).saturated(WEIGHT) == pytest.approx(1 - 0.9**2, abs=0.01)


def test_drift() -> None:
    weight = torch.full((40_000,), 0.5, dtype=torch.float64)
    weight[0] = 1.0
    torch.testing.assert_close(stored(Synapses(drift=0.05, age=100.0), weight), weight * 100**-0.05)
    exponent = (
        -(stored(Synapses(drift=0.1, drift_spread=0.02, age=100.0), weight) / weight).log() / torch.tensor(100.0).log()
    )
    assert float(exponent.std()) == pytest.approx(0.02, rel=0.015)
    assert float(exponent.mean()) == pytest.approx(0.1, abs=4 * 0.02 / 200)


def test_what_learns_sees_through() -> None:
    """As a parametrisation, the derivative is that of the identity."""
    layer = nn.Linear(3, 2, bias=False)
    nn.utils.parametrize.register_parametrization(layer, "weight", Synapses(bits=2).made(layer.weight, 0))
    assert len(layer.weight.detach().unique()) <= 3
    layer(torch.ones(1, 3)).sum().backward()
    (original,) = layer.parameters()
    assert original.grad is not None
    assert torch.equal(original.grad, torch.ones_like(original))


@pytest.mark.parametrize(
    ("settings", "bound"),
    [
        ({"bits": 0}, "bits must lie in"),
        ({"bits": 1}, "bits must lie in"),
        ({"on_off": 1.0}, "must exceed 1"),
        ({"on_off": -3.0}, "at least 1"),
        ({"mismatch": -0.1}, "mismatch must be zero or a positive number, not -0.1"),
        ({"stuck": 1.5}, r"lie in \[0, 1\]"),
        ({"age": 0.5}, "at least 1"),
        ({"full_scale": 0.0}, "full_scale must be a positive number, not 0.0"),
        ({"mismatch": float("nan")}, "mismatch must be zero or a positive number, not nan"),
    ],
)
def test_what_no_device_can_have_is_refused(settings: dict[str, float], bound: str) -> None:
    with pytest.raises(ValueError, match=bound):
        Synapses(**settings)  # pyright: ignore[reportArgumentType]


class Halved:
    """A noise model with the methods of aihwkit's: it halves, then loses a tenth."""

    g_max, t_0 = 25.0, 20.0

    def apply_programming_noise_to_conductance(self, g_target: Tensor) -> Tensor:
        assert float(g_target.max()) == 25.0
        return g_target / 2

    def generate_drift_coefficients(self, g_target: Tensor) -> Tensor:
        return torch.full_like(g_target, 0.1)

    def apply_drift_noise_to_conductance(self, g_prog: Tensor, drift_noise_param: Tensor, t_inference: float) -> Tensor:
        assert t_inference == 180.0
        return g_prog * (1 - drift_noise_param)


def test_a_noise_model_of_aihwkit_takes_the_place_of_ours() -> None:
    before = torch.get_rng_state()
    torch.testing.assert_close(stored(Synapses(model=Halved(), age=10.0)), 0.45 * WEIGHT)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_real_noise_models_of_aihwkit_agree_with_our_figures_for_them() -> None:
    """Where the package is installed: programming errors of phase-change memory at three conductances."""
    noise = pytest.importorskip("aihwkit.inference.noise.pcm")
    model, generator = noise.PCMLikeNoiseModel(g_max=25.0), torch.Generator().manual_seed(0)
    from dyadnet.hardware.presets import PCM

    for share in (0.2, 0.5, 0.9):
        weight = torch.full((20_000,), share)
        theirs = Synapses(model=model).made(weight, 0).conductances(weight, generator)[0]
        ours = Synapses(programming=PCM.synapses.programming).made(weight, 0).conductances(weight, generator)[0]
        assert float(theirs.std()) == pytest.approx(float(ours.std()), rel=0.03)
