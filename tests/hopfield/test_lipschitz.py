"""Lipschitz constants against the worst slopes that units can have, and against what outputs do."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import prune

from dyadnet import Dense, Layered, RecurrentBackprop, squared_error
from dyadnet.audit.certificate import Certificate, certify
from dyadnet.network.base import AbstractHopfield
from hopfield import reference
from hopfield.cases import (
    DENSE,
    EXACT,
    NETWORKS,
    as_reference,
    assert_is_derivative,
    batch,
    dense,
    linear,
    mlp,
    one_vector,
    pooled,
)


def to_the_output(net: reference.Net, drive: np.ndarray, *, outputs: bool = True) -> float:
    """The largest change of the states that drives cause, at the worst of many slopes of the units."""
    rng, worst, units = np.random.default_rng(0), 0.0, len(net.b)
    for i in range(300):
        slopes = np.diag(rng.uniform(size=units) ** (i % 3))
        moved = np.linalg.solve(np.eye(units) - slopes @ net.W, slopes @ drive)
        worst = max(worst, float(np.linalg.norm(moved[net.out] if outputs else moved, 2)))
    return worst


def into_the_lowest(net: AbstractHopfield) -> np.ndarray:
    """The drives that inputs can cause: of the lowest layer in a chain, of all units in a dense network."""
    slow = as_reference(net)
    return np.eye(len(slow.b))[:, slow.layer == 1] if isinstance(net, Layered) else np.eye(len(slow.b))


CERTAIN = [name for name in NETWORKS if name not in ("free", "lower-triangular")]


@pytest.mark.parametrize("name", CERTAIN)
def test_no_slopes_of_the_units_beat_the_lipschitz_constants(name: str):
    net = NETWORKS[name]()
    found, slow = certify(net, batch()[0]), as_reference(net)
    assert found.lipschitz_states is not None
    assert found.lipschitz_output is not None
    assert found.lipschitz_inputs is not None
    assert to_the_output(slow, np.eye(len(slow.b)), outputs=False) <= found.lipschitz_states + 1e-12
    assert to_the_output(slow, into_the_lowest(net)) <= found.lipschitz_output + 1e-12
    assert to_the_output(slow, slow.U) <= found.lipschitz_inputs + 1e-12


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.5, 12.0), name=st.sampled_from(["layered", "dense"]))
def test_outputs_of_skew_networks_never_move_further_than_certified(seed: int, scale: float, name: str):
    torch.manual_seed(seed)
    if name == "dense":
        net = dense("skew", scale=scale)
    else:
        net = Layered.from_sequential(mlp(gain=scale / 3), 0.0, relaxation=EXACT)
    assert_bounded(net, certify(net, batch()[0]))


@pytest.mark.parametrize("name", CERTAIN)
def test_nor_do_those_of_any_network_with_a_certificate(name: str):
    net = NETWORKS[name]()
    assert_bounded(net, certify(net, batch()[0]))


def assert_bounded(net: AbstractHopfield, found: Certificate) -> None:
    """Near and distant pairs of inputs."""
    assert found.lipschitz_states is not None
    assert found.lipschitz_output is not None
    assert found.lipschitz_inputs is not None
    x, U = torch.randn(40, 5), torch.tensor(as_reference(net).U)
    other = x + torch.randn(40, 5) * torch.logspace(-2, 1, 40)[:, None]
    change = one_vector(net.relax(other).states) - one_vector(net.relax(x).states)
    driven, apart = ((other - x) @ U.T).norm(dim=1), (other - x).norm(dim=1)
    assert bool((change.norm(dim=1) <= found.lipschitz_states * driven + 1e-8).all())
    assert bool((change[:, -3:].norm(dim=1) <= found.lipschitz_output * driven + 1e-8).all())
    assert bool((change[:, -3:].norm(dim=1) <= found.lipschitz_inputs * apart + 1e-8).all())


def test_outputs_of_symmetric_networks_move_further_than_those_of_skew_ones_may():
    net = dense("symmetric", scale=0.95)
    skew, found = certify(dense("skew", scale=0.95), batch()[0]), certify(net, batch()[0])
    assert skew.lipschitz_output == 1
    assert found.lipschitz_output is not None
    assert 1 < to_the_output(as_reference(net), np.eye(12)) <= found.lipschitz_output
    with pytest.raises(AssertionError):
        assert_bounded(linear_twin(net), skew)


def linear_twin(net: Dense) -> Dense:
    """The same connections between linear units, the most sensitive ones; inputs push where they are."""
    twin = Dense(5, 12, 3, "symmetric", activation=nn.Identity(), relaxation=net.relaxation)
    twin.load_state_dict(net.state_dict())
    top = torch.linalg.eigh(net.connectivity().detach())[1][:, -1]
    with torch.no_grad():
        twin.theta_0.copy_(top[:, None].expand(12, 5))
    return twin


def test_half_the_drive_of_hidden_units_at_most_reaches_the_output():
    """Of linear units it does: `s_1 = x - w s_2`, `s_2 = w s_1`, so that `s_2 = x w / (1 + w^2)`."""
    model = mlp(nn.Identity, widths=(1, 1, 1))
    for weight in (0.3, 1.0, 4.0):
        nn.init.constant_(linear(model[2]).weight, weight)
        found = certify(Layered.from_sequential(model, 0.0), torch.zeros(1, 1))
        reached = weight / (1 + weight**2)
        assert found.lipschitz_output == 0.5 >= reached
        assert weight != 1 or reached == 0.5


@pytest.mark.parametrize("name", ["skew", "strong skew", "lam 1/4"])
def test_inputs_that_reach_the_outputs_of_a_dense_network_count_once_more(name: str):
    net = DENSE[name]()
    found, U = certify(net, batch()[0]), as_reference(net).U
    expected = (np.linalg.norm(U, 2) + np.linalg.norm(U[-3:], 2)) / (2 * found.margin)
    assert found.lipschitz_inputs == pytest.approx(expected)
    assert found.lipschitz_inputs < found.lipschitz_output * np.linalg.norm(U, 2)  # pyright: ignore
    assert found.lipschitz_output == found.lipschitz_states


def test_without_feedback_a_chain_has_the_product_of_its_norms():
    net = Layered.from_sequential(mlp(nn.Sigmoid, gain=3.0), 0.5)
    found = certify(net, batch()[0])
    norms = [float(torch.linalg.matrix_norm(linear(stage.map).weight.detach(), 2)) for stage in net.stages]
    assert found.margin < 0
    assert found.lipschitz_states is None
    assert found.lipschitz_output == pytest.approx(norms[1] * norms[2] / 16)
    assert found.lipschitz_inputs == pytest.approx(norms[0] * norms[1] * norms[2] / 16)


def test_the_norm_of_a_convolution_of_the_inputs_is_that_of_its_matrix():
    model = nn.Sequential(nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(48, 3))
    x = torch.randn(1, 2, 8, 8)
    jacobian = torch.autograd.functional.jacobian(model[0], x).reshape(48, 128)
    found = certify(Layered.from_sequential(model, 0.0), x)
    assert found.lipschitz_output == 0.5
    assert found.lipschitz_inputs == pytest.approx(float(torch.linalg.matrix_norm(jacobian, 2)) / 2)


@pytest.mark.parametrize("lam", [0.0, 0.5, 1.0])
def test_of_maps_that_are_not_affine_nothing_is_certain_but_that_there_are_no_loops(lam: float):
    net, x = pooled(lam)
    found = certify(net, x)
    assert found.margin > 0
    assert found.unique == (lam == 0.5)
    assert (found.lipschitz_states, found.lipschitz_output, found.lipschitz_inputs) == (None, None, None)


def test_a_map_of_the_inputs_that_is_not_affine_leaves_the_constants_of_its_drive():
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.MaxPool2d(2), nn.Tanh(), nn.Flatten(), nn.Linear(27, 3))
    found = certify(Layered.from_sequential(model, 0.0), torch.randn(1, 2, 8, 8))
    assert found.unique
    assert (found.lipschitz_states, found.lipschitz_output, found.lipschitz_inputs) == (1.0, 0.5, None)


class Normed(nn.Linear):
    """What is called linear, and is not."""

    def forward(self, input: Tensor) -> Tensor:
        return nn.functional.layer_norm(super().forward(input), (self.out_features,))


class Drawn(nn.Linear):
    """A linear map with an initialisation of its own."""

    def reset_parameters(self) -> None:
        nn.init.orthogonal_(self.weight)
        nn.init.zeros_(self.bias)


class Cubed(nn.Conv1d):
    """A convolution that is none, at the usual place to override."""

    def _conv_forward(self, *arguments: Any) -> Tensor:
        return super()._conv_forward(*arguments) ** 3


def pruned(layer: nn.Linear) -> nn.Linear:
    return prune.l1_unstructured(layer, "weight", 0.5)


def hooked(layer: nn.Linear) -> nn.Linear:
    layer.register_forward_hook(lambda module, inputs, output: output**2)
    return layer


AFFINE = {
    "subclass": (lambda: Drawn(6, 5), True),
    "weight norm": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(6, 5)), True),
    "orthogonal": (lambda: nn.utils.parametrizations.orthogonal(nn.Linear(6, 5)), True),
    "pruned": (lambda: pruned(nn.Linear(6, 5)), True),
    "cubed": (lambda: nn.Sequential(nn.Unflatten(1, (1, 6)), Cubed(1, 1, 2), nn.Flatten()), False),
    "another map": (lambda: Normed(6, 5), False),
    "hook": (lambda: hooked(nn.Linear(6, 5)), False),
}


@pytest.mark.parametrize("name", AFFINE)
def test_what_a_module_computes_counts_and_not_what_it_is_called(name: str):
    make, straight = AFFINE[name]
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), make(), nn.Tanh(), nn.Linear(5, 3))
    net = Layered.from_sequential(model)
    assert net.affine() == straight
    assert (certify(net, torch.randn(3, 4)).lipschitz_inputs is not None) == straight
    assert (net.with_lam(0.0).curved() == []) == straight


def test_convolutions_of_one_and_three_dimensions_and_their_transposes_are_affine():
    model = nn.Sequential(
        nn.Unflatten(1, (2, 4)), nn.Conv1d(2, 3, 3), nn.Tanh(), nn.ZeroPad1d(1), nn.ConvTranspose1d(3, 2, 2), nn.Tanh(),
        nn.AvgPool1d(2), nn.Flatten(), nn.Linear(4, 2),
    )  # fmt: skip
    net, x = Layered.from_sequential(model, 0.0, relaxation=EXACT), torch.randn(5, 8)
    assert net.curved() == []
    y = torch.randn(5, 2)
    exact = RecurrentBackprop().estimate(net, squared_error, x, y).grads
    assert_is_derivative(lambda: squared_error(net(x), y).mean(), exact, 1e-6)
