"""Gradients in the inputs of every kind of network, against differences of its prediction."""

from collections.abc import Callable
from itertools import combinations

import pytest
import torch
from everywhere import NETWORKS, linear
from torch import nn
from torch.testing import assert_close

from dyadnet import Layered, cross_entropy
from dyadnet.audit.sensitivity import between, input_gradient, jacobian, lipschitz_estimate
from dyadnet.network.base import AbstractNetwork

networks = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)


@networks
def test_gradients_in_the_inputs_are_differences_of_the_prediction(make: Callable[[], AbstractNetwork]):
    net, x, y = make(), torch.rand(4, 2, 3), torch.tensor([0, 1, 2, 1])
    values, gradient = input_gradient(net, cross_entropy, x, y)
    direction, step = torch.randn_like(x), 1e-5
    with torch.no_grad():
        assert_close(values, cross_entropy(net(x), y))
        ends = [cross_entropy(net(x + sign * step * direction), y) for sign in (1, -1)]
    assert_close((gradient * direction).sum((1, 2)), (ends[0] - ends[1]) / (2 * step), rtol=1e-6, atol=1e-8)


@networks
def test_the_jacobian_moves_outputs_as_inputs_move(make: Callable[[], AbstractNetwork]):
    net, x, step = make(), torch.rand(3, 6), 1e-5
    direction = torch.randn_like(x)
    with torch.no_grad():
        moved = (net(x + step * direction) - net(x - step * direction)) / (2 * step)
    assert_close((jacobian(net, x) @ direction[:, :, None])[:, :, 0], moved, rtol=1e-6, atol=1e-8)


def test_linear_networks_have_the_norm_of_their_weights_everywhere():
    weight = torch.randn(3, 6)
    found = lipschitz_estimate(linear(weight), torch.randn(40, 6))
    norm = float(torch.linalg.matrix_norm(weight, 2))
    assert found.steepest == pytest.approx(norm)
    assert found.mean == pytest.approx(norm)
    assert 0.3 * norm < found.pairs <= norm


def test_equal_samples_are_no_pair():
    x = torch.zeros(2, 6)
    assert lipschitz_estimate(linear(torch.ones(1, 6)), torch.cat([x, x + 1])).pairs == pytest.approx(6**0.5)
    assert between(linear(torch.ones(1, 6)), x) == 0


def test_outputs_that_are_sequences_have_constants_too():
    net = Layered.from_sequential(nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)))
    x = torch.randn(6, 7, 4)
    with torch.no_grad():
        far = max(float((net(a[None]) - net(b[None])).norm() / (a - b).norm()) for a, b in combinations(x, 2))
    assert between(net, x) == pytest.approx(far)
