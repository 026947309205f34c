"""The audit against the equations of every rule, and against rules that break their promises."""

from dataclasses import replace
from functools import cache
from typing import NamedTuple

import pytest
import torch
from cases import ALL_RULES, Along, activation_of, conv_pool, mirrored, mlp
from planted import Muttering, Own, Peeking, Returning, Transporting
from torch import Tensor, nn

from dyadnet import Backprop, DualPropagation, Layered, PredictiveCoding, cross_entropy, names, squared_error
from dyadnet.audit.observe import Audit, observe
from dyadnet.audit.trace import record
from dyadnet.audit.transport import connectivity
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.dense import Dense
from dyadnet.network.feedback import DirectFeedback, RandomFeedback
from dyadnet.network.lifted import Lifted, Terms
from dyadnet.relax.schedule import Parallel
from dyadnet.relax.solver import Damped
from dyadnet.relax.stopping import Residual
from dyadnet.rule.base import AbstractRule
from dyadnet.train.needs import need


class Expected(NamedTuple):
    """What the equations of a rule say, and where."""

    spatial: bool
    temporal: bool
    avoids: bool
    transport: str
    phases: list[str]
    because: str


DYADS = "both states of a dyad are inferred at once; errors go down through J^T; differences stand in for f'"
LAGRANGE = "s_k and lambda_k are two compartments; eq. 3.6 has f' and J^T"
PREDICT = "a and e are inferred at once; da = -e + f'(a) J^T e"
PATHS = "delta_l = f'(a_l) B_l delta_{l+1}: no transpose"
DIRECT = "delta_l = f'(a_l) B_l delta_L: the output's error comes along no synapse"
CONTRAST = "dE/dtheta at two equilibria, one after the other; W is used both ways; products of states alone"
FROZEN = "errors relax once predictions stand still: first activities, then errors"
DP = Expected(True, True, True, "training", ["nudged"], DYADS)
PC = Expected(True, True, False, "training", ["nudged"], PREDICT)
BP = Expected(True, False, False, "training", ["activities", "errors"], "activities up, then errors down, by autograd")

EXPECTED = {
    "backprop": BP,
    "lagrangian": Expected(True, True, False, "training", ["nudged"], LAGRANGE),
    "dual propagation": DP,
    "original": DP,
    "stabilised": DP,
    "feedback alignment along the transpose": Expected(True, True, False, "none", ["nudged"], PATHS),
    "feedback alignment": Expected(True, True, False, "none", ["nudged"], PATHS),
    "sign-symmetric": Expected(True, True, False, "training", ["nudged"], "sign(W)^T is a transpose, too"),
    "direct feedback alignment": Expected(False, True, False, "none", ["nudged"], DIRECT),
    "dual propagation without transport": Expected(True, True, True, "none", ["nudged"], DYADS + ", but B for J^T"),
    "auxiliary coordinates": PC,
    "predictive coding": PC,
    "alternating minimisation": PC,
    "fixed predictions": Expected(True, False, False, "training", ["activities", "errors"], FROZEN),
    "z-il": Expected(True, True, False, "training", ["clamped"], "predictive coding by unit steps, e_L as if clamped"),
    "lpom": Expected(True, True, True, "training", ["clamped"], "least energy without a target is zero: one phase"),
    "lifted proximal": Expected(True, False, True, "training", ["free", "clamped"], "E(clamped) - E(free)"),
}

RECURRENT = {
    "dyadic": Expected(True, True, True, "inference", ["nudged"], DYADS + "; W_lam holds theta both ways"),
    "recurrent-backprop": Expected(True, True, False, "inference", ["nudged"], LAGRANGE + ", in a network with loops"),
    "equilibrium-propagation": Expected(True, False, True, "inference", ["free", "nudged"], CONTRAST),
    "contrastive-hebbian": Expected(True, False, True, "inference", ["free", "clamped"], CONTRAST),
    "coupled-learning": Expected(True, False, True, "inference", ["free", "clamped"], CONTRAST),
    "random-feedback-chl": Expected(True, False, True, "none", ["free", "clamped"], CONTRAST + ", but W and G"),
    "lrrn": Expected(True, False, True, "inference", ["free", "clamped"], "two least points; only boxes, no f in E"),
}
CONNECTIVITY = {
    "dyadic": "skew",
    "recurrent-backprop": "skew",
    "equilibrium-propagation": "symmetric",
    "contrastive-hebbian": "symmetric",
    "coupled-learning": "symmetric",
    "random-feedback-chl": "asymmetric",
    "lrrn": "symmetric",
}


def data(inputs: int = 5, outputs: int = 4) -> tuple[Tensor, Tensor]:
    return torch.randn(6, inputs), torch.rand(6, outputs)


def network(rule: AbstractRule) -> AbstractNetwork:
    """What a rule needs, small."""
    wanted, model = need(rule), mlp(activation_of(rule))
    if wanted.network == "lifted":
        net = Lifted(Layered.from_sequential(mlp(nn.ReLU)), Terms(gamma=0.5))
    else:
        path = RandomFeedback() if wanted.path else None
        net = Layered.from_sequential(model, lam=wanted.lam or 0.5, feedback=path)
        net = net.with_lam(wanted.lam) if wanted.lam is not None else net
    net.relaxation = replace(net.relaxation, stop=Residual(1e-3, 60))
    return net


@cache
def recurrent(name: str) -> Audit:
    torch.manual_seed(0)
    rule = names.RULES[name]()
    return observe(rule, network(rule), squared_error, *data())


def answers(found: Audit, row: Expected) -> Expected:
    record = found.record()
    keys = ("spatially_local", "temporally_local", "avoids_derivative", "weight_transport", "phases")
    return Expected(*(record[key] for key in keys), row.because)


# --- what the equations say ---


def chain(rule: AbstractRule) -> tuple[AbstractRule, Layered]:
    """A rule of `cases.py` with a chain that has its feedback path."""
    net = Layered.from_sequential(mlp(activation_of(rule)))
    if not isinstance(rule, Along):
        return rule, net
    return rule.rule, mirrored(net) if rule.path is None else net.with_feedback(rule.path)


@pytest.mark.parametrize("name", EXPECTED)
def test_the_audit_of_a_rule_of_feedforward_chains_agrees_with_its_equations(name: str) -> None:
    rule, net = chain(ALL_RULES[name])
    found = observe(rule, net, squared_error, *data())
    assert answers(found, EXPECTED[name]) == EXPECTED[name]
    assert found.transport.connectivity == "none"


@pytest.mark.parametrize("name", RECURRENT)
def test_the_audit_of_a_rule_that_relaxes_agrees_with_its_equations(name: str) -> None:
    assert answers(recurrent(name), RECURRENT[name]) == RECURRENT[name]
    assert recurrent(name).transport.connectivity == CONNECTIVITY[name]


def test_every_rule_of_the_command_line_is_audited() -> None:
    kinds = {type(chain(ALL_RULES[name])[0]) for name in EXPECTED}
    assert {name for name, rule in names.RULES.items() if rule not in kinds} == set(RECURRENT)


# --- planted violations ---


def small() -> Layered:
    return Layered.from_sequential(mlp())


def violations(found: Audit) -> set[tuple[str, str]]:
    return {(reading.weight, reading.reads) for reading in found.spatial.readings if not reading.local}


@pytest.mark.parametrize(
    ("at", "reads"), [("output", "4 Linear"), ("neighbour", "0 Linear"), ("target", "targets"), ("weight", "4.weight")]
)
def test_a_rule_that_peeks_is_caught_at_the_weights_that_peek(at: str, reads: str) -> None:
    found = observe(Peeking(at), small(), squared_error, *data())
    assert found.spatial.local is False
    assert ("0.weight", reads) in violations(found)
    assert {weight for weight, _ in violations(found)} == {"0.weight"}


def test_a_rule_that_does_not_peek_is_not_caught() -> None:
    assert observe(Peeking("nothing"), small(), squared_error, *data()).spatial.local is True


def test_an_error_that_reads_a_distant_neuron_on_its_way_is_caught_where_it_is_sent() -> None:
    found = observe(Muttering(), small(), squared_error, *data())
    assert ("2.weight", "4 Linear") in violations(found)


@pytest.mark.parametrize("slope", ["autograd", "library", "formula"])
def test_a_derivative_is_found_whoever_evaluates_it(slope: str) -> None:
    found = observe(Own(slope=slope), small(), squared_error, *data()).derivatives
    assert found.used
    assert (found.refused is not None) == (slope != "formula")
    assert found.formulas > 0 or slope == "autograd"
    assert found.operations == (("tanh_backward",) if slope == "autograd" else ())


def test_a_rule_of_ones_own_needs_to_know_nothing_of_the_audit() -> None:
    found = observe(Own(), small(), squared_error, *data()).record()
    assert [found[key] for key in ("spatially_local", "avoids_derivative", "weight_transport")] == [
        True,
        True,
        "training",
    ]
    assert found["phases"] == ["activities", "errors"], "it was seen in the only order that it has"


@pytest.mark.parametrize(
    ("again", "phases"), [("not", ["nudged"]), ("free", ["free", "nudged"]), ("nudged", ["nudged", "nudged"])]
)
def test_a_hidden_phase_is_found(again: str, phases: list[str]) -> None:
    net = Layered.from_sequential(mlp(), lam=0.3)
    net.relaxation = replace(net.relaxation, stop=Residual(1e-2, 12))
    found = observe(Returning(again), net, squared_error, *data()).temporal
    assert sorted(phase.condition for phase in found.phases) == phases
    assert found.local is (again == "not")


def test_a_transposed_weight_is_found_where_feedback_weights_should_be_all() -> None:
    net = small().with_feedback(DirectFeedback())
    assert observe(Transporting(0.1), net, squared_error, *data()).transport.training == ("4.weight",)
    assert observe(Transporting(0.0), net, squared_error, *data()).transport.where == "training", "it was computed"


# --- exceptions that the thesis names, and what else a network brings ---


def test_a_kernel_is_one_weight_for_many_synapses() -> None:
    net = Layered.from_sequential(conv_pool())
    found = observe(DualPropagation(), net, squared_error, torch.randn(3, 2, 6, 6), torch.rand(3, 4)).spatial
    assert set(found.exceptions) == {"weight sharing"}
    assert not found.local
    assert all(reading.local for reading in found.readings)


def test_an_error_that_is_broadcast_comes_along_no_synapse() -> None:
    net = small().with_feedback(DirectFeedback())
    found = observe(names.RULES["direct-feedback-alignment"](), net, squared_error, *data()).spatial
    assert set(found.exceptions) == {"broadcast"}
    assert "feedback.B1" in found.exceptions["broadcast"]


def test_normalisation_lets_neurons_of_a_layer_read_one_another() -> None:
    model = nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 4))
    found = observe(DualPropagation(), Layered.from_sequential(model), squared_error, *data()).spatial
    assert ("0.weight", "more than the neuron that it touches") in {(r.weight, r.how) for r in found.readings}


def test_a_dense_network_is_local_unless_an_accelerator_mixes_its_units() -> None:
    rule, x, y = names.RULES["dyadic"](), torch.randn(4, 3), torch.rand(4, 2)
    net = Dense(3, 6, 2, "skew", activation=nn.Tanh())
    net.relaxation = replace(net.relaxation, stop=Residual(1e-2, 12))
    assert observe(rule, net, squared_error, x, y).spatial.local is False, "Anderson weighs passes by all residuals"
    net.relaxation = replace(net.relaxation, solver=Damped(0.5))
    found = observe(rule, net, squared_error, x, y)
    assert (found.spatial.local, found.temporal.local, found.transport.connectivity) == (True, True, "skew")


@pytest.mark.parametrize(
    ("structure", "kind"), [("symmetric", "symmetric"), ("skew", "skew"), ("free", "asymmetric"), ("lower", "none")]
)
def test_the_connectivity_is_that_of_the_weights(structure: str, kind: str) -> None:
    net, x = Dense(3, 6, 2, structure, activation=nn.Tanh()), torch.randn(4, 3)
    assert connectivity(net, x, net.relax(x).states) == kind


# --- the order of updates, and costs ---


def test_the_size_of_the_change_with_the_order_is_that_of_the_rule() -> None:
    exact = observe(names.RULES["lagrangian"](), small(), squared_error, *data()).order
    assert set(exact) == {"at once", "random", "asynchronous"}
    assert max(exact.values()) < 1e-12, "no loops, no dependence on the order"
    torch.manual_seed(0)
    wide, narrow = (observe(DualPropagation(beta), small(), squared_error, *data()).order for beta in (0.4, 0.1))
    assert 0 < narrow["random"] < wide["random"]
    assert observe(Backprop(), small(), squared_error, *data()).order == {}


def test_costs_are_counted_in_units_of_backpropagation() -> None:
    x, y = data()
    found = observe(Backprop(), small(), squared_error, x, y)
    assert found.cost == found.backprop
    sizes = [5 * 7, 7 * 6, 6 * 4]
    assert found.cost.multiply_adds == len(x) * (2 * sum(sizes) + sum(sizes[1:])), "up, learned, and down but for x"
    assert found.cost.products == 8
    twice = observe(PredictiveCoding(steps=20), small(), squared_error, x, y).record()["evidence"]["cost"]
    assert twice["multiply_adds_ratio"] > 5


def test_a_convolution_counts_a_product_a_weight_and_position() -> None:
    kernels = nn.Conv2d(2, 3, 3), nn.Conv2d(3, 2, 2)
    net = Layered.from_sequential(
        nn.Sequential(kernels[0], nn.Tanh(), kernels[1], nn.Tanh(), nn.Flatten(), nn.Linear(8, 4))
    )
    found = observe(Backprop(), net, squared_error, torch.randn(2, 2, 5, 5), torch.rand(2, 4)).cost
    lowest, middle, top = 3 * 9 * (2 * 9), 2 * 4 * (3 * 4), 8 * 4
    assert found.multiply_adds == 2 * (2 * lowest + 3 * middle + 3 * top), "up, learned, and down but for x"


# --- the audit itself ---


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tracing_changes_no_bit(dtype: torch.dtype) -> None:
    net, (x, y) = small().to(dtype), (t.to(dtype) for t in data())
    for rule in (Backprop(), DualPropagation(schedule=Parallel(7)), PredictiveCoding()):
        plain, (traced, _) = (
            rule.estimate(net, squared_error, x, y),
            record(lambda rule=rule: rule.estimate(net, squared_error, x, y)),
        )
        assert all(torch.equal(grad, traced.grads[p]) for p, grad in plain.grads.items())


def test_the_network_and_the_random_state_are_left_alone() -> None:
    net, (x, y) = small(), data()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    state = torch.get_rng_state()
    observe(DualPropagation(), net, squared_error, x, y)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in net.parameters())


def test_classes_are_targets_like_others() -> None:
    x, y = torch.randn(6, 5), torch.arange(6) % 4
    found = observe(DualPropagation(), small(), cross_entropy, x, y).record()
    assert (found["spatially_local"], found["temporally_local"], found["avoids_derivative"]) == (True, True, True)
