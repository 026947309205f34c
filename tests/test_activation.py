"""Activations: what the library claims of them, against the modules themselves and against numbers."""

from math import inf

import pytest
import torch
from cases import ACTIVATIONS
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from dyadnet.activation import Sign, UnitSigmoid, recognise

GRID = torch.linspace(-12, 12, 96_001, dtype=torch.float64)
"""Fine enough that slopes and extremes on it are those of the function to 1e-6."""

names = pytest.mark.parametrize("name", ACTIVATIONS)
UNBOUNDED = {"identity", "relu", "leaky relu", "steep leaky relu", "silu", "gelu", "gelu, tanh"}
NOT_MONOTONE = {"silu", "gelu", "gelu, tanh"}


def known(name):
    activation = recognise(ACTIVATIONS[name]())
    assert activation is not None
    return activation


@names
def test_f_is_the_module(name):
    assert torch.equal(known(name).f(GRID), ACTIVATIONS[name]()(GRID))


@names
def test_f_leaves_its_argument_alone_and_f_in_place_gives_the_same(name):
    activation, a = known(name), GRID.clone()
    expected = activation.f(a)
    assert torch.equal(a, GRID)
    assert_close(activation.f_(a), expected, rtol=0, atol=0)


@names
def test_the_slope_is_the_largest_that_differences_find(name):
    values = known(name).f(GRID)
    slopes = (values[1:] - values[:-1]).abs() / (GRID[1] - GRID[0])
    assert float(slopes.max()) == pytest.approx(known(name).slope, abs=1e-6)


@names
def test_the_range_is_tight(name):
    activation, values = known(name), known(name).f(GRID)
    assert activation.lower <= float(values.min()) + 1e-6
    assert float(values.max()) <= activation.upper
    if activation.lower > -inf:
        assert float(values.min()) == pytest.approx(activation.lower, abs=1e-5)
    if activation.upper < inf:
        assert float(values.max()) == pytest.approx(activation.upper, abs=1e-5)
    assert (activation.upper == inf) == (name in UNBOUNDED)


@names
def test_the_derivative_is_that_of_the_module(name):
    a = torch.randn(500, dtype=torch.float64).mul_(3).requires_grad_()
    activation, expected = known(name), torch.autograd.grad(ACTIVATIONS[name]()(a).sum(), a)[0]
    a = a.detach()
    assert_close(activation.derivative(a, activation.f(a)), expected, rtol=1e-13, atol=1e-14)


@names
def test_at_a_kink_module_function_and_formula_have_the_same_slope(name):
    activation = known(name)
    a = torch.tensor([0.0, *activation.kinks], dtype=torch.float64, requires_grad=True)
    module, function = (torch.autograd.grad(f(a).sum(), a)[0] for f in (ACTIVATIONS[name](), activation.f))
    assert_close(function, module, rtol=0, atol=0)
    assert_close(activation.derivative(a.detach(), activation.f(a.detach())), module, rtol=0, atol=0)


@names
def test_kinks_are_where_the_slope_jumps(name):
    activation, step = known(name), 1e-4
    kinks = [kink for kink in activation.kinks if abs(kink) < 10]
    a = torch.linspace(-10, 10, 2001, dtype=torch.float64)
    right, left = activation.f(a + step) - activation.f(a), activation.f(a) - activation.f(a - step)
    jumps = (right - left).abs() > 0.05 * step
    assert a[jumps].tolist() == pytest.approx(kinks, abs=1e-9)


@names
def test_the_inverse_exists_where_f_is_monotone(name):
    activation = known(name)
    increasing = bool((activation.f(GRID).diff() >= 0).all())
    assert increasing == (name not in NOT_MONOTONE)
    assert activation.monotone == increasing
    assert (activation.inverse is not None) == increasing


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name not in NOT_MONOTONE])
@settings(max_examples=20)
@given(a=st.floats(-6, 6))
def test_the_inverse_undoes_f_inside_the_range(name, a):
    activation, a = known(name), torch.tensor([a], dtype=torch.float64)
    s = activation.f(a)
    assert activation.inverse is not None
    assert_close(activation.f(activation.inverse(s)), s, rtol=1e-12, atol=1e-12)
    if activation.lower < float(s) < activation.upper:
        # f is flat far out, and its inverse as much less sure
        assert_close(activation.inverse(s), a, rtol=1e-9, atol=1e-9 if name not in {"unit sigmoid"} else 1e-4)


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name not in NOT_MONOTONE])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_inverse_is_finite_even_where_rounding_reached_the_end_of_the_range(name, dtype):
    activation = known(name)
    a = torch.tensor([-1e3, 1e3], dtype=dtype)
    assert activation.inverse is not None
    inverse = activation.inverse(activation.f(a))
    assert inverse.isfinite().all()
    assert inverse.dtype == dtype


def test_the_unit_sigmoid_has_slope_one_at_zero_where_the_sigmoid_has_a_quarter():
    a = torch.zeros(1, requires_grad=True)
    assert torch.autograd.grad(UnitSigmoid()(a), a)[0].item() == 1.0
    assert torch.autograd.grad(nn.Sigmoid()(a), a)[0].item() == 0.25


def test_the_slope_of_a_leaky_relu_is_that_of_its_steeper_side():
    gentle, steep, folded = (recognise(nn.LeakyReLU(slope)) for slope in (0.1, 2.0, -3.0))
    assert gentle
    assert steep
    assert folded
    assert (gentle.slope, steep.slope, folded.slope) == (1.0, 2.0, 3.0)
    assert (gentle.monotone, steep.monotone, folded.monotone) == (True, True, False)


@pytest.mark.parametrize(
    "module", [nn.Softmax(dim=1), nn.Softplus(), nn.PReLU(), nn.Linear(2, 2), nn.Dropout(), nn.Sequential(nn.ReLU())]
)
def test_other_modules_are_not_recognised(module):
    assert recognise(module) is None


def test_neurons_of_two_values_have_the_slope_of_the_hard_tanh():
    a = torch.tensor([-1.5, -0.5, 0.0, 0.5, 1.5], requires_grad=True)
    sign = recognise(Sign())
    assert sign is not None
    assert (
        sign.f(a).tolist() == sign.f_(a.detach().clone()).tolist() == Sign()(a.detach()).tolist() == [-1, -1, 1, 1, 1]
    )
    (slope,) = torch.autograd.grad(Sign()(a).sum(), a)
    assert slope.tolist() == [0, 1, 1, 1, 0]
    assert sign.derivative(a.detach(), sign.f(a)).tolist() == slope.tolist()
    assert not sign.monotone  # no neuron energy has it for its minimiser alone
