"""Accuracy under attacks and noise: what is known of linear classifiers, and nothing is left behind."""

from collections.abc import Callable
from math import erf, sqrt

import pytest
import torch
from everywhere import NETWORKS, linear

from dyadnet.audit.attack import Box
from dyadnet.audit.robustness import Kind, robustness, shifted
from dyadnet.network.base import AbstractNetwork

networks = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)


def of(net: AbstractNetwork, kind: Kind, *sizes: float, count: int = 4000, **options) -> list[float]:
    """Of samples one unit from the plane between two classes, measured as `w (x - x')` would."""
    x = torch.tensor([[0.6, 0.4]]).expand(count, 2)
    return [
        trial.accuracy for trial in robustness(net, x, torch.zeros(count, dtype=torch.long), {kind: sizes}, **options)
    ]


def test_noise_on_inputs_flips_the_share_of_a_normal_distribution_beyond_the_plane():
    net, distance = linear(torch.eye(2)), 0.2 / sqrt(2)
    for sigma, found in zip((0.1, 0.3), of(net, "inputs", 0.1, 0.3), strict=True):
        assert found == pytest.approx((1 + erf(distance / sigma / sqrt(2))) / 2, abs=0.015)  # 5 x 4000 draws: 4 sigma


def test_attacks_flip_all_at_the_distance_of_the_plane_and_none_before():
    net = linear(torch.eye(2))
    assert of(net, "fast gradient", 0.09, 0.11, count=3) == [1.0, 0.0]  # 0.2 over 2 pixels
    assert of(net, "projected gradient", 0.09, 0.11, count=3) == [1.0, 0.0]
    assert of(net, "projected gradient, euclidean", 0.14, 0.145, count=3) == [1.0, 0.0]  # 0.2 / sqrt(2) = 0.1414


def test_the_size_of_noise_on_inputs_is_in_the_unit_of_the_box():
    net = linear(torch.eye(2))
    assert of(net, "inputs", 0.1, box=Box(-1.0, 1.0, 2.0)) == of(net, "inputs", 0.2)


def test_noise_on_weights_is_relative_to_their_size_and_drawn_anew():
    plain, large = (
        [*of(linear(scale * torch.eye(2)), "weights", 0.3, 1.0, count=1, draws=400)] for scale in (1.0, 9.0)
    )
    assert plain == pytest.approx(large)
    assert plain[0] > plain[1]
    # margin 0.2 + (n00 - n10) 0.6 + (n01 - n11) 0.4, of standard deviation sqrt(2 (0.36 + 0.16)) times sigma rms
    for sigma, found in zip((0.3, 1.0), plain, strict=True):
        expected = (1 + erf(0.2 / (sigma * sqrt(0.5) * sqrt(1.04)) / sqrt(2))) / 2
        assert found == pytest.approx(expected, abs=0.1)  # 400 draws: 4 sigma


@networks
def test_without_size_nothing_changes_and_the_network_is_left_as_it_was(make: Callable[[], AbstractNetwork]):
    net, x, y = make(), torch.rand(5, 2, 3), torch.tensor([0, 1, 2, 1, 0])
    before = [p.detach().clone() for p in net.parameters()]
    with torch.no_grad():
        clean = float((net(x).argmax(1) == y).double().mean())
    for trial in robustness(net, x, y, dict.fromkeys(("inputs", "weights", "units"), (0.0, 0.2)), draws=2):
        assert trial.size > 0 or trial.accuracy == clean
    assert all(torch.equal(p, old) for p, old in zip(net.parameters(), before, strict=True))


@networks
def test_noise_on_units_moves_the_prediction(make: Callable[[], AbstractNetwork]):
    net, x, y = make(), torch.rand(200, 2, 3), torch.randint(3, (200,))
    with torch.no_grad():
        y = net(x).argmax(1)
    (trial,) = robustness(net, x, y, {"units": (3.0,)})
    assert trial.accuracy < 1.0


def test_parameters_come_back_also_after_an_error():
    weight = torch.nn.Parameter(torch.ones(2))
    with pytest.raises(KeyError), shifted({weight: torch.ones(2)}):
        raise KeyError
    assert weight.tolist() == [1.0, 1.0]


def test_negative_sizes_and_units_without_biases_are_refused():
    net, x, y = linear(torch.eye(2)), torch.rand(1, 2), torch.tensor([0])
    with pytest.raises(ValueError, match="must not be negative"):
        robustness(net, x, y, {"inputs": (-0.1,)})
    with pytest.raises(ValueError, match="have none"):
        robustness(net, x, y, {"units": (0.1,)})
