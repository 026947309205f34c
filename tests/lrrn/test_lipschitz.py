"""How far lifted networks move with their inputs: as far as certified, and what happens without the conditions."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dyadnet import Layered, Sweeps
from dyadnet.audit.lipschitz import lipschitz_bounds
from dyadnet.energy.lrrn import LRRNEnergy
from dyadnet.network.lifted import Lifted, Terms
from dyadnet.network.state import Activity, States
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.solver import Plain
from dyadnet.relax.stopping import Count, Residual
from lrrn.cases import EXACT, NETWORKS, SOME, lifted, mlp, predict, tensors


def pairs(inputs: int = 5, count: int = 30) -> tuple[Tensor, Tensor]:
    """Near and distant pairs of inputs."""
    x = torch.randn(count, inputs)
    return x, x + torch.randn(count, inputs) * torch.logspace(-2, 1, count)[:, None]


def ratio(one: Tensor, other: Tensor, x: Tensor, y: Tensor) -> float:
    """The largest ratio of the distances of states to those of inputs."""
    return float(((one - other).norm(dim=1) / (x - y).norm(dim=1)).max())


def ratios(net: Lifted, x: Tensor, y: Tensor, relaxation: Relaxation | None = None) -> list[float]:
    """Of every layer."""
    sides = [tensors(net.relax(side, relaxation=relaxation).states) for side in (x, y)]
    return [ratio(one, other, x, y) for one, other in zip(*sides, strict=True)]


FINE = replace(EXACT, stop=Residual(1e-11, 5000))

# --- tied weights ---


@settings(max_examples=5)
@given(
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([0.1, 0.7, 2.0, 5.0, 20.0]),
    gamma=st.sampled_from([1.0, 0.3, 0.01]),
    activation=st.sampled_from([nn.ReLU, nn.Identity, lambda: nn.Hardtanh(0, 1)]),
)
def test_layers_of_tied_weights_are_lipschitz_1_at_any_scale(seed: int, scale: float, gamma: float, activation):
    torch.manual_seed(seed)
    terms = Terms(gamma, biases=True, output_reconstructs=True)
    net = lifted(terms, mlp(activation, scale=scale), output_gain=3.0, relaxation=FINE)
    x, y = pairs()
    assert max(ratios(net, x, y)) <= 1 + 1e-6  # the prediction is three times the last


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_so_they_are_while_the_output_is_clamped(scale: float):
    net, (x, y) = lifted(Terms(gamma=1.0), scale=scale), pairs()
    energy, target = LRRNEnergy(net), torch.randn(1, 3).expand(30, 3)
    sides = [tensors(energy.minimise(net.wire(side), energy.clamped(target, target)).states) for side in (x, y)]
    assert max(ratio(one, other, x, y) for one, other in zip(*sides, strict=True)) <= 1 + 1e-6


def linear_gain(W: Tensor, terms: Terms) -> float:
    """The Lipschitz constant of one linear layer: the norm of what the network makes of the unit vectors."""
    linear = nn.Linear(W.shape[1], W.shape[0], bias=False)
    linear.weight = nn.Parameter(W)
    net = lifted(terms, nn.Sequential(linear))
    return float(torch.linalg.matrix_norm(predict(net, torch.eye(W.shape[1])), 2))


@pytest.mark.parametrize(("kappa", "rho"), [(1.0, 1.0), (1.0, 4.0), (4.0, 1.0), (0.3, 2.0)])
def test_unequal_weights_reach_the_bound_where_a_singular_value_is_the_root_of_their_ratio(kappa: float, rho: float):
    terms = Terms(regression=kappa, reconstruction=rho, output_reconstructs=True)
    largest = (kappa + rho) / (2 * (kappa * rho) ** 0.5)
    q = torch.linalg.qr(torch.randn(4, 4))[0]
    for values, gain in (
        (torch.tensor([(kappa / rho) ** 0.5, 0.1, 0.2, 9.0]), largest),
        (torch.tensor([0.3, 0.1, 0.2, 0.0]), (kappa + rho) * 0.3 / (kappa + rho * 0.09)),
    ):
        W = torch.diag(values) @ q
        assert linear_gain(W, terms) == pytest.approx(gain)
        net = lifted(terms, nn.Sequential(nn.Linear(4, 4)))
        net.maps[0].weight = nn.Parameter(W)
        assert lipschitz_bounds(net).output == pytest.approx(gain)


# --- what is certified ---


@pytest.mark.parametrize("name", ["tied", "tied, strong feedback", *SOME])
def test_no_network_moves_further_than_certified(name: str):
    net, (x, y) = NETWORKS[name](), pairs()
    found = lipschitz_bounds(net)
    measured = ratios(net, x, y)
    for of_layer, bound in zip(measured, found.states, strict=True):
        assert of_layer <= bound * (1 + 1e-6)
    assert net.output_gain * measured[-1] <= found.output * (1 + 1e-6)


def test_the_layers_of_tied_networks_have_1_and_an_output_by_regression_its_norm():
    net = lifted(output_gain=2.0, scale=5.0)
    norm = float(torch.linalg.matrix_norm(net.maps[-1].weight.detach(), 2))
    found = lipschitz_bounds(net)
    assert found.layers == (1.0, 1.0, pytest.approx(norm))
    assert found.output == pytest.approx(2 * norm)
    assert lipschitz_bounds(lifted(Terms(output_reconstructs=True), output_gain=2.0, scale=5.0)).output == 2.0


def test_regression_alone_has_the_product_of_the_norms():
    net = lifted(Terms(reconstruction=0.0))
    norms = [float(torch.linalg.matrix_norm(map_.weight.detach(), 2)) for map_ in net.maps]
    assert lipschitz_bounds(net).layers == pytest.approx(norms)


def test_the_bound_of_weights_of_its_own_is_near_what_linear_layers_reach():
    model = nn.Sequential(nn.Linear(6, 6, bias=False))
    net = lifted(Terms(tied=False, output_reconstructs=True), model)
    reached = float(torch.linalg.matrix_norm(predict(net, torch.eye(6)), 2))
    assert reached <= lipschitz_bounds(net).output <= 2 * reached


# --- without the conditions ---


def scalar(w: float, v: float | None) -> Lifted:
    """A single linear unit with one input; None for tied weights."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False))
    nn.init.constant_(model[0].weight, w)  # pyright: ignore[reportArgumentType]
    net = Lifted(Layered.from_sequential(model), Terms(tied=v is None, output_reconstructs=True), relaxation=EXACT)
    if v is not None:
        nn.init.constant_(net.V[0], v)
    return net


def test_weights_of_its_own_are_not_lipschitz_1():
    x, y = torch.tensor([[1.0]]), torch.tensor([[2.0]])
    for w, v in ((10.0, 0.1), (3.0, 1.0), (1.0, 3.0)):
        expected = (w + v) / (1 + v * v)
        net = scalar(w, v)
        assert ratio(predict(net, x), predict(net, y), x, y) == pytest.approx(expected)
        assert lipschitz_bounds(net).output == pytest.approx(expected)
    assert ratio(predict(scalar(10.0, 0.1), x), predict(scalar(10.0, 0.1), y), x, y) > 9.99
    assert ratio(predict(scalar(10.0, None), x), predict(scalar(10.0, None), y), x, y) == pytest.approx(20 / 101)


def feedforward(net: Lifted, x: Tensor) -> States:
    """The activities of the plain chain."""
    states: list[Activity] = []
    for map_, activation in zip(net.maps, net.activations, strict=True):
        x = activation.f(map_(x)).detach()
        states.append(Activity(x))
    return states


def test_states_on_their_way_from_the_feedforward_pass_are_not_lipschitz_1_and_those_from_silence_are():
    net, (x, y) = lifted(Terms(gamma=1.0), mlp(widths=(20, 30, 20, 3), scale=3.0)), pairs(20)

    def after(sweeps: int, start: Callable[[Lifted, Tensor], States | None]) -> float:
        how = Relaxation(Sweeps(), Plain(), Count(sweeps))
        sides = [net.relax(side, states=start(net, side), relaxation=how).states[0].mean() for side in (x, y)]
        return ratio(sides[0], sides[1], x, y)

    assert ratio(feedforward(net, x)[0].mean(), feedforward(net, y)[0].mean(), x, y) > 2
    warm = [after(sweeps, feedforward) for sweeps in (1, 2, 200)]
    assert warm[0] > warm[1] > 1 > warm[2]
    assert max(after(sweeps, lambda net, x: None) for sweeps in (1, 2, 5, 200)) < 1


def units_in_turn(net: Lifted) -> Lifted:
    net.units = "in turn"
    return net


@pytest.mark.parametrize("make", [lambda net: net, units_in_turn], ids=["together", "in turn"])
def test_plain_chains_of_the_same_weights_are_not_lipschitz_1(make):
    model = mlp(scale=4.0)
    net, (x, y) = make(lifted(Terms(output_reconstructs=True), model)), pairs()
    assert ratio(model(x).detach(), model(y).detach(), x, y) > 5
    assert ratio(predict(net, x), predict(net, y), x, y) <= 1 + 1e-6
