"""The Lagrangian form: backpropagation's gradients in any order, at a stationary point of the function in its file."""

import numpy as np
import pytest
import reference
import torch
from cases import LOSSES, NETWORKS, SCHEDULES, SMOOTH, as_reference, mlp, one_hot, problem, weight
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from dyadnet import Lagrangian, Layered, RandomOrder, Sweeps, cross_entropy
from dyadnet.activation import recognise
from dyadnet.network.stage import Stage
from dyadnet.rule.base import Estimate
from dyadnet.rule.lagrangian import Held

ALL = {**SMOOTH, "relu mlp": NETWORKS["relu mlp"]}
schedules = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
losses = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


@schedules
@losses
@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_gradients_are_those_of_autograd_in_any_order(schedule, loss, make):
    case = make()
    assert_close(case.estimate(Lagrangian(schedule), loss), case.exact(loss), rtol=1e-12, atol=1e-13)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32))
def test_gradients_are_those_of_autograd_in_every_random_order_that_is_long_enough(seed):
    case = NETWORKS["relu mlp"]()
    generator = torch.Generator().manual_seed(seed)
    found = case.estimate(Lagrangian(RandomOrder(20)), cross_entropy, generator=generator)
    assert_close(found, case.exact(cross_entropy), rtol=1e-12, atol=1e-13)


def test_an_order_that_never_descends_to_the_lowest_layer_does_not_find_its_gradient():
    case, rule = NETWORKS["relu mlp"](), Lagrangian(RandomOrder(2))
    seeds = (torch.Generator().manual_seed(seed) for seed in range(10))
    exact = case.exact(cross_entropy)["0.weight"]
    found = [case.estimate(rule, cross_entropy, generator=generator)["0.weight"] for generator in seeds]
    assert any(not torch.allclose(grad, exact) for grad in found)


def multipliers(step: Estimate) -> list[Tensor]:
    """The multiplier of every layer."""
    states = [state for state in step.states or () if isinstance(state, Held)]
    return [state.multiplier for state in states if state.multiplier is not None]


def stationary_case():
    """A net whose output layer has an activation of its own, and the states and multipliers that the rule finds."""
    model = nn.Sequential(*mlp(), nn.Tanh(), nn.Linear(4, 4))
    case = problem(model, 5, batch=1)
    step = Lagrangian(Sweeps(2)).estimate(case.net, cross_entropy, case.x, case.y)
    s = [state.mean()[0].numpy() for state in step.states or ()]
    lam = [-multiplier[0].numpy() for multiplier in multipliers(step)]  # the code's have the opposite sign
    return case, s, lam


def lagrangian(net: reference.Net, x, y, s, lam) -> float:
    """`L = l(s_L) + sum_k lambda_k^T (s_k - f_k(W_{k-1} s_{k-1} + b_{k-1}))`, term by term."""
    total, below = reference.loss("cross-entropy", s[-1], y), x
    for k in range(net.depth):
        f = reference.each(reference.F[net.f[k]], reference.drive(net.W[k], net.b[k], below))
        total += sum(lam[k][i] * (s[k][i] - f[i]) for i in range(len(f)))
        below = s[k]
    return total


def slopes(function, variables: list[np.ndarray], step: float = 1e-5) -> list[np.ndarray]:
    """Central differences of a function of arrays; 1e-5 balances truncation (1e-10) and rounding (1e-11)."""
    found = []
    for i, variable in enumerate(variables):
        slope = np.zeros_like(variable)
        for place in np.ndindex(variable.shape):
            values = []
            for sign in (1, -1):
                moved = [v.copy() for v in variables]
                moved[i][place] += sign * step
                values.append(function(moved))
            slope[place] = (values[0] - values[1]) / (2 * step)
        found.append(slope)
    return found


def test_states_and_multipliers_are_a_stationary_point_of_the_lagrangian():
    case, s, lam = stationary_case()
    net, x, y = as_reference(case.net), case.x[0].numpy(), one_hot(case.y)[0]
    for slope in slopes(lambda moved: lagrangian(net, x, y, moved, lam), s):
        assert abs(slope).max() < 1e-8
    for slope in slopes(lambda moved: lagrangian(net, x, y, s, moved), lam):
        assert abs(slope).max() < 1e-8


def test_its_slope_in_the_parameters_is_the_gradient():
    case, s, lam = stationary_case()
    net, x, y = as_reference(case.net), case.x[0].numpy(), one_hot(case.y)[0]
    grads = Lagrangian().estimate(case.net, cross_entropy, case.x, case.y).grads
    found = slopes(lambda W: lagrangian(reference.Net(W, net.b, net.f), x, y, s, lam), list(net.W))
    for k, slope in enumerate(found):
        assert_close(grads[weight(case.net, k)], torch.tensor(slope), rtol=0, atol=1e-8)


def test_the_recursion_for_lambda_as_printed_in_equation_3_6_is_not_stationary():
    """`lambda_l = W_l^T lambda_{l+1} * f'_l(a_l)` is the recursion of `delta_l`."""
    case, s, _ = stationary_case()
    net, x, y = as_reference(case.net), case.x[0].numpy(), one_hot(case.y)[0]
    a, _ = reference.forward(net, x)
    lam = [-reference.loss_gradient("cross-entropy", s[-1], y)]
    for k in range(net.depth - 1, 0, -1):
        derivative = reference.each(reference.DERIVATIVE[net.f[k - 1]], a[k])
        lam.insert(0, reference.transposed(net.W[k], lam[0]) * derivative)
    steepest = [abs(slope).max() for slope in slopes(lambda moved: lagrangian(net, x, y, moved, lam), s)]
    assert min(steepest[:-1]) > 1e-3


def test_multipliers_are_gradients_in_the_states_and_errors_those_in_the_pre_activations():
    case = problem(mlp(), 5)
    step = Lagrangian().estimate(case.net, cross_entropy, case.x, case.y)
    drives, s, x = [], [], case.x
    for stage in case.net.stages:
        drives.append(stage.map(x))
        s.append(stage.activation.f(drives[-1]))
        x = s[-1]
    value = cross_entropy(x, case.y).mean()
    for tensors, ours in (
        (s, multipliers(step)),
        (drives, [state.error() for state in step.states or ()]),
    ):
        expected = torch.autograd.grad(value, tensors, retain_graph=True)
        assert_close(ours, list(expected), rtol=1e-12, atol=1e-14)


def test_an_output_layer_with_an_activation_of_its_own_sends_its_derivative_down():
    layer, activation = nn.Linear(5, 4), recognise(nn.Tanh())
    assert activation is not None
    net = Layered({"0": layer}, (Stage(layer, activation, "0 Linear"),))
    x, y = torch.randn(3, 5), torch.tensor([0, 1, 2])
    expected = torch.autograd.grad(cross_entropy(layer(x).tanh(), y).mean(), layer.weight)[0]
    grads = Lagrangian().estimate(net, cross_entropy, x, y).grads
    assert_close(grads[layer.weight], expected, rtol=1e-12, atol=1e-14)


@schedules
def test_passes_are_those_of_the_schedule(schedule):
    case = NETWORKS["relu mlp"]()
    step = Lagrangian(schedule).estimate(case.net, cross_entropy, case.x, case.y)
    assert step.passes == schedule.count(3)
