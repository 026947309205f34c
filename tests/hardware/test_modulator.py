"""Weights of a few bits in two attenuating paths."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.testing import assert_close

from dyadnet.hardware.modulator import Modulator


def weights(seed: int = 0, scale: float = 3.0) -> torch.Tensor:
    return scale * torch.randn(7, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_nine_bits_are_those_of_the_published_formula():
    W = weights().numpy()
    largest = np.abs(W).max()
    expected = largest / 255 * np.clip(np.round(255 * W / largest), -256, 255)
    assert_close(Modulator(9)(weights()).numpy(), expected, rtol=1e-15, atol=0)


@pytest.mark.parametrize("bits", [2, 3, 5, 9, 12])
def test_rounding_is_off_by_half_a_step_at_most_and_takes_no_more_values_than_bits_have(bits: int):
    W = weights()
    step = float(W.abs().max()) / (2 ** (bits - 1) - 1)
    realised = Modulator(bits)(W)
    assert float((realised - W).abs().max()) <= step / 2 + 1e-12
    assert float((realised / step - (realised / step).round()).abs().max()) < 1e-9
    assert len(realised.unique()) <= 2**bits


@pytest.mark.parametrize("bits", [None, 2, 9])
def test_two_paths_attenuate_and_their_difference_are_the_weights(bits: int | None):
    modulator, W = Modulator(bits), weights()
    plus, minus = modulator.paths(W)
    for path in (plus, minus):
        assert float(path.min()) >= 0
        assert float(path.max()) <= 1
    assert not (plus * minus).any()
    assert max(float(plus.max()), float(minus.max())) == 1.0
    assert_close(modulator.gain(W) * (plus - minus), modulator(W))


def test_without_bits_nothing_is_rounded():
    assert_close(Modulator(None)(weights()), weights(), rtol=1e-15, atol=0)


def test_the_weights_scale_and_their_elements_do_not():
    assert_close(Modulator().elements(weights(scale=1e-6)), Modulator().elements(weights(scale=1e6)))


def test_no_weights_are_no_weights():
    assert not Modulator()(torch.zeros(2, 2)).any()


def test_the_accumulator_learns_what_the_rounded_weights_would_and_keeps_steps_too_small_to_show():
    layer = nn.Linear(5, 7, bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(weights())
    parametrize.register_parametrization(layer, "weight", Modulator(4))
    accumulator = layer.parametrizations.weight.original  # pyright: ignore
    x = torch.randn(3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    layer(x).square().sum().backward()
    realised = Modulator(4)(weights())
    assert_close(accumulator.grad, 2 * (x @ realised.T).T @ x)
    shown = layer.weight.clone()
    for _ in range(100):
        with torch.no_grad():
            accumulator[1, 0] += 1e-3
    assert_close(accumulator[1, 0], weights()[1, 0] + 0.1)
    assert int((layer.weight != shown).sum()) <= 1


@pytest.mark.parametrize("bits", [1, 0, -3])
def test_fewer_bits_than_a_sign_and_a_value_are_refused(bits: int):
    with pytest.raises(ValueError, match="at least 2 bits"):
        Modulator(bits)
