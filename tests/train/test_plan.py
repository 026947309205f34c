"""Every rule gets the network that it needs, what is asked for is what is built, and nothing asked for is ignored."""

import dataclasses
from typing import Any

import pytest
from torch import nn

from dyadnet import Dense, Layered, names
from dyadnet.energy.lifted import LiftedEnergy
from dyadnet.hardware.circuit import Circuit
from dyadnet.names import RequestError
from dyadnet.network.lifted import Lifted, Terms
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.schedule import OddEven, Parallel, Sweeps
from dyadnet.relax.solver import Anderson, Damped, OverRelaxed, Plain
from dyadnet.relax.stopping import Count, Residual
from dyadnet.train.plan import Plan, choose, described, fitted, make, unused
from dyadnet.train.settings import Settings

CHAINS = ("backprop", "lagrangian", "dual-propagation")
LIFTED = ("auxiliary-coordinates", "predictive-coding", "lifted-proximal", "lpom")
PATHS = {"feedback-alignment": "random", "direct-feedback-alignment": "direct"}
OTHERS = ("random-feedback-chl", "lrrn")
ENERGIES = ("equilibrium-propagation", "contrastive-hebbian", "coupled-learning")
ANY = ("dyadic", "recurrent-backprop")


def chosen(rule: str, **given: Any) -> Plan:
    return choose(Settings(**given), names.rule(rule))


def made(rule: str, shape: tuple[int, ...] = (8,), **given: Any) -> tuple[Any, Any, Any]:
    settings = Settings(**({"hidden": (6, 5)} | given))
    return make(choose(settings, names.rule(rule)), settings, names.rule(rule), shape, 3)


def test_every_rule_that_can_be_named_is_of_one_kind():
    assert sorted((*CHAINS, *LIFTED, *PATHS, *ENERGIES, *ANY, *OTHERS)) == sorted(names.RULES)


@pytest.mark.parametrize("rule", CHAINS + LIFTED)
def test_rules_for_chains_train_what_they_always_have(rule: str):
    assert chosen(rule) == Plan("mlp", 0.5, None, "relu", "he", "cross-entropy")


@pytest.mark.parametrize("rule", ENERGIES)
def test_contrastive_rules_get_an_energy(rule: str):
    assert chosen(rule) == Plan("hopfield", 1.0, None, "hard-sigmoid", "torch", "squared-error")
    assert chosen(rule, network="dense").structure == "symmetric"
    assert chosen(rule, network="dense", structure="interpolated").lam == 1.0
    for given in ({}, {"network": "dense"}):
        assert made(rule, **given)[0].energy_missing() is None


@pytest.mark.parametrize("rule", ANY)
def test_rules_for_every_network_get_one_without_symmetry(rule: str):
    assert chosen(rule) == Plan("hopfield", 0.0, None, "hard-sigmoid", "lecun", "squared-error")
    assert chosen(rule, network="dense") == Plan("dense", None, "free", "hard-sigmoid", None, "squared-error")


@pytest.mark.parametrize("network", ["mlp", "cnn", "vgg", "vgg16", "resnet18"])
def test_a_network_that_is_named_is_the_same_for_every_rule(network: Any):
    assert {chosen(rule, network=network) for rule in (*CHAINS, *ENERGIES, *ANY)} == {
        Plan(network, 0.5, None, "relu", "he", "cross-entropy")
    }
    for rule, path in PATHS.items():
        assert chosen(rule, network=network) == Plan(network, 0.5, None, "relu", "he", "cross-entropy", path)


def test_random_feedback_chl_gets_the_feedback_of_its_free_phase():
    plan = Plan("hopfield", 0.6, None, "hard-sigmoid", "torch", "squared-error", "random")
    assert chosen("random-feedback-chl:gamma=0.2") == plan
    assert chosen("random-feedback-chl:gamma=0.2", network="cnn").lam == 0.6
    assert chosen("random-feedback-chl:free_feedback=false").lam == 0.5
    assert made("random-feedback-chl")[0].feedback is not None


def test_lrrn_gets_a_lifted_network_of_the_terms_asked_for():
    assert chosen("lrrn") == Plan("lifted", None, None, "relu", "orthogonal", "squared-error")
    given = {"terms": "gamma=0.3,tied=false,output_reconstructs=true", "output_gain": 2.0}
    net, _, relaxation = made("lrrn", **given)
    assert net.terms == Terms(gamma=0.3, tied=False, output_reconstructs=True)
    assert net.output_gain == 2.0
    assert net.relaxation == relaxation
    assert relaxation.stop.tolerance == pytest.approx(3e-5)
    with pytest.raises(RequestError, match="lrrn trains the lifted network, not mlp"):
        chosen("lrrn", network="mlp")
    exact, _, _ = made("backprop", network="lifted", tolerance=1e-4)
    assert isinstance(exact, Lifted)
    assert exact.relaxation.stop == Residual(1e-4, 200)


@pytest.mark.parametrize("rule", [*ENERGIES, "backprop"])
def test_a_resistive_network_has_the_circuit_asked_for(rule: str):
    assert chosen(rule, network="resistive") == Plan("resistive", None, None, None, None, "squared-error")
    net, _, relaxation = made(rule, network="resistive", circuit="input_gain=20,gain=4,current_gain=0.25")
    assert net.circuit == Circuit(input_gain=20.0, gain=4.0, current_gain=0.25)
    assert [len(b) for b in net.currents] == [6, 5, 3]
    assert net.relaxation == relaxation == Relaxation(OddEven(), Plain(), Residual(1e-5, 200))
    assert made(rule, network="resistive", iterations=4)[2].stop == Count(4)


def test_feedback_takes_the_path_asked_for():
    net, _, _ = made("feedback-alignment", feedback="kolen-pollack:seed=3")
    assert len(list(net.parameters())) == 2 * 3 + 2
    assert made("dual-propagation", feedback="sign-symmetric")[0].feedback is not None


def test_what_is_given_is_kept():
    given = {"network": "cnn", "lam": 0.75, "activation": "tanh", "init": "glorot", "loss": "cross-entropy"}
    assert dataclasses.asdict(chosen("coupled-learning", **given)) == given | {"structure": None, "feedback": None}
    assert chosen("dyadic", lam=0.5).activation == "relu"  # without feedback
    assert chosen("dyadic", network="dense", structure="interpolated", lam=0.5).activation == "hard-sigmoid"


def test_complex_nudges_get_a_holomorphic_activation():
    assert chosen("equilibrium-propagation:variant=holomorphic").activation == "tanh"
    assert chosen("equilibrium-propagation:variant=positive").activation == "hard-sigmoid"


@pytest.mark.parametrize(
    ("rule", "given", "told"),
    [
        ("backprop", {"order": "sweeps"}, "order is for rules that relax, which backprop does not"),
        ("lagrangian", {"solver": "plain"}, "solver is for rules that relax, which lagrangian does not"),
        ("dual-propagation", {"tolerance": 1e-4}, "tolerance is for rules that relax"),
        ("dual-propagation", {"most_passes": 10}, "most-passes is for rules that relax"),
        ("backprop", {"iterations": 10}, "iterations is for rules that relax"),
        ("backprop", {"lam": 1.0}, "lam is for networks with feedback, which backprop cannot train"),
        ("dyadic", {"structure": "skew"}, "structure is for the dense network, not for hopfield"),
        ("dyadic", {"network": "dense", "lam": 0.0}, "lam is for layered networks, and for the dense one of structure"),
        ("dyadic", {"network": "dense", "init": "he"}, "init is for layered networks: a dense one draws its own"),
        ("backprop", {"feedback": "random"}, "feedback is for other rules: the errors of backprop travel through the"),
        ("dyadic", {"network": "dense", "feedback": "random"}, "feedback is for chains of layers, not for dense"),
        ("lrrn", {"feedback": "random"}, "feedback is for chains of layers, not for lifted"),
        ("lrrn", {"lam": 0.0}, "lam is for networks with feedback, not for lifted ones"),
        ("equilibrium-propagation", {"circuit": "gain=2"}, "circuit is for the resistive network, not for hopfield"),
        (
            "backprop",
            {"network": "resistive", "terms": "gamma=1"},
            "terms is for the lifted network, not for resistive",
        ),
        (
            "backprop",
            {"network": "resistive", "activation": "relu"},
            "activation is for other networks: a resistive one",
        ),
        ("backprop", {"network": "resistive", "init": "he"}, "init is for layered networks: a resistive one draws its"),
        (
            "coupled-learning",
            {"network": "resistive", "lam": 1.0},
            "lam is for networks with feedback, not for resistive",
        ),
        ("lrrn", {"coupling_decay": 1.0}, "coupling-decay is for networks with feedback, not for lifted ones"),
        ("dyadic", {"terms": "gamma=0.1"}, "terms is for the lifted network, not for hopfield"),
        ("backprop", {"output_gain": 2.0}, "output-gain is for the lifted network, not for mlp"),
        ("backprop", {"pretrain_epochs": 1}, "pretrain-epochs is for lrrn, to learn to reconstruct before it is"),
        ("lrrn:supervised=false", {"pretrain_epochs": 1}, "pretrain-epochs is for lrrn, to learn to reconstruct"),
        ("dyadic", {"bf16": True}, "bf16 leaves too few digits for states to settle, which dyadic lets them"),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused(rule: str, given: Any, told: str):
    with pytest.raises(RequestError) as refusal:
        chosen(rule, **given)
    assert told in str(refusal.value)


def test_nothing_of_use_is_refused():
    assert unused(Settings(), names.rule("backprop")) == {}
    assert unused(Settings(lam=0.5), names.rule("backprop")) == {}
    assert unused(Settings(network="mlp", lam=0.0), names.rule("backprop")) == {}  # the rule itself refuses that
    given = Settings(lam=0.3, order="sweeps", solver="plain", tolerance=1e-2, most_passes=9, init="he", loss=None)
    assert all(unused(given, names.rule(rule)) == {} for rule in ANY + ENERGIES)


def test_settings_are_fitted_to_a_rule():
    given = Settings(lam=0.3, order="sweeps", tolerance=1e-2, epochs=7)
    assert fitted(given, names.rule("dyadic")) == given
    assert fitted(given, names.rule("backprop")) == Settings(epochs=7)


# --- what is built ---


@pytest.mark.parametrize(("rule", "gain"), [("backprop", 0), ("dyadic", -1), ("contrastive-hebbian", 1)])
def test_layered_networks_have_the_widths_asked_for(rule: str, gain: float):
    net, _, _ = made(rule)
    assert [tuple(stage.map.weight.shape) for stage in net.stages[1:]] == [(5, 6), (3, 5)]
    assert net.gain == gain
    assert net.lam == (1 + gain) / 2


def test_a_dense_network_has_as_many_hidden_units_in_all():
    net, _, _ = made("dyadic", (1, 4, 4), network="dense", structure="interpolated", lam=0.25)
    assert isinstance(net, Dense)
    assert (len(net.bias), net.outputs, net.theta_0.shape[1], net.gain) == (6 + 5 + 3, 3, 16, -0.5)
    assert net.activations[0].name == "clip(0, 1)"


def test_convolutions_with_feedback_pool_averages_before_the_activation():
    without, _, _ = made("backprop", (1, 8, 8), network="cnn")
    with_it, _, _ = made("dyadic", (1, 8, 8), network="cnn", lam=0.0)
    assert not without.affine()
    assert with_it.affine()
    kinds = [type(module) for module in with_it.stages[0].map]
    assert kinds == [nn.Conv2d, nn.AvgPool2d]


# --- how it relaxes ---


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, Relaxation(OddEven(), OverRelaxed(), Residual(1e-3, 200))),
        ({"order": "sweeps", "tolerance": 1e-5}, Relaxation(Sweeps(), OverRelaxed(), Residual(1e-5, 200))),
        ({"order": "parallel"}, Relaxation(Parallel(), Anderson(), Residual(1e-3, 200))),
        ({"order": "parallel", "solver": "plain"}, Relaxation(Parallel(), Plain(), Residual(1e-3, 200))),
        ({"solver": "damped:factor=0.2", "most_passes": 50}, Relaxation(OddEven(), Damped(0.2), Residual(1e-3, 50))),
        ({"iterations": 15}, Relaxation(OddEven(), OverRelaxed(), Count(15))),
        ({"network": "dense"}, Relaxation(Parallel(), Anderson(), Residual(1e-3, 200))),
        ({"network": "dense", "order": "odd-even"}, Relaxation(OddEven(), Anderson(), Residual(1e-3, 200))),
    ],
)
@pytest.mark.parametrize("rule", ["dyadic", "contrastive-hebbian"])
def test_a_relaxation_is_as_asked_and_else_the_networks_own(rule: str, given: Any, expected: Relaxation):
    net, _, relaxation = made(rule, **given)
    assert net.relaxation == relaxation == expected


def test_rules_that_do_not_relax_leave_the_network_alone():
    net, rule, relaxation = made("backprop")
    assert relaxation is None
    assert rule == names.rule("backprop")
    assert net.relaxation == Relaxation()


def test_equilibrium_propagation_in_a_chain_is_told_itself():
    """Its lifted energy has a relaxation of its own, and does not ask the network."""
    net, rule, relaxation = made("equilibrium-propagation:beta=0.3", network="mlp", most_passes=7)
    own = LiftedEnergy(net).settling()
    assert isinstance(net, Layered)
    assert rule.relaxation == relaxation == Relaxation(own.schedule, own.solver, Residual(1e-3, 7))
    assert rule.beta == 0.3


@pytest.mark.parametrize("network", [None, "mlp", "dense"])
def test_what_was_chosen_is_told_under_the_names_of_the_settings(network: Any):
    settings = Settings(network=network)
    for rule in names.RULES.keys() - ({"lrrn"} if network else set()):
        plan = choose(settings, names.rule(rule))
        _, _, relaxation = make(plan, settings, names.rule(rule), (8,), 3)
        told = described(plan, relaxation)
        assert told.keys() <= {field.name for field in dataclasses.fields(Settings)}
        again = Settings(**told)  # asked for by name, it is the same
        assert choose(again, names.rule(rule)) == plan
        assert make(plan, again, names.rule(rule), (8,), 3)[2] == relaxation
