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
from dyadnet.rule.backprop import Backprop
from dyadnet.rule.dual_propagation import DualPropagation
from dyadnet.rule.lagrangian import Lagrangian

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
    ],
)
def test_a_rule_is_made_with_its_settings(specification: str, made: Any):
    assert names.rule(specification) == made


@pytest.mark.parametrize(
    ("specification", "told"),
    [
        (
            "hebb",
            "there is no rule 'hebb'; there are backprop, contrastive-hebbian, coupled-learning, dual-propagation",
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
        fields = {field.name for field in dataclasses.fields(made)}  # pyright: ignore[reportArgumentType]
        assert set(names.rule_settings(name)) - {"passes"} == fields
        assert ("passes" in names.rule_settings(name)) == ("schedule" in fields)
    assert names.rule_settings("dual-propagation")["variant"] == "transposed (or original, stabilised)"


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
        ("adan", "there is no optimizer 'adan'; there are adadelta, adafactor"),
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
