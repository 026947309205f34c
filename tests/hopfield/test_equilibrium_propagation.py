"""Equilibrium propagation by its definition, and the order with which the error of each variant falls."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from dyadnet import (
    Backprop,
    ContrastiveHebbian,
    CoupledLearning,
    EquilibriumPropagation,
    Layered,
    RecurrentBackprop,
    cross_entropy,
    squared_error,
)
from dyadnet.activation import UnitSigmoid
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.linearisation import Gradients
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.solver import Damped
from dyadnet.relax.stopping import Count
from hopfield import reference
from hopfield.cases import (
    EXACT_DENSE,
    LOSSES,
    NETWORKS,
    TIGHT,
    WITH_ENERGY,
    batch,
    by_reference,
    dense,
    equilibria,
    error,
    grads,
    layered,
    order,
    pooled,
)

ENERGIES = [*WITH_ENERGY, "tanh readout"]
SETTLED = Relaxation(stop=TIGHT)


def network(name: str) -> AbstractNetwork:
    if name == "tanh readout":
        net = dense("symmetric", scale=0.7)
        net.activations = net.activations[:1] * 2
        return net
    return NETWORKS[name]()


def exact(net: AbstractNetwork, x: torch.Tensor, y: torch.Tensor, loss: str = "squared error") -> Gradients:
    return by_reference(reference.implicit_gradient, net, x, y, loss)


# --- by definition ---


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("variant", ["positive", "negative", "centred"])
@pytest.mark.parametrize("name", ENERGIES)
def test_gradients_are_the_contrast_of_nudged_energies(name: str, variant, loss: str):
    net, (x, y) = network(name), batch(2, loss=loss)
    slow = by_reference(reference.equilibrium_propagation, net, x, y, 0.3, variant, loss)
    assert error(grads(EquilibriumPropagation(0.3, variant), net, LOSSES[loss], x, y), slow) < 1e-10


def test_states_and_prediction_are_the_free_ones():
    net, (x, y) = layered(1.0), batch()
    step = EquilibriumPropagation(0.3).estimate(net, squared_error, x, y)
    assert step.states is not None
    free = equilibria(net, x)
    assert_close(torch.cat([state.mean() for state in step.states], 1), free, rtol=0, atol=1e-11)
    assert_close(step.output, free[:, -3:], rtol=0, atol=1e-11)


# --- the limits ---


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("variant", "expected"), [("positive", 1), ("negative", 1), ("centred", 2)])
@pytest.mark.parametrize("name", ENERGIES)
def test_errors_fall_with_beta(name: str, variant, expected: int, loss: str):
    net, (x, y) = network(name), batch(loss=loss)
    gradient = exact(net, x, y, loss)
    rate = order(
        lambda beta: error(grads(EquilibriumPropagation(beta, variant), net, LOSSES[loss], x, y), gradient), 0.02
    )
    assert rate == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize(
    "name",
    [
        "layered, lam 1",
        "layered, lam 3/4",
        "symmetric",
        "symmetric, damped",
    ],
)
@pytest.mark.parametrize(("nudges", "beta"), [(2, 0.1), (4, 0.1), (6, 0.2)])
def test_holomorphic_errors_fall_with_the_power_of_the_number_of_nudges(name: str, nudges: int, beta: float):
    net, (x, y) = network(name.removesuffix(", damped")), batch()
    if "damped" in name:
        net.relaxation = replace(EXACT_DENSE, solver=Damped(0.7))
    gradient = exact(net, x, y)
    rate = order(
        lambda b: error(grads(EquilibriumPropagation(b, "holomorphic", nudges), net, squared_error, x, y), gradient),
        beta,
    )
    assert rate == pytest.approx(nudges, abs=0.1 * nudges)


def test_a_circle_of_nudges_around_the_pole_is_refused():
    """At the nudge -1 the energy of a linear output has no minimum: beyond, the average means nothing."""
    net, (x, y) = layered(1.0), batch()
    with pytest.raises(ValueError, match="strength 1, but its exact step needs a strength below 1"):
        EquilibriumPropagation(1.0, "holomorphic").estimate(net, squared_error, x, y)


def test_nudges_have_the_precision_of_the_inputs():
    net, (x, y) = layered(1.0), batch()
    rule = EquilibriumPropagation(0.1, "holomorphic", 6)
    expected = grads(rule, net, squared_error, x, y)
    torch.set_default_dtype(torch.float32)
    assert error(grads(rule, net, squared_error, x, y), expected) < 1e-14


def test_logistic_units_are_holomorphic_too():
    net, (x, y) = layered(1.0, UnitSigmoid), batch()
    gradient = grads(RecurrentBackprop(), net, squared_error, x, y)
    assert error(grads(EquilibriumPropagation(0.1, "holomorphic", 8), net, squared_error, x, y), gradient) < 1e-4


def test_convolutions_with_pooling_take_complex_nudges():
    (net, x), y = pooled(1.0), torch.randn(2, 3)
    gradient = grads(RecurrentBackprop(), net, squared_error, x, y)
    errors = {
        variant: error(grads(EquilibriumPropagation(0.1, variant, 6), net, squared_error, x, y), gradient)
        for variant in ("centred", "holomorphic")
    }
    assert errors["holomorphic"] < 1e-2 * errors["centred"]


def test_a_single_stage_takes_complex_nudges():
    net = Layered.from_sequential(nn.Sequential(nn.Linear(4, 3)), 1.0)
    x, y = torch.randn(5, 4), torch.randn(5, 3)
    gradient = grads(Backprop(), Layered.from_sequential(nn.Sequential(net.stages[0].map)), squared_error, x, y)
    assert error(grads(EquilibriumPropagation(0.1, "holomorphic", 6), net, squared_error, x, y), gradient) < 1e-5


def test_two_complex_nudges_are_the_centred_form():
    net, (x, y) = layered(1.0), batch()
    two = grads(EquilibriumPropagation(0.3, "holomorphic", 2), net, squared_error, x, y)
    assert error(two, grads(EquilibriumPropagation(0.3), net, squared_error, x, y)) < 1e-11


def test_half_the_complex_nudges_stand_for_all():
    nudges, weights, free_weight = EquilibriumPropagation(0.5, "holomorphic", 6).phases()
    turns = [torch.exp(torch.tensor(2j * torch.pi * k / 6)) for k in range(6)]
    assert_close(torch.tensor(nudges), 0.5 * torch.stack(turns[:4]))
    assert_close(torch.tensor(weights), torch.tensor([1.0, 2, 2, 1]) / (6 * 0.5 * torch.stack(turns[:4])))
    assert free_weight == 0


def test_feedforward_networks_have_a_quadratic_energy_whose_contrast_tends_to_backpropagation():
    net, (x, y) = layered(0.5), batch()
    gradient = grads(Backprop(), net, squared_error, x, y)
    for variant, expected in (("positive", 1), ("centred", 2)):

        def error_at(beta: float, variant=variant) -> float:
            rule = EquilibriumPropagation(beta, variant)
            return error(grads(rule, net, squared_error, x, y), gradient)

        assert error_at(0.01) < 0.05
        assert order(error_at, 0.01) == pytest.approx(expected, abs=0.06)


def test_infinitely_strong_nudges_clamp_the_output():
    net, (x, y) = layered(1.0), batch()
    clamped = grads(ContrastiveHebbian(), net, squared_error, x, y)

    def error_at(beta: float) -> float:
        nudged = grads(EquilibriumPropagation(beta, "positive"), net, squared_error, x, y)
        return error({p: beta * grad for p, grad in nudged.items()}, clamped)

    assert error_at(1e5) < 1e-4
    assert order(error_at, 1e4) == pytest.approx(-1, abs=0.01)


# --- random signs ---


def test_a_random_sign_is_positive_or_negative_as_the_generator_says():
    net, (x, y), rule = layered(1.0), batch(), EquilibriumPropagation(0.3, "random-sign")
    sides = {True: "positive", False: "negative"}
    seeds = {rule.phases(torch.Generator().manual_seed(seed))[0] == [0.3]: seed for seed in range(10)}
    for positive, seed in seeds.items():
        drawn = [
            rule.estimate(net, squared_error, x, y, generator=torch.Generator().manual_seed(seed)).grads
            for _ in range(2)
        ]
        assert error(drawn[0], drawn[1]) == 0
        assert error(drawn[0], grads(EquilibriumPropagation(0.3, sides[positive]), net, squared_error, x, y)) == 0
    assert set(seeds) == {True, False}
    assert error(grads(rule, net, squared_error, x, y), grads(rule, net, squared_error, x, y)) == 0


def test_a_generator_goes_on_from_batch_to_batch():
    generator = torch.Generator().manual_seed(0)
    rule = EquilibriumPropagation(0.3, "random-sign")
    assert len({tuple(rule.phases(generator)[0]) for _ in range(20)}) == 2


# --- continual weight updates ---


@pytest.mark.parametrize("name", ["layered, lam 1", "layered, lam 3/4", "symmetric"])
def test_continual_updates_tend_to_the_positive_form_linearly_in_the_step(name: str):
    net, (x, y) = network(name), batch()
    limit = grads(EquilibriumPropagation(0.3, "positive"), net, squared_error, x, y)

    def error_at(step: float) -> float:
        return error(grads(EquilibriumPropagation(0.3, "continual", step=step), net, squared_error, x, y), limit)

    assert error_at(1e-4) < 0.02
    assert order(error_at, 1e-4) == pytest.approx(1, abs=0.05)


def test_continual_updates_do_not_touch_the_network():
    net, (x, y) = layered(1.0), batch()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    EquilibriumPropagation(0.3, "continual", step=0.01).estimate(net, squared_error, x, y)
    assert_close(dict(net.state_dict()), before, rtol=0, atol=0)


def test_continual_updates_stop_after_the_passes_asked_for():
    net, (x, y) = layered(1.0), batch()
    rule = EquilibriumPropagation(0.3, "continual", relaxation=Relaxation(stop=Count(7)))
    assert rule.estimate(net, squared_error, x, y).passes == 7 + 7


def test_continual_updates_leave_frozen_parameters_alone():
    net, (x, y) = layered(1.0), batch()
    frozen = next(net.parameters()).requires_grad_(False)
    assert frozen not in grads(EquilibriumPropagation(0.3, "continual"), net, squared_error, x, y)


# --- what an estimate says ---


def test_a_warm_start_needs_one_free_pass():
    net, (x, y) = layered(1.0), batch()
    rule = EquilibriumPropagation(0.3, relaxation=SETTLED)
    cold = rule.estimate(net, squared_error, x, y)
    warm = rule.estimate(net, squared_error, x, y, states=cold.states)
    assert cold.solution is not None
    assert warm.solution is not None
    free = net.relax(x).iterations
    assert warm.passes == cold.passes - free + 1
    assert error(warm.grads, cold.grads) < 1e-10


def test_nudged_phases_may_be_shorter_than_the_free_one():
    net, (x, y) = layered(1.0), batch()
    rule = EquilibriumPropagation(
        0.3, relaxation=Relaxation(stop=Count(60)), nudged_relaxation=Relaxation(stop=Count(5))
    )
    assert rule.estimate(net, squared_error, x, y).passes == 65


def test_a_sample_has_settled_if_it_has_in_every_phase():
    net, (x, y) = layered(1.0), batch()
    rule = EquilibriumPropagation(0.3, nudged_relaxation=Relaxation(stop=Count(2)))
    solution = rule.estimate(net, squared_error, x, y).solution
    assert solution is not None
    assert solution.converged.shape == (3,)
    assert not solution.converged.any()


# --- what is refused ---

ENERGY_RULES = [
    EquilibriumPropagation(),
    EquilibriumPropagation(variant="continual"),
    ContrastiveHebbian(),
    CoupledLearning(),
]


@pytest.mark.parametrize("rule", ENERGY_RULES, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: layered(0.0), "lam=0 has no energy: take lam above 1/2, or use Dyadic"),
        (lambda: layered(0.25), "lam=0.25 has no energy: take lam above 1/2, or use Dyadic"),
        (lambda: dense("skew"), "a skew densely connected network has no energy: use Dyadic, or structure='symmetric'"),
        (lambda: dense("free"), "a free densely connected network has no energy: use Dyadic, or structure='symmetric'"),
        (
            lambda: layered(1.0, nn.SiLU),
            "0 has the activation silu, which is not monotone|Linear has the activation silu",
        ),
    ],
    ids=["lam 0", "lam 1/4", "dense skew", "dense free", "silu"],
)
def test_networks_without_an_energy_are_refused_with_advice(rule, make, said: str):
    x, y = batch()
    with pytest.raises(ValueError, match=said):
        rule.estimate(make(), squared_error, x, y)


@pytest.mark.parametrize("variant", ["negative", "centred", "random-sign"])
@pytest.mark.parametrize(("loss", "bound"), [("squared error", 1.0), ("cross-entropy", 2.0)])
def test_nudges_away_from_the_target_beyond_the_bound_are_refused(variant, loss: str, bound: float):
    net, (x, y) = layered(1.0), batch(loss=loss)
    generator = next(g for g in map(torch.Generator().manual_seed, range(9)) if torch.rand((), generator=g) >= 0.5)
    generator.manual_seed(generator.initial_seed())
    with pytest.raises(ValueError, match="smaller beta"):
        EquilibriumPropagation(bound, variant).estimate(net, LOSSES[loss], x, y, generator=generator)


def test_nudges_towards_the_target_have_no_bound():
    EquilibriumPropagation(3.0, "positive").estimate(layered(1.0), squared_error, *batch())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"beta": 0.0}, "beta must be a positive number"),
        ({"beta": float("nan")}, "beta must be a positive number"),
        ({"nudges": 3}, "number of nudges must be even"),
        ({"nudges": 0}, "number of nudges must be even"),
        ({"step": -1.0}, "step must be a positive number"),
    ],
)
def test_settings_out_of_range_are_refused(settings, said: str):
    with pytest.raises(ValueError, match=said):
        EquilibriumPropagation(**settings)


@pytest.mark.parametrize("case", ["hard sigmoid", "cross-entropy", "feedforward"])
def test_what_is_not_holomorphic_is_refused_with_a_sentence(case: str):
    x, y = batch(loss="cross-entropy")
    net = {"hard sigmoid": lambda: layered(1.0, lambda: nn.Hardtanh(0, 1)), "feedforward": lambda: layered(0.5)}
    loss = cross_entropy if case == "cross-entropy" else squared_error
    with pytest.raises(ValueError, match="holomorphic"):
        EquilibriumPropagation(0.1, "holomorphic").estimate(net.get(case, lambda: layered(1.0))(), loss, x, y)
