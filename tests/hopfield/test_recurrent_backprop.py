"""Implicit differentiation against a dense linear solve, finite differences, and backpropagation."""

import pytest
import torch
from torch.testing import assert_close

from dyadnet import Backprop, Dense, DualPropagation, Lagrangian, RecurrentBackprop, cross_entropy, squared_error
from dyadnet.activation import UnitSigmoid
from dyadnet.network.base import AbstractNetwork
from dyadnet.relax.relaxation import NotSettled, Relaxation
from dyadnet.relax.solver import Plain
from dyadnet.relax.stopping import Residual
from hopfield import reference
from hopfield.cases import (
    EXACT,
    EXACT_DENSE,
    LAMBDAS,
    LOSSES,
    NETWORKS,
    TIGHT,
    assert_is_derivative,
    batch,
    by_reference,
    dense,
    equilibria,
    error,
    grads,
    layered,
    pooled,
    strong_skew,
)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_the_solution_of_the_dense_linear_equations(name: str, loss: str):
    net, (x, y) = NETWORKS[name](), batch(2, loss=loss)
    step = RecurrentBackprop().estimate(net, LOSSES[loss], x, y)
    assert error(step.grads, by_reference(reference.implicit_gradient, net, x, y, loss)) < 1e-9
    assert_close(step.output, equilibria(net, x)[:, -3:], rtol=0, atol=1e-11)
    assert_close(step.loss, LOSSES[loss](step.output, y).mean())


@pytest.mark.parametrize("lam", LAMBDAS)
@pytest.mark.parametrize("kind", ["layered", "dense"])
def test_every_parameter_gets_the_derivative_of_the_relaxed_loss(kind: str, lam: float):
    net = layered(lam, UnitSigmoid) if kind == "layered" else dense("interpolated", lam=lam, scale=0.7)
    x, y = batch(loss="cross-entropy")
    assert_is_derivative(
        lambda: cross_entropy(net(x), y).mean(), grads(RecurrentBackprop(), net, cross_entropy, x, y), tolerance=1e-8
    )


@pytest.mark.parametrize("lam", [0.0, 0.25, 1.0])
def test_pooled_convolutions_get_the_derivative_of_the_relaxed_loss(lam: float):
    (net, x), y = pooled(lam), torch.randn(2, 3)
    found = grads(RecurrentBackprop(), net, squared_error, x, y)
    assert_is_derivative(lambda: squared_error(net(x), y).mean(), found, tolerance=1e-8)


def test_feedforward_networks_are_backpropagated():
    net, (x, y) = layered(0.5), batch()
    assert (
        error(grads(RecurrentBackprop(), net, squared_error, x, y), grads(Backprop(), net, squared_error, x, y)) < 1e-13
    )


def test_a_mask_of_ones_own_restricts_the_gradient():
    mask = torch.rand(12, 12) < 0.4
    mask.fill_diagonal_(False)
    net, (x, y) = Dense(5, 12, 3, mask=mask, relaxation=EXACT_DENSE), batch()
    found = grads(RecurrentBackprop(), net, squared_error, x, y)
    assert not found[net.theta][~mask].any()
    assert error(found, by_reference(reference.implicit_gradient, net, x, y)) < 1e-9


@pytest.mark.parametrize("name", ["layered, lam 0", "skew"])
def test_warm_starts_need_one_pass(name: str):
    net, (x, y) = NETWORKS[name](), batch()
    rule = RecurrentBackprop(Relaxation(net.relaxation.schedule, net.relaxation.solver, TIGHT))
    first = rule.estimate(net, squared_error, x, y)
    again = rule.estimate(net, squared_error, x, y, states=first.states)
    assert again.passes == 1 < first.passes
    assert error(again.grads, first.grads) < 1e-9


def test_states_are_kept_on_request_alone():
    net, (x, y) = layered(0.0), batch()
    assert RecurrentBackprop().estimate(net, squared_error, x, y, keep_states=False).states is None


def test_strict_relaxations_refuse_unsettled_gradients():
    x, y = batch()
    with pytest.raises(NotSettled, match="3 of 3 samples have not settled after 50 passes"):
        RecurrentBackprop(Relaxation(solver=Plain(), stop=Residual(most=50), strict=True)).estimate(
            strong_skew(), squared_error, x, y
        )


@pytest.mark.parametrize("rule", [Backprop(), Lagrangian(), DualPropagation()], ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: layered(0.25), "layered network of lam=0.25 has loops"),
        (lambda: layered(1.0), "layered network of lam=1 has loops"),
        (lambda: dense("lower"), "densely connected network has loops"),
    ],
    ids=["lam 1/4", "lam 1", "dense"],
)
def test_rules_for_chains_refuse_recurrent_networks_and_say_what_to_use(rule, make, said: str):
    net: AbstractNetwork = make()
    x, y = batch()
    with pytest.raises(ValueError, match=f"{said}.*use Dyadic or RecurrentBackprop, or lam=0.5"):
        rule.estimate(net, squared_error, x, y)


def test_the_global_random_state_and_the_network_are_left_alone():
    net, (x, y) = layered(0.0), batch()
    before, random = [p.clone() for p in net.parameters()], torch.get_rng_state()
    RecurrentBackprop(EXACT).estimate(net, squared_error, x, y)
    assert_close(list(net.parameters()), before, rtol=0, atol=0)
    assert bool((torch.get_rng_state() == random).all())
