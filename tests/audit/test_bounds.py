"""Certified bounds above everything that inputs show, and certified samples that no attack flips."""

from collections.abc import Callable
from dataclasses import replace
from math import inf, sqrt

import pytest
import torch
from everywhere import TIGHT, linear
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import Tensor, nn

from dyadnet import Backprop, Dense, Dyadic, Layered, cross_entropy, squared_error
from dyadnet.audit.attack import Attack, accuracy
from dyadnet.audit.bounds import certified_bound, certified_radius, driven, lipschitz
from dyadnet.audit.certificate import certify
from dyadnet.audit.sensitivity import between
from dyadnet.hardware.chip import Chip
from dyadnet.hardware.device import Device
from dyadnet.hardware.units import Units
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.lifted import Lifted, Terms
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.schedule import Parallel
from dyadnet.relax.solver import Accelerated, Anderson
from dyadnet.relax.stopping import Residual
from dyadnet.rule.lrrn import LRRN

EXACT = Relaxation(stop=TIGHT)
PLAIN = Relaxation(stop=Residual(1e-7))
LOOSE = Relaxation(solver=Accelerated(), stop=Residual(1e-7, 2000))
FEW = Relaxation(solver=Accelerated(), stop=replace(TIGHT, tolerance=1e-9))


def chain(scale: float, activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(6, 5), activation(), nn.Linear(5, 4), activation(), nn.Linear(4, 3))
    with torch.no_grad():
        for layer in model[::2]:
            layer.weight.normal_(std=scale)
            layer.bias.normal_(std=0.3)
    return model


KINDS: dict[str, Callable[[float], AbstractNetwork]] = {
    "feedforward": lambda scale: Layered.from_sequential(chain(scale)),
    "skew": lambda scale: Layered.from_sequential(chain(scale, nn.Tanh), 0.0, relaxation=EXACT),
    "a quarter": lambda scale: Layered.from_sequential(chain(min(scale, 0.3), nn.Tanh), 0.25, relaxation=EXACT),
    "dense, skew": lambda scale: Dense(
        6, 8, 3, "skew", activation=nn.Tanh(), scale=scale, relaxation=Relaxation(Parallel(), Anderson(), TIGHT)
    ),
    "tied": lambda scale: Lifted(Layered.from_sequential(chain(scale)), Terms(biases=True), relaxation=FEW),
    "untied": lambda scale: Lifted(
        Layered.from_sequential(chain(scale)), Terms(biases=True, tied=False), relaxation=FEW
    ),
    "tied, output too": lambda scale: Lifted(
        Layered.from_sequential(chain(scale)), Terms(output_reconstructs=True), output_gain=2.0, relaxation=FEW
    ),
}


@settings(max_examples=8)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([0.2, 0.5, 1.5]), kind=st.sampled_from(sorted(KINDS)))
def test_no_estimate_is_above_the_certified_bound(seed: int, scale: float, kind: str):
    torch.manual_seed(seed)
    net, x = KINDS[kind](scale), torch.rand(6, 6)
    found = lipschitz(net, x, steps=5)
    assert found.bound < inf
    assert found.mean <= found.steepest
    assert max(found.pairs, found.steepest, found.driven) <= found.bound * (1 + 1e-6)


def side_by_side(*models: nn.Sequential) -> nn.Sequential:
    """One network of block-diagonal weights, in which the given ones do not hear each other."""
    joined = nn.Sequential(*models[0])
    for i, layer in enumerate(models[0]):
        if isinstance(layer, nn.Linear):
            joined[i] = nn.Linear(len(models) * layer.in_features, len(models) * layer.out_features)
            joined[i].weight = nn.Parameter(torch.block_diag(*(model[i].weight.detach() for model in models)))
            joined[i].bias = nn.Parameter(torch.cat([model[i].bias.detach() for model in models]))
    return joined


def moved(net: AbstractNetwork, networks: int, size: float = 0.1) -> float:
    """The largest ratio of distances of hidden states to those of inputs, within any of the networks side by side."""
    x = torch.randn(4, 6 * networks)
    y = x + size * torch.randn_like(x)
    found = [net.relax(side) for side in (x, y)]
    assert all(solution.converged.all() for solution in found)
    apart = (x - y).view(4, networks, -1).norm(dim=2)
    pairs = zip(*(solution.states[:-1] for solution in found), strict=True)
    return max(float(((a.mean() - b.mean()).view(4, networks, -1).norm(dim=2) / apart).max()) for a, b in pairs)


def random(count: int, activation: Callable[[], nn.Module], *, inputs_one_by_one: bool = False) -> nn.Sequential:
    """Chains of weights of all sizes; skew ones are Lipschitz-1 from what drives their units, so inputs drive these."""
    models = [chain(10 ** float(torch.empty(1).uniform_(-1, 0.7)), activation) for _ in range(count)]
    for model in models if inputs_one_by_one else ():
        model[0].weight = nn.Parameter(torch.eye(5, 6))
    return side_by_side(*models)


@pytest.mark.parametrize("seed", range(5))
def test_none_of_five_times_a_hundred_skew_networks_moves_its_states_further_than_its_inputs(seed: int):
    torch.manual_seed(seed)
    model = random(100, nn.Tanh, inputs_one_by_one=True)
    assert 0.5 < moved(Layered.from_sequential(model, 0.0, relaxation=EXACT), 100) <= 1 + 1e-6


@pytest.mark.parametrize("seed", range(5))
def test_nor_does_any_of_five_times_a_hundred_tied_ones(seed: int):
    torch.manual_seed(seed)
    net = Lifted(Layered.from_sequential(random(100, nn.ReLU)), Terms(biases=True), relaxation=FEW)
    assert 0.5 < moved(net, 100) <= 1 + 1e-6


def test_symmetric_networks_of_small_weights_do():
    torch.manual_seed(0)
    models = [chain(0.2, nn.Tanh) for _ in range(20)]
    for model in models:
        model[0].weight = nn.Parameter(torch.eye(5, 6))
    net = Layered.from_sequential(side_by_side(*models), 1.0, relaxation=EXACT)
    assert moved(net, 20, 0.01) > 1.1


def test_gradients_drive_inputs_to_the_norm_of_a_linear_network():
    weight = torch.randn(3, 6)
    found = driven(linear(weight), torch.randn(4, 6), steps=60)
    torch.testing.assert_close(found, torch.linalg.matrix_norm(weight, 2).expand(4), rtol=1e-2, atol=0)


def test_networks_without_a_theorem_have_no_bound_and_say_why():
    x = torch.rand(2, 6)
    symmetric = Layered.from_sequential(chain(2.0, nn.Tanh), 1.0, relaxation=EXACT)
    assert certified_bound(symmetric, x) == (inf, "no margin")
    pooled = nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(4, 3))
    assert certified_bound(Layered.from_sequential(pooled), x[:, None]) == (inf, "maps that are not affine")
    silu = nn.Sequential(nn.Linear(6, 5), nn.SiLU(), nn.Linear(5, 3))
    bound, why = certified_bound(Layered.from_sequential(silu), x)
    assert bound == inf
    assert "not monotone" in why


def maxima() -> Layered:
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.MaxPool1d(2), nn.Linear(2, 3))
    return Layered.from_sequential(model, 0.0, relaxation=EXACT)


@pytest.mark.parametrize(
    ("make", "finite", "reason"),
    [
        (lambda: Dense(4, 7, 2, structure="lower", scale=5.0), False, "no margin"),
        (lambda: Dense(4, 7, 2, structure="lower", scale=0.3), True, "margin of the monotone operator"),
        (maxima, False, "maps that are not affine"),
    ],
    ids=["dense", "dense of small weights", "maxima"],
)
def test_the_reason_is_the_one_that_holds(make: Callable[[], AbstractNetwork], finite: bool, reason: str):
    net = make()
    x = torch.rand(2, 1, 4) if isinstance(net, Layered) else torch.rand(2, 4)
    bound, why = certified_bound(net, x)
    assert (bound < inf, why) == (finite, reason)


@pytest.mark.parametrize("lam", [0.0, 0.5, "tied"])
def test_nothing_is_certain_of_units_that_are_not_perfect(lam: float | str):
    """Gains above 1 move predictions further than the bound of perfect units says."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Identity(), nn.Linear(1, 1, bias=False))
    for parameter in model.parameters():
        nn.init.ones_(parameter)
    net = Lifted(Layered.from_sequential(model)) if isinstance(lam, str) else Layered.from_sequential(model, lam)
    chip = Chip(Device(units=Units(gain=0.3)), net, seed=3)
    circuit = chip.circuit(net, torch.Generator().manual_seed(0))
    x = torch.tensor([[0.0], [1.0]])
    if lam != "tied":
        assert between(circuit, x) > 1.3 * certified_bound(net, x)[0]
    assert certified_bound(circuit, x) == (inf, "a bound is known of perfect units alone: take net.on(None)")
    assert (
        lipschitz(circuit, x).unknown == "a gradient in the inputs is known of perfect units alone: take net.on(None)"
    )
    with pytest.raises(ValueError, match="a gradient in the inputs is known of perfect units alone"):
        Attack(0.1).worst(circuit, x, torch.zeros(2, dtype=torch.int64))
    if isinstance(net, Layered):
        with pytest.raises(ValueError, match="a certificate is known of perfect units alone"):
            certify(circuit, x)


# --- certified classes ---


def digits() -> tuple[Tensor, Tensor]:
    images, labels = load_digits(return_X_y=True)
    return torch.as_tensor(images[:200] / 16), torch.as_tensor(labels[:200])


def trained(kind: str) -> AbstractNetwork:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.Hardtanh(0, 1), nn.Linear(32, 10))
    plain = Layered.from_sequential(model)
    net, rule, loss = {
        "feedforward": (plain, Backprop(), cross_entropy),
        "skew": (
            Layered.from_sequential(model, 0.0, relaxation=Relaxation(stop=Residual(1e-7))),
            Dyadic(),
            squared_error,
        ),
        "tied": (
            Lifted(plain, Terms(output_reconstructs=True), output_gain=2.0, relaxation=LOOSE),
            LRRN(),
            squared_error,
        ),
    }[kind]
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    x, y = digits()
    for _ in range(40):
        optimizer.zero_grad()
        rule.backward(net, loss, x, y)
        optimizer.step()
    return net


@pytest.mark.parametrize("kind", ["feedforward", "skew", "tied"])
def test_no_certified_sample_is_flipped_within_its_radius_but_others_are_further_out(kind: str):
    net, (x, y) = trained(kind), digits()
    x, y = x[:50], y[:50]
    radii = certified_radius(net, x, y)
    assert accuracy(net, x, y) > 0.6
    assert float((radii > 0).double().mean()) == pytest.approx(accuracy(net, x, y))
    for radius in torch.quantile(radii[radii > 0], torch.tensor([0.1, 0.5, 0.9], dtype=x.dtype)).tolist():
        sure = radii >= radius
        attacked = Attack(radius, "euclidean", 10).worst(net, x[sure], y[sure])
        assert accuracy(net, attacked, y[sure]) == 1.0
    beyond = Attack(20 * float(radii.max()), "euclidean", 10).worst(net, x, y)
    assert accuracy(net, beyond, y) < accuracy(net, x, y)


def test_the_radius_of_two_classes_is_where_a_linear_network_flips():
    net = linear(torch.tensor([[3.0, 0.0], [0.0, 3.0]]))
    x, y = torch.tensor([[0.9, 0.3]]), torch.tensor([0])
    radius = certified_radius(net, x, y)
    assert float(radius) == pytest.approx(0.6 / sqrt(2))
    across = torch.tensor([[-1.0, 1.0]]) / sqrt(2)
    assert accuracy(net, x + 0.999 * radius * across, y) == 1.0
    assert accuracy(net, x + 1.001 * radius * across, y) == 0.0


def test_a_network_that_nothing_moves_has_no_radius_where_it_is_wrong():
    net = linear(torch.zeros(2, 2))
    assert certified_radius(net, torch.rand(3, 2), torch.tensor([0, 1, 0])).tolist() == [0.0, 0.0, 0.0]
