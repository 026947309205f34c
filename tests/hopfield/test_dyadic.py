"""Dyadic learning against NumPy one unit at a time, against implicit differentiation, and against what it contains."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from dyadnet import (
    DualPropagation,
    Dyadic,
    EquilibriumPropagation,
    Layered,
    RecurrentBackprop,
    Sweeps,
    cross_entropy,
    squared_error,
)
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.state import Pair
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.solver import Plain
from dyadnet.rule.dyadic import contrastive_matrix, decouples
from hopfield import reference
from hopfield.cases import (
    DENSE,
    EXACT,
    LAMBDAS,
    LOSSES,
    NETWORKS,
    TIGHT,
    as_reference,
    assert_is_derivative,
    batch,
    by_reference,
    dense,
    error,
    grads,
    layer_rows,
    layered,
    mlp,
    order,
    pooled,
    strong_skew,
    targets,
)

networks = pytest.mark.parametrize("name", NETWORKS)
losses = pytest.mark.parametrize("loss", LOSSES)
MODERATE = [name for name in NETWORKS if "strong" not in name]  # one unit at a time, damping by a half suffices


def pairs_of(net: AbstractNetwork, rule: Dyadic, x: torch.Tensor, y: torch.Tensor, loss: str) -> list[Pair]:
    states = rule.estimate(net, LOSSES[loss], x, y).states
    assert states is not None
    assert all(isinstance(state, Pair) for state in states)
    return list(states)  # pyright: ignore[reportReturnType]


# --- the fixed point itself ---


@losses
@pytest.mark.parametrize("name", MODERATE)
def test_states_and_gradients_are_those_of_units_that_update_one_at_a_time(name: str, loss: str):
    net, (x, y) = NETWORKS[name](), batch(2, loss=loss)
    slow = [reference.dyads(as_reference(net), a, b, 0.4, loss) for a, b in zip(x.numpy(), targets(y), strict=True)]
    pairs = pairs_of(net, Dyadic(0.4, "joint"), x, y, loss)
    for sign, ours in enumerate(("plus", "minus")):
        expected = torch.tensor(np.stack([states[sign] for states in slow]))
        assert_close(torch.cat([getattr(pair, ours)() for pair in pairs], 1), expected, rtol=0, atol=1e-11)
    gradient = by_reference(reference.dyadic, net, x, y, 0.4, loss)
    for form in ("joint", "auto"):
        assert error(grads(Dyadic(0.4, form), net, LOSSES[loss], x, y), gradient) < 1e-9


def test_readouts_with_an_activation_are_nudged_through_it():
    net, (x, y) = dense("free"), batch()
    net.activations = net.activations[:1] * 2  # tanh outputs
    slow = by_reference(reference.dyadic, net, x, y, 0.4)
    assert error(grads(Dyadic(0.4), net, squared_error, x, y), slow) < 1e-9


# --- the limit ---


@losses
@networks
def test_the_error_falls_as_the_square_of_beta(name: str, loss: str):
    net, (x, y) = NETWORKS[name](), batch(loss=loss)
    exact = by_reference(reference.implicit_gradient, net, x, y, loss)
    errors = [error(grads(Dyadic(beta), net, LOSSES[loss], x, y), exact) for beta in (0.1, 0.05)]
    assert errors[0] < 0.05
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.03)


@pytest.mark.parametrize("lam", LAMBDAS)
@pytest.mark.parametrize("kind", ["layered", "dense"])
def test_every_parameter_learns_the_derivative_of_the_relaxed_loss(kind: str, lam: float):
    net = layered(lam) if kind == "layered" else dense("interpolated", lam=lam, scale=0.7)
    x, y = batch()
    found = grads(Dyadic(1e-3), net, squared_error, x, y)
    assert set(found) == set(net.parameters())
    assert_is_derivative(lambda: squared_error(net(x), y).mean(), found, tolerance=1e-6)


@pytest.mark.parametrize("lam", [0.0, 0.25, 1.0])
def test_pooled_convolutions_learn_the_derivative_of_the_relaxed_loss(lam: float):
    (net, x), y = pooled(lam), torch.randn(2, 3)
    assert not decouples(net)
    found = grads(Dyadic(1e-3), net, squared_error, x, y)
    assert_is_derivative(lambda: squared_error(net(x), y).mean(), found, tolerance=1e-6)


@pytest.mark.parametrize("lam", [0.0, 0.25, 1.0])
def test_the_error_falls_as_the_square_of_beta_with_pooling(lam: float):
    (net, x), y = pooled(lam), torch.arange(2)
    exact = grads(RecurrentBackprop(), net, cross_entropy, x, y)
    rate = order(lambda beta: error(grads(Dyadic(beta), net, cross_entropy, x, y), exact), 0.02)
    assert rate == pytest.approx(2, abs=0.05)


# --- what it contains ---


@losses
@pytest.mark.parametrize("name", ["symmetric", "layered, lam 1"])
@pytest.mark.parametrize("form", ["joint", "two-phase"])
def test_symmetric_weights_give_equilibrium_propagation_at_half_the_strength(name: str, form, loss: str):
    net, (x, y) = NETWORKS[name](), batch(loss=loss)
    ours = grads(Dyadic(0.6, form), net, LOSSES[loss], x, y)
    assert error(ours, grads(EquilibriumPropagation(0.3), net, LOSSES[loss], x, y)) < 1e-10
    assert error(ours, grads(EquilibriumPropagation(0.6), net, LOSSES[loss], x, y)) > 1e-4


@losses
def test_feedforward_weights_give_dual_propagation(loss: str):
    net, (x, y) = layered(0.5), batch(loss=loss)
    dual = DualPropagation(0.5, variant="original", output="sprovr", schedule=Sweeps(60))
    ours = grads(Dyadic(0.5), net, LOSSES[loss], x, y)
    assert error(ours, grads(dual, net, LOSSES[loss], x, y)) < 1e-11


def test_one_sweep_of_dual_propagation_is_not_yet_the_fixed_point():
    net, (x, y) = layered(0.5), batch()
    dual = DualPropagation(0.5, variant="original", output="sprovr")
    assert error(grads(Dyadic(0.5), net, squared_error, x, y), grads(dual, net, squared_error, x, y)) > 1e-4


# --- the two-phase form of layered skew networks ---


def circuits(net: Layered, x: torch.Tensor, y: torch.Tensor, beta: float) -> list[np.ndarray]:
    """The free network twice, its outputs nudged by `+-beta/2`, by the reference."""
    slow = as_reference(net)
    return [
        np.stack([reference.nudged(slow, a, b, strength) for a, b in zip(x.numpy(), targets(y), strict=True)])
        for strength in (beta / 2, -beta / 2)
    ]


@losses
@pytest.mark.parametrize("make", [lambda: layered(0.0), lambda: layered(1.0), strong_skew])
def test_two_phases_equal_the_joint_form(make, loss: str):
    net, (x, y) = make(), batch(loss=loss)
    joint, phases = (Dyadic(0.4, form).estimate(net, LOSSES[loss], x, y) for form in ("joint", "two-phase"))
    assert error(joint.grads, phases.grads) < 1e-10
    assert_close(joint.output, phases.output, rtol=0, atol=1e-11)
    assert_close(joint.loss, phases.loss, rtol=0, atol=1e-11)


def test_dyads_of_a_skew_network_are_two_nudged_circuits_that_swap_roles_from_layer_to_layer():
    net, (x, y), beta = layered(0.0), batch(), 0.4
    high, low = circuits(net, x, y, beta)
    pairs = pairs_of(net, Dyadic(beta, "joint"), x, y, "squared error")
    for k, (pair, rows) in enumerate(zip(pairs, layer_rows(net), strict=True), 1):
        plus, minus = (high, low) if (3 - k) % 2 == 0 else (low, high)
        assert_close(pair.plus(), torch.tensor(plus[:, rows]), rtol=0, atol=1e-11)
        assert_close(pair.minus(), torch.tensor(minus[:, rows]), rtol=0, atol=1e-11)


@pytest.mark.parametrize(("odd_swaps", "agrees"), [(True, True), (False, False)])
def test_without_the_swap_of_parity_the_circuits_tell_another_gradient(odd_swaps: bool, agrees: bool):
    net, (x, y), beta = layered(0.0), batch(), 0.4
    high, low = (torch.tensor(states) for states in circuits(net, x, y, beta))
    pairs = []
    for k, rows in enumerate(layer_rows(net), 1):
        swap = odd_swaps and (3 - k) % 2 == 1
        plus, minus = (low, high) if swap else (high, low)
        pairs.append(Pair(plus[:, rows], minus[:, rows], beta * len(x)))
    difference = error(net.wire(x, pairs).gradients(), grads(Dyadic(beta, "joint"), net, squared_error, x, y))
    assert (difference < 1e-10) == agrees
    assert agrees or difference > 0.1


def test_two_phases_are_chosen_only_where_they_are_exact():
    dense_or_not = {name: decouples(make()) for name, make in NETWORKS.items()}
    assert {name for name, exact in dense_or_not.items() if exact} == {
        "symmetric",
        "layered, strong skew",
        "layered, lam 0",
        "layered, lam 1",
    }


@pytest.mark.parametrize("name", ["skew", "free", "layered, lam 1/4"])
def test_asking_for_two_phases_elsewhere_is_refused(name: str):
    x, y = batch()
    with pytest.raises(ValueError, match="form='joint'"):
        Dyadic(0.1, "two-phase").estimate(NETWORKS[name](), squared_error, x, y)


def test_the_output_layer_may_be_reached_through_an_even_or_an_odd_number_of_layers():
    for widths in ((5, 7, 3), (5, 7, 6, 3), (5, 7, 6, 4, 3)):
        net = Layered.from_sequential(mlp(widths=widths), 0.0, relaxation=EXACT)
        x, y = batch()
        exact = grads(RecurrentBackprop(), net, squared_error, x, y)
        assert error(grads(Dyadic(1e-2, "two-phase"), net, squared_error, x, y), exact) < 1e-3


# --- what an estimate says ---


@pytest.mark.parametrize("form", ["joint", "two-phase"])
@pytest.mark.parametrize("lam", [0.0, 1.0])
def test_a_warm_start_needs_one_pass_to_see_that_nothing_moves(form, lam: float):
    net, (x, y) = layered(lam), batch()
    rule = Dyadic(0.4, form, Relaxation(stop=TIGHT))
    first = rule.estimate(net, squared_error, x, y)
    again = rule.estimate(net, squared_error, x, y, states=first.states)
    assert again.passes == 1 < first.passes
    assert error(again.grads, first.grads) < 1e-10


def test_a_batch_learns_the_mean_of_its_samples():
    net, (x, y) = layered(0.25), batch()
    together = grads(Dyadic(0.3), net, squared_error, x, y)
    apart = [grads(Dyadic(0.3), net, squared_error, x[i : i + 1], y[i : i + 1]) for i in range(len(x))]
    assert error(together, {p: sum(one[p] for one in apart) / len(x) for p in together}) < 1e-10


@pytest.mark.parametrize(
    "name",
    [
        "layered, lam 0",
        "skew",
    ],
)
def test_frozen_parameters_get_no_gradient(name: str):
    net = NETWORKS[name]()
    for frozen in net.parameters():
        frozen.requires_grad_(False)
        assert frozen not in grads(Dyadic(0.1), net, squared_error, *batch())
        frozen.requires_grad_(True)


# --- the contrastive matrix (thesis eq. 4.8) ---


@pytest.mark.parametrize("name", DENSE)
def test_the_contrastive_matrix_holds_all_interactions_of_dyads(name: str):
    W, plus, minus = DENSE[name]().connectivity().detach(), torch.randn(12), torch.randn(12)
    M, both = contrastive_matrix(W), torch.cat([plus, minus])
    assert_close((plus - minus) @ W @ (plus + minus) / 2, both @ M @ both / 4)
    assert_close(M, M.T, rtol=0, atol=0)


def test_its_blocks_vanish_for_symmetric_and_for_skew_connections():
    symmetric = contrastive_matrix(dense("symmetric").connectivity().detach())
    assert not symmetric[:12, 12:].any()
    assert symmetric[:12, :12].any()
    skew = contrastive_matrix(dense("skew").connectivity().detach())
    assert not skew[:12, :12].any()
    assert not skew[12:, 12:].any()
    assert skew[:12, 12:].any()


# --- what is refused ---


@pytest.mark.parametrize("form", ["joint", "two-phase"])
@pytest.mark.parametrize(("loss", "bound"), [("squared error", 2.0), ("cross-entropy", 4.0)])
def test_strengths_beyond_the_bound_of_the_loss_are_refused(form, loss: str, bound: float):
    x, y = batch(loss=loss)
    with pytest.raises(ValueError, match="smaller beta"):
        Dyadic(bound, form).estimate(layered(0.0), LOSSES[loss], x, y)


@pytest.mark.parametrize("beta", [0.0, -1.0, float("nan"), float("inf")])
def test_strengths_that_are_not_positive_are_refused(beta: float):
    with pytest.raises(ValueError, match="beta must be a positive number"):
        Dyadic(beta)


def test_unsettled_dyads_are_reported():
    net, (x, y) = strong_skew(), batch()
    with pytest.warns(UserWarning, match="have not settled"):
        step = Dyadic(0.4, relaxation=Relaxation(solver=Plain())).estimate(net, squared_error, x, y)
    assert step.solution is not None
    assert not step.solution.converged.any()


def test_maps_that_change_at_every_visit_are_refused():
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Dropout(0.5), nn.Linear(7, 3))
    net, (x, y) = Layered.from_sequential(model, 0.0), batch()
    with pytest.raises(ValueError, match="eval mode"):
        Dyadic().estimate(net, squared_error, x, y)


def test_maps_that_no_longer_change_are_not():
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Dropout(0.5), nn.Linear(7, 3)).eval()
    net, (x, y) = Layered.from_sequential(model, 0.0, relaxation=EXACT), batch()
    plain = Layered.from_sequential(nn.Sequential(*model[:2], model[3]), 0.0, relaxation=EXACT)
    assert error(grads(Dyadic(), net, squared_error, x, y), grads(Dyadic(), plain, squared_error, x, y)) < 1e-12


def test_a_loss_of_ones_own_is_nudged_along_its_gradient():
    net, (x, y) = layered(0.25), batch()
    own = grads(Dyadic(0.4), net, lambda output, y: (output - y).square().sum(1) / 2, x, y)
    assert error(own, grads(Dyadic(0.4), net, squared_error, x, y)) < 1e-10


# --- the prediction ---


@pytest.mark.parametrize("form", ["joint", "auto"])
@pytest.mark.parametrize("name", MODERATE)
def test_the_prediction_is_not_nudged(name: str, form: str):
    """The mean of a nudged dyad lies beside the output without teaching, on the side away from the target."""
    net, (x, y) = NETWORKS[name](), batch()
    found = Dyadic(0.5, form).estimate(net, squared_error, x, y)
    assert found.states is not None
    free, wrong = net(x).detach(), found.states[-1].mean()
    assert float((found.output - free).norm()) < 0.5 * float((wrong - free).norm())


def test_the_prediction_tends_to_the_free_output_as_the_square_of_beta():
    net, (x, y) = layered(0.0), batch()
    free = net(x).detach()
    rate = order(lambda beta: float((Dyadic(beta).estimate(net, squared_error, x, y).output - free).norm()), 0.02)
    assert rate == pytest.approx(2, abs=0.05)
