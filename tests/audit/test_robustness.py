"""Accuracy under attacks and noise: what is known of linear classifiers, and nothing is left behind."""

from collections.abc import Callable
from math import erf, sqrt

import pytest
import torch
from everywhere import NETWORKS, linear
from torch import Tensor, nn

from dyadnet import Dense, Layered
from dyadnet.audit.attack import Box
from dyadnet.audit.robustness import Kind, robustness, shifted, with_noisy_units
from dyadnet.hardware.chip import Chip
from dyadnet.hardware.device import Device
from dyadnet.hardware.units import Units
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


def chain(lam: float = 0.5, *, lowest: bool = False, highest: bool = False) -> Layered:
    """Of 500 and 400 hidden units, with the biases that are asked for."""
    layers = nn.Linear(6, 500, bias=lowest), nn.Tanh(), nn.Linear(500, 400, bias=False), nn.ReLU()
    return Layered.from_sequential(nn.Sequential(*layers, nn.Linear(400, 3, bias=highest)), lam)


HIDDEN: dict[str, Callable[[], AbstractNetwork]] = {
    "without biases": chain,
    "with a bias of the outputs alone": lambda: chain(highest=True),
    "with a bias below alone": lambda: chain(lowest=True),
    "with loops": lambda: chain(0.6),
    "dense": lambda: Dense(6, 903, 3),
    "of one convolution": lambda: Layered.from_sequential(
        nn.Sequential(nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 150, 1), nn.Tanh(), nn.Flatten(), nn.Linear(900, 3))
    ),
}


def shifts(net: AbstractNetwork, x: Tensor) -> list[Tensor]:
    """By how much what the units of every layer make of their drive differs from it."""
    with torch.no_grad():
        wiring = net.wire(x, net.relax(x).states)
        return [wiring.received(k) - wiring.drive(k) for k in range(1, wiring.depth + 1)]


@pytest.mark.parametrize("make", HIDDEN.values(), ids=HIDDEN)
def test_noise_on_units_shifts_the_drive_of_every_hidden_unit_and_of_no_output(make: Callable[[], AbstractNetwork]):
    torch.manual_seed(0)
    net, x = make(), torch.rand(4, 6)
    states = [state.mean().detach().flatten() for state in net.relax(x).states[:-1]]
    expected = 0.3 * float(torch.cat(states).square().mean().sqrt())
    *hidden, output = shifts(with_noisy_units(net, x, 0.3, torch.Generator().manual_seed(1)), x)
    assert not bool(output.any())
    for noise in hidden:
        assert torch.allclose(noise, noise[:1].expand_as(noise), atol=1e-6), "the same for every sample"
        assert float(noise[0].std()) == pytest.approx(expected, rel=0.14)  # of 400 units or more: 4 sigma
        assert abs(float(noise[0].mean())) < 4 * expected / noise[0].numel() ** 0.5
    again = shifts(with_noisy_units(net, x, 0.3, torch.Generator().manual_seed(1)), x)
    assert all(torch.equal(one, other) for one, other in zip([*hidden, output], again, strict=True))
    assert not any(bool(noise.any()) for noise in shifts(net, x))


def test_noise_on_units_comes_to_what_units_are_made_of_besides():
    net, x = chain(), torch.rand(4, 6)
    chip = Chip(Device(units=Units(offset=0.5)), net)
    circuit = chip.circuit(net, torch.Generator())
    alone = shifts(circuit, x), shifts(with_noisy_units(net, x, 0.3, torch.Generator().manual_seed(1)), x)
    both = [offset + noise for offset, noise in zip(*alone, strict=True)]
    size = 0.3 * ratio(net, circuit, x)
    found = shifts(with_noisy_units(circuit, x, size, torch.Generator().manual_seed(1)), x)
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(found, both, strict=True))


def ratio(net: AbstractNetwork, other: AbstractNetwork, x: Tensor) -> float:
    """The root mean square of hidden states of one network over that of another one."""
    states = [torch.cat([s.mean().detach().flatten() for s in one.relax(x).states[:-1]]) for one in (net, other)]
    return float(states[0].norm() / states[1].norm())


def test_parameters_come_back_also_after_an_error():
    weight = torch.nn.Parameter(torch.ones(2))
    with pytest.raises(KeyError), shifted({weight: torch.ones(2)}):
        raise KeyError
    assert weight.tolist() == [1.0, 1.0]


def test_negative_sizes_and_noise_on_units_where_none_are_hidden_are_refused():
    net, x, y = linear(torch.eye(2)), torch.rand(1, 2), torch.tensor([0])
    with pytest.raises(ValueError, match="must not be negative"):
        robustness(net, x, y, {"inputs": (-0.1,)})
    with pytest.raises(ValueError, match="there are none"):
        robustness(net, x, y, {"units": (0.1,)})
