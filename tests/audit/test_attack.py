"""Gradients in the inputs of every kind of network, and attacks whose best answer is known."""

from collections.abc import Callable
from math import inf

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from dyadnet import Dense, Layered, cross_entropy
from dyadnet.audit.attack import Attack, accuracy, margin
from dyadnet.audit.sensitivity import input_gradient, jacobian, lipschitz_estimate
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.lifted import Lifted, Terms
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.schedule import Parallel
from dyadnet.relax.solver import Accelerated, Anderson
from dyadnet.relax.stopping import Residual

TIGHT = Residual(1e-12, 3000)


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))


def lifted() -> Lifted:
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    how = Relaxation(solver=Accelerated(), stop=TIGHT)
    return Lifted(Layered.from_sequential(model), Terms(output_reconstructs=True), relaxation=how)


def dense() -> Dense:
    how = Relaxation(Parallel(), Anderson(), TIGHT)
    return Dense(6, 8, 3, activation=nn.Tanh(), relaxation=how)


NETWORKS: dict[str, Callable[[], AbstractNetwork]] = {
    "feedforward": lambda: Layered.from_sequential(mlp()),
    "skew": lambda: Layered.from_sequential(mlp(), 0.0, relaxation=Relaxation(stop=TIGHT)),
    "symmetric": lambda: Layered.from_sequential(mlp(), 0.6, relaxation=Relaxation(stop=TIGHT)),
    "dense": dense,
    "lifted": lifted,
}
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


def linear(weight: Tensor) -> Layered:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight = nn.Parameter(weight)
    return Layered.from_sequential(nn.Sequential(layer))


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


@networks
def test_attacks_stay_in_the_ball_and_the_box_and_never_help(make: Callable[[], AbstractNetwork]):
    net, x, y = make(), torch.rand(6, 6), torch.randint(3, (6,))
    with torch.no_grad():
        before = margin(net(x), y)
        for attack in (Attack(0.2, steps=5), Attack(0.2, steps=1), Attack(0.4, "euclidean", 5)):
            worst = attack.worst(net, x, y)
            order = inf if attack.norm == "max" else 2
            assert bool(((worst - x).norm(order, 1) <= attack.epsilon * (1 + 1e-9)).all())
            assert bool(((worst >= 0) & (worst <= 1)).all())
            assert bool((margin(net(worst), y) >= before).all())


@pytest.mark.parametrize(("norm", "dual"), [("max", 1), ("euclidean", 2)])
@pytest.mark.parametrize("steps", [1, 10])
def test_of_two_linear_scores_the_margin_rises_by_the_dual_norm_of_their_difference(norm, dual, steps):
    weight, x, y = torch.randn(2, 6), torch.full((3, 6), 0.5), torch.tensor([0, 1, 0])
    net = linear(weight)
    worst = Attack(0.1, norm, steps).worst(net, x, y)
    with torch.no_grad():
        risen = margin(net(worst), y) - margin(net(x), y)
    assert_close(risen, (0.1 * (weight[0] - weight[1]).norm(dual)).expand(3))


def test_a_radius_of_zero_changes_nothing():
    net, x, y = linear(torch.randn(3, 6)), torch.rand(2, 6), torch.tensor([0, 1])
    for norm in ("max", "euclidean"):
        assert torch.equal(Attack(0.0, norm).worst(net, x, y), x)


def test_accuracy_counts_the_largest_output():
    assert accuracy(linear(torch.eye(3)), torch.eye(3), torch.tensor([0, 1, 1])) == pytest.approx(2 / 3)


@pytest.mark.parametrize("settings", [{"epsilon": -1.0}, {"epsilon": 0.1, "steps": 0}])
def test_attacks_without_a_meaning_are_refused(settings):
    with pytest.raises(ValueError, match="an attack needs"):
        Attack(**settings)
