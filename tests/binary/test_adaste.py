"""AdaSTE: its minimiser is the minimiser, and its closed-form multipliers are directional finite differences."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dyadnet.binary.adaste import AdaSTE, difference, energy, minimiser, multiplier
from dyadnet.binary.course import Course

DEPTHS = [(0.01, 0.01), (0.3, 0.2), (5.0, 0.1), (100.0, 0.01), (30.0, 0.5)]
"""`(mu, alpha)`: nearly a hard tanh, wells apart, and twice at least as deep as makes the minimiser the sign."""

latents = st.floats(0.01, 3).flatmap(lambda size: st.sampled_from([-size, size]))
gradients = st.floats(0.01, 10).flatmap(lambda size: st.sampled_from([-size, size]))


def scalar(value: float) -> Tensor:
    return torch.tensor(value)


@pytest.mark.parametrize(("mu", "alpha"), DEPTHS)
def test_no_weight_has_a_lower_energy_than_the_minimiser(mu: float, alpha: float) -> None:
    theta = torch.linspace(-2.5, 2.5, 102)  # not zero, where two are equally good
    grid = torch.linspace(-1, 1, 20_001)
    best = energy(grid[:, None], theta, mu, alpha).min(0)
    own = minimiser(theta, mu, alpha)
    assert torch.all(energy(own, theta, mu, alpha) <= best.values + 1e-12)
    assert torch.all((own - grid[best.indices]).abs() <= 1e-4)


def brute_force(theta: float, g: float, mu: float, alpha: float) -> float:
    """The difference quotient itself, with a spacing that looks just beyond zero, or not as far as the next kink."""
    if theta * g > 0:
        beta = abs(theta / g) * (1 + 1e-13)
    else:
        gap = 1 - mu * alpha - abs(theta)
        beta = (gap if gap > 0 else 1.0) / abs(g) / 2
    return float(difference(scalar(theta), scalar(g), scalar(beta), mu, alpha)) / g


@pytest.mark.parametrize(("mu", "alpha"), DEPTHS)
@given(theta=latents, g=gradients)
def test_the_multiplier_is_the_finite_difference(mu: float, alpha: float, theta: float, g: float) -> None:
    gap = abs(1 - mu * alpha - abs(theta))
    if theta * g < 0 and gap < 1e-3:  # at the kink the quotient has no digits
        return
    expected = brute_force(theta, g, mu, alpha)
    assert float(multiplier(scalar(theta), scalar(g), mu, alpha)) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_the_three_regimes_have_the_published_multipliers() -> None:
    """Of the table in the paper's terms: binary; saturated; between the wells."""
    mu, alpha = 5.0, 0.1
    theta, towards = torch.tensor([0.9, 0.2]), torch.tensor([1.0, 1.0])
    saturated = (1 + 2 * mu + mu * alpha) / ((1 + mu) * 0.9)
    between = (0.2 + 2 * mu * (1 + alpha)) / ((1 + mu) * 0.2)
    torch.testing.assert_close(multiplier(theta, towards, mu, alpha), torch.tensor([saturated, between]))
    torch.testing.assert_close(multiplier(theta, -towards, mu, alpha), torch.tensor([0.0, 1 / (1 + mu)]))
    torch.testing.assert_close(multiplier(theta, towards, 10.0, alpha), 2 / theta)
    torch.testing.assert_close(multiplier(theta, -towards, 10.0, alpha), torch.zeros(2))


@given(size=st.floats(0.01, 100), alpha=st.floats(1e-3, 1), places=st.integers(1, 40))
def test_once_annealed_weights_are_binary_in_either_precision(size: float, alpha: float, places: int) -> None:
    method = AdaSTE(alpha=alpha, mu=min(0.01, 1 / alpha))
    mu = method.depth(Course(steps=places, done=places))
    for kind in (torch.float32, torch.float64):
        theta = torch.tensor([-size, -1e-30, 1e-30, size], dtype=kind)
        assert minimiser(theta, mu, alpha).tolist() == [-1, -1, 1, 1]


@pytest.mark.parametrize("cap", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("done", [0, 50, 90, 100])
@pytest.mark.parametrize("alpha", [0.01, 0.5, 10.0])
def test_the_short_way_of_clipped_latents_is_the_multiplier(alpha: float, done: int, cap: float) -> None:
    generator = torch.Generator().manual_seed(0)
    theta, grad = torch.rand(2, 1000, generator=generator) * 2 - 1
    method, course = AdaSTE(alpha, cap=cap, clip=1.0), Course(steps=100, done=done)
    mu = method.depth(course)
    expected, weight = multiplier(theta, grad, mu, alpha, cap) * grad, minimiser(theta, mu, alpha)
    got = method.gradient(theta, weight.clone(), grad.clone(), course)
    torch.testing.assert_close(got, expected, rtol=1e-14, atol=0)
    assert torch.equal(got == 0, (theta * grad < 0) & (weight.abs() == 1))


@pytest.mark.parametrize("done", [0, 50, 100])
@pytest.mark.parametrize("alpha", [0.01, 1.0, 10.0])
def test_a_zero_has_the_side_of_its_weight_whichever_way_it_is_computed(alpha: float, done: int) -> None:
    theta, grad = torch.tensor([0.0, 0.0, -0.0, -0.0]), torch.tensor([1.0, -1.0, 1.0, -1.0])
    course, wells = Course(steps=100, done=done), (AdaSTE(alpha, cap=1.0), AdaSTE(alpha, cap=0.5))
    for method in wells:
        weight = minimiser(theta, method.depth(course), alpha)
        ahead = 0.0 if done == 100 else 1 / (1 + method.depth(course))
        expected = torch.where(weight * grad > 0, method.cap, ahead) * grad
        torch.testing.assert_close(method.gradient(theta, weight, grad.clone(), course), expected, rtol=1e-14, atol=0)
        assert method.active(theta, grad, course).tolist() == [True, False, False, True]


def test_the_wells_deepen_by_equal_factors() -> None:
    method, steps = AdaSTE(alpha=0.1, mu=0.1, anneal=0.5), 20
    depths = [method.depth(Course(steps, done=done)) for done in range(steps + 1)]
    assert depths[0] == pytest.approx(0.1)
    ratios = [after / before for before, after in pairwise(depths[:11])]
    assert ratios == pytest.approx([math.exp(math.log(100) / 10)] * 10)
    assert depths[10:] == pytest.approx([10.0] * 11)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"alpha": 0.0}, "alpha must be a positive number, not 0.0"),
        ({"mu": 200.0, "alpha": 0.01}, r"mu must lie in \(0, 100\], not 200.0"),
        ({"anneal": 1.5}, r"anneal must lie in \[0, 1\], not 1.5"),
        ({"clip": -1.0}, "clip must be zero or a positive number, not -1.0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        AdaSTE(**settings)
