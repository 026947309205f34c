"""Names become objects: what is made, and that every mistake gets one sentence that says what there is."""

import dataclasses
import inspect
from typing import Any

import pytest
import torch
from torch import nn

from dyadnet import names
from dyadnet.loss import cross_entropy, squared_error
from dyadnet.names import RequestError
from dyadnet.relax.schedule import BottomUp, Sweeps
from dyadnet.relax.solver import Anderson, Damped, OverRelaxed, Plain
from dyadnet.rule.backprop import Backprop
from dyadnet.rule.contrastive_hebbian import ContrastiveHebbian, CoupledLearning
from dyadnet.rule.dual_propagation import DualPropagation
from dyadnet.rule.dyadic import Dyadic
from dyadnet.rule.equilibrium_propagation import EquilibriumPropagation
from dyadnet.rule.lagrangian import Lagrangian
from dyadnet.rule.recurrent_backprop import RecurrentBackprop

USABLE = sorted(
    name
    for name, made in vars(torch.optim).items()
    if inspect.isclass(made) and issubclass(made, torch.optim.Optimizer) and name not in ("Optimizer", "LBFGS")
)


@pytest.mark.parametrize(
    ("specification", "made"),
    [
        ("backprop", Backprop()),
        ("dual-propagation", DualPropagation()),
        ("dual-propagation:beta=1e-2,alpha=0", DualPropagation(beta=0.01, alpha=0)),
        ("dual-propagation:output=sprovr,variant=original", DualPropagation(output="sprovr", variant="original")),
        ("dual-propagation:passes=3", DualPropagation(schedule=Sweeps(3))),
        ("lagrangian:schedule=bottom-up", Lagrangian(BottomUp())),
        (" lagrangian : schedule = bottom-up , passes = 9 ", Lagrangian(BottomUp(9))),
        ("dyadic", Dyadic()),
        ("dyadic:beta=0.2,form=joint", Dyadic(0.2, "joint")),
        ("recurrent-backprop", RecurrentBackprop()),
        ("contrastive-hebbian", ContrastiveHebbian()),
        ("coupled-learning:variant=positive,beta=1", CoupledLearning(1.0, "positive")),
        (
            "equilibrium-propagation:beta=0.1,variant=holomorphic,nudges=6",
            EquilibriumPropagation(0.1, "holomorphic", 6),
        ),
        ("equilibrium-propagation:variant=continual,step=1e-4", EquilibriumPropagation(variant="continual", step=1e-4)),
    ],
)
def test_a_rule_is_made_with_its_settings(specification: str, made: Any):
    assert names.rule(specification) == made


@pytest.mark.parametrize(
    ("specification", "told"),
    [
        (
            "hebb",
            "there is no rule 'hebb'; there are auxiliary-coordinates, backprop, contrastive-hebbian, coupled-learning",
        ),
        ("", "there is no rule ''"),
        ("backprop:beta=1", "backprop has no setting 'beta'; it has none"),
        ("dual-propagation:gamma=1", "has no setting 'gamma'; it has beta, alpha, variant"),
        ("dual-propagation:beta=x", "beta must be a number, not 'x'"),
        ("dual-propagation:beta=0", "beta must be a positive number, not 0"),
        ("dual-propagation:beta=-1", "beta must be a positive number, not -1"),
        ("dual-propagation:beta=inf", "beta must be a positive number, not inf"),
        ("dual-propagation:alpha=1.5", "alpha must lie in [0, 1], not 1.5"),
        ("dual-propagation:alpha=nan", "alpha must lie in [0, 1], not nan"),
        ("dual-propagation:variant=new", "variant must be one of transposed, original, stabilised, not 'new'"),
        ("dual-propagation:schedule=chaos", "there is no schedule 'chaos'; there are bottom-up, odd-even"),
        ("dyadic:form=apart", "form must be one of auto, joint, two-phase, not 'apart'"),
        ("dyadic:relaxation=1", "dyadic has no setting 'relaxation'; it has beta, form"),
        ("equilibrium-propagation:nudges=3", "the number of nudges must be even, not 3"),
        ("equilibrium-propagation:nudges=4.0", "nudges must be a whole number, not '4.0'"),
        ("coupled-learning:beta=2", "beta must lie in (0, 1], not 2"),
        ("contrastive-hebbian:beta=1", "contrastive-hebbian has no setting 'beta'; it has none"),
        ("dual-propagation:passes=1.5", "passes must be a whole number, not '1.5'"),
        ("dual-propagation:beta", "'beta' in 'dual-propagation:beta' is not of the form setting=value"),
        ("dual-propagation:beta=", "is not of the form setting=value"),
        ("dual-propagation:beta=1,beta=2", "sets beta twice"),
    ],
)
def test_a_mistake_in_a_rule_is_told_in_one_sentence(specification: str, told: str):
    with pytest.raises(RequestError) as refusal:
        names.rule(specification)
    assert told in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_the_settings_listed_are_those_that_a_rule_takes():
    for name, made in names.RULES.items():
        names_ = {field.name for field in dataclasses.fields(made)}  # pyright: ignore[reportArgumentType]
        fields = {name for name in names_ if not name.endswith("relaxation")}
        assert set(names.rule_settings(name)) - {"passes"} == fields
        assert ("passes" in names.rule_settings(name)) == ("schedule" in fields)
    assert names.rule_settings("dual-propagation")["variant"] == "transposed (or original, stabilised)"


def test_how_a_rule_relaxes_is_no_setting_of_its_own():
    assert names.rule_settings("contrastive-hebbian") == names.rule_settings("recurrent-backprop") == {}
    assert list(names.rule_settings("equilibrium-propagation")) == ["beta", "variant", "nudges", "step"]


@pytest.mark.parametrize(
    ("specification", "made"),
    [
        ("plain", Plain()),
        ("damped:factor=0.3", Damped(0.3)),
        ("over-relaxed:iterations=5,margin=1.2", OverRelaxed(5, 1.2)),
        ("anderson", Anderson()),
        ("anderson:memory=4,factor=0.5", Anderson(4, 0.5)),
    ],
)
def test_a_solver_is_made_with_its_settings_and_named_again(specification: str, made: Any):
    assert names.solver(specification) == made
    assert names.solver(names.specification(names.SOLVERS, made)) == made


@pytest.mark.parametrize(
    ("specification", "told"),
    [
        ("newton", "there is no solver 'newton'; there are accelerated, anderson, damped, over-relaxed, plain"),
        ("plain:factor=1", "plain has no setting 'factor'; it has none"),
        ("damped:factor=2", "damped: the factor must lie in (0, 2), not 2"),
        ("anderson:memory=x", "memory must be a whole number, not 'x'"),
        ("anderson:factor=x", "factor must be a number, not 'x'"),
    ],
)
def test_a_mistake_in_a_solver_is_told_in_one_sentence(specification: str, told: str):
    with pytest.raises(RequestError) as refusal:
        names.solver(specification)
    assert told in str(refusal.value)


def test_orders_are_schedules_by_name():
    for name, made in names.SCHEDULES.items():
        assert names.order(name) == made()
        assert names.name_of(names.SCHEDULES, made()) == name
    with pytest.raises(RequestError, match="there is no order 'chaos'; there are bottom-up, odd-even"):
        names.order("chaos")


def test_every_schedule_that_can_be_named_takes_passes():
    for name, made in names.SCHEDULES.items():
        assert names.rule(f"lagrangian:schedule={name},passes=50") == Lagrangian(made(50))


def test_losses_are_found_by_name():
    assert names.loss("cross-entropy") is cross_entropy
    assert names.loss("squared-error") is squared_error
    with pytest.raises(RequestError, match="there is no loss 'hinge'; there are cross-entropy, squared-error"):
        names.loss("hinge")


def optimizer(specification: str, *parameters: nn.Parameter, rate: float = 0.1) -> torch.optim.Optimizer:
    return names.optimizer(specification, parameters or [nn.Parameter(torch.ones(2, 2))], rate)


@pytest.mark.parametrize("name", USABLE)
def test_every_optimiser_without_a_closure_steps_downhill(name: str):
    weight = nn.Parameter(torch.ones(2, 2))
    made = optimizer(name.lower(), weight)
    assert type(made).__name__ == name
    for _ in range(3):
        weight.grad = weight.detach().clone()  # of |weight|^2 / 2
        weight.grad = weight.grad.to_sparse() if name == "SparseAdam" else weight.grad
        made.step()
    assert weight.square().sum() < 4


def test_settings_are_read_as_their_defaults_are():
    made = optimizer("sgd:momentum=0.5,nesterov=true,weight-decay=5e-4", rate=0.3).defaults
    assert made["lr"] == 0.3
    assert made["momentum"] == 0.5
    assert made["nesterov"] is True
    assert made["weight_decay"] == 5e-4
    assert (
        optimizer("adam:betas=0.5/0.9,fused=true").defaults | {"betas": (0.5, 0.9), "fused": True}
        == optimizer("adam:betas=0.5/0.9,fused=true").defaults
    )
    assert type(optimizer("Sparse-Adam")) is torch.optim.SparseAdam


@pytest.mark.parametrize(
    ("specification", "told"),
    [
        ("adan", "there is no optimizer 'adan' (did you mean adam?); there are adadelta, adafactor"),
        ("lbfgs", "there is no optimizer 'lbfgs'"),
        ("optimizer", "there is no optimizer 'optimizer'"),
        ("sgd:speed=1", "sgd has no setting 'speed'; it has dampening"),
        ("sgd:params=1", "sgd has no setting 'params'"),
        ("sgd:lr=1", "the learning rate is an option of its own"),
        ("sgd:momentum=abc", "momentum must be a number, not 'abc'"),
        ("sgd:momentum=true", "momentum must be a number, not 'true'"),
        ("sgd:momentum=-1", "sgd: Invalid momentum value"),
        ("sgd:nesterov=1", "nesterov must be one of true, false, not '1'"),
        ("sgd:nesterov=true", "Nesterov momentum requires a momentum"),
        ("adam:fused=3", "fused must be one of true, false, not '3'"),
        ("adam:betas=0.9", "betas must be 2 numbers joined by slashes, not '0.9'"),
        ("adam:betas=0.9/x", "betas must be a number, not 'x'"),
        ("adam:betas=0.9/2", "Invalid beta parameter"),
    ],
)
def test_a_mistake_in_an_optimiser_is_told_in_one_sentence(specification: str, told: str):
    with pytest.raises(RequestError) as refusal:
        optimizer(specification)
    assert told in str(refusal.value)
    assert "\n" not in str(refusal.value)
