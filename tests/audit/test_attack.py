"""Attacks stay where they may go, and find the best answer where that is known."""

from collections.abc import Callable
from math import inf

import pytest
import torch
from everywhere import NETWORKS, linear
from torch.testing import assert_close

from dyadnet.audit.attack import Attack, Box, accuracy, margin
from dyadnet.network.base import AbstractNetwork

networks = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)


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


@pytest.mark.parametrize("norm", ["max", "euclidean"])
@pytest.mark.parametrize("steps", [1, 10])
def test_normalised_inputs_are_attacked_as_the_pixels_that_they_come_from(norm, steps):
    pixels, y = torch.rand(20, 2, 3), torch.randint(3, (20,))
    mean, std = torch.tensor([[0.4], [0.6]]), torch.tensor([[0.2], [0.5]])
    seen = NETWORKS["feedforward"]()
    raw = NETWORKS["feedforward"]()
    raw.load_state_dict(seen.state_dict())
    first, scale = raw.stages[0].map[1], std.expand(2, 3).flatten()
    with torch.no_grad():  # W (p - mean) / std + b
        first.weight /= scale
        first.bias -= first.weight @ mean.expand(2, 3).flatten()
    worst = Attack(0.1, norm, steps).worst(raw, pixels, y)
    box = Box(-mean / std, (1 - mean) / std, 1 / std)
    assert_close(Attack(0.1, norm, steps, box).worst(seen, (pixels - mean) / std, y), (worst - mean) / std)


def test_accuracy_counts_the_largest_output():
    assert accuracy(linear(torch.eye(3)), torch.eye(3), torch.tensor([0, 1, 1])) == pytest.approx(2 / 3)


@pytest.mark.parametrize("settings", [{"epsilon": -1.0}, {"epsilon": 0.1, "steps": 0}])
def test_attacks_without_a_meaning_are_refused(settings):
    with pytest.raises(ValueError, match="an attack needs"):
        Attack(**settings)


@pytest.mark.parametrize("box", [{"low": 1.0}, {"unit": 0.0}, {"high": torch.tensor([1.0, -1.0])}])
def test_boxes_that_hold_nothing_are_refused(box):
    with pytest.raises(ValueError, match="a box needs"):
        Box(**box)
