"""Predictive coding and its variants: backpropagation where they are, and where they only tend to it, how fast."""

import copy
from dataclasses import replace
from math import inf, log2

import lifted
import pytest
import torch
from cases import LOSSES, NETWORKS, one_hot
from torch import Tensor, nn
from torch.testing import assert_close

import dyadnet.energy.lifted
from dyadnet import AuxiliaryCoordinates, Dense, Layered, PredictiveCoding, cross_entropy, squared_error
from dyadnet.energy.lifted import LiftedEnergy
from dyadnet.energy.potential import Predictive
from dyadnet.loss import AbstractLoss
from dyadnet.relax.relaxation import NotSettledWarning
from dyadnet.rule.base import AbstractRule
from dyadnet.rule.exact_coding import fixed_prediction

losses = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
SETTLED = {"steps": 1000, "step": 0.05, "momentum": 0.75, "tolerance": 1e-9}
NUDGED: dict[str, AbstractRule] = {
    "predictive": PredictiveCoding(**SETTLED),
    "auxiliary": AuxiliaryCoordinates(**SETTLED),
}
SMOOTH = {
    "mlp": lambda: lifted.mlp(nn.Tanh),
    "convolutions": lambda: lifted.conv(nn.Tanh, nn.AvgPool2d(2)),
}


def exact(chain: lifted.Chain, loss: AbstractLoss, y: Tensor) -> list[Tensor]:
    return lifted.gradients(loss(chain.model(chain.x), y).mean(), chain.parameters)


def found(rule: AbstractRule, chain: lifted.Chain, loss: AbstractLoss, y: Tensor, **options) -> list[Tensor]:
    grads = rule.estimate(chain.net, loss, chain.x, y, **options).grads
    return [grads[parameter] for parameter in chain.parameters]


def errors(rule: AbstractRule, chain: lifted.Chain, loss: AbstractLoss, y: Tensor) -> list[float]:
    """Relative, in every parameter."""
    pairs = zip(found(rule, chain, loss, y), exact(chain, loss, y), strict=True)
    return [float((ours - theirs).norm() / theirs.norm()) for ours, theirs in pairs]


def classes(chain: lifted.Chain) -> Tensor:
    return torch.arange(len(chain.x)) % 4


# --- the two variants that are backpropagation ---


@losses
@pytest.mark.parametrize("variant", ["z-il", "fixed-prediction"])
@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_two_variants_are_backpropagation(make, variant, loss):
    case = make()
    ours, theirs = case.estimate(PredictiveCoding(variant=variant), loss), case.exact(loss)
    for name, gradient in theirs.items():
        assert float((ours[name] - gradient).norm() / gradient.norm()) < 1e-12


def test_with_fixed_predictions_the_error_descends_one_layer_a_step():
    chain = lifted.mlp(nn.Tanh)
    y, energy = classes(chain), LiftedEnergy(chain.net, Predictive)
    expected = exact(chain, squared_error, y)
    for steps in range(4):
        grads = fixed_prediction(energy, squared_error, chain.x, y, steps=steps).grads
        for k in range(3):  # weights of layer k + 1
            weight = chain.parameters[2 * k]
            if k + steps >= 2:
                assert_close(grads[weight], expected[2 * k], rtol=1e-12, atol=1e-14)
            else:
                assert not grads[weight].any()


def test_shorter_steps_with_fixed_predictions_approach_it_geometrically():
    chain = lifted.mlp(nn.Tanh)
    y, energy = classes(chain), LiftedEnergy(chain.net, Predictive)
    first, expected = chain.parameters[0], exact(chain, squared_error, y)[0]
    off = [
        fixed_prediction(energy, squared_error, chain.x, y, step=0.5, steps=steps).grads[first] - expected
        for steps in (20, 40, 41)
    ]
    assert float(off[1].norm()) < 1e-4 * float(off[0].norm())
    assert float(off[2].norm() / off[1].norm()) == pytest.approx(0.5, abs=0.02)


# --- small nudges ---


@losses
@pytest.mark.parametrize("rule", NUDGED.values(), ids=NUDGED)
@pytest.mark.parametrize("make", SMOOTH.values(), ids=SMOOTH)
def test_the_error_falls_linearly_with_beta_in_every_layer(make, rule, loss):
    chain = make()
    y = classes(chain)
    coarse, fine = (errors(replace(rule, beta=beta), chain, loss, y) for beta in (2**-9, 2**-10))
    assert max(fine) < 0.02
    for one, half in zip(coarse, fine, strict=True):
        assert log2(one / half) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("rule", NUDGED.values(), ids=NUDGED)
def test_strong_nudges_turn_and_shorten_the_gradient_of_the_lowest_layer(rule):
    """As in the notes on three layers of tanh: from 0.9 and a twentieth at beta 10 to 0.9999 and 0.98 at 0.01."""
    chain, rule = lifted.mlp(nn.Tanh, widths=(8, 10, 10, 4), batch=16), replace(rule, tolerance=1e-6)
    y = classes(chain)
    theirs, cosines, ratios = exact(chain, squared_error, y)[0], [], []
    for beta in (10.0, 1.0, 0.1, 0.01):
        ours = found(replace(rule, beta=beta), chain, squared_error, y)[0]
        cosines.append(float((ours * theirs).sum() / (ours.norm() * theirs.norm())))
        ratios.append(float(ours.norm() / theirs.norm()))
    assert cosines == sorted(cosines)
    assert ratios == sorted(ratios)
    assert 0.7 < cosines[0] < 0.99
    assert cosines[3] > 0.999
    assert ratios[0] < 0.1
    assert 0.95 < ratios[3] < 1


@pytest.mark.parametrize("rule", NUDGED.values(), ids=NUDGED)
@losses
def test_settled_states_are_stationary_together_with_the_nudge(rule, loss):
    chain = lifted.mlp(nn.Tanh)
    y, kind = classes(chain), "predictive" if isinstance(rule, PredictiveCoding) else "auxiliary"
    states = replace(rule, beta=0.7).estimate(chain.net, loss, chain.x, y).states
    leaves = [state.parts()[0].clone().requires_grad_() for state in states]
    total = lifted.energy(kind, chain, leaves).sum() + 0.7 * loss(leaves[-1], y).sum()
    assert max(float(slope.abs().max()) for slope in lifted.gradients(total, leaves)) < 1e-8


@pytest.mark.parametrize("rule", NUDGED.values(), ids=NUDGED)
def test_an_infinite_nudge_clamps_the_output_to_the_target(rule):
    chain = lifted.mlp(nn.Tanh)
    y = classes(chain)
    step = replace(rule, beta=inf).estimate(chain.net, squared_error, chain.x, y)
    assert_close(step.states[-1].mean(), torch.as_tensor(one_hot(y)))
    assert_close(step.output, chain.model(chain.x).detach())


# --- how far the error comes ---


@pytest.mark.parametrize("rule", [PredictiveCoding, AuxiliaryCoordinates])
def test_after_as_few_steps_as_reach_it_a_layer_has_the_gradient_of_backpropagation_but_short(rule):
    """Every layer on the way has taken its first step: a factor `step` a layer."""
    chain = lifted.mlp(nn.Tanh, widths=(5, 6, 6, 6, 4))
    y = classes(chain)
    ours = found(rule(beta=inf, steps=3, step=0.2), chain, squared_error, y)
    assert_close(ours[0], 0.2**3 * exact(chain, squared_error, y)[0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("rule", [PredictiveCoding, AuxiliaryCoordinates])
def test_fewer_steps_are_refused_with_the_number_of_layers_that_would_not_learn(rule):
    chain = lifted.mlp(nn.Tanh, widths=(5, 6, 6, 6, 4))
    with pytest.raises(ValueError, match="the lowest 2 of 4 would get no signal: take at least 3 steps"):
        found(rule(steps=1), chain, squared_error, classes(chain))


@pytest.mark.parametrize("rule", NUDGED.values(), ids=NUDGED)
def test_states_that_were_to_settle_and_did_not_are_warned_about(rule):
    chain = lifted.mlp(nn.Tanh)
    with pytest.warns(NotSettledWarning, match="samples have not settled after 5 passes"):
        found(replace(rule, steps=5), chain, cross_entropy, classes(chain))


def test_states_can_go_on_from_where_they_were():
    chain, rule = lifted.mlp(nn.Tanh), PredictiveCoding(steps=10)
    y = classes(chain)
    half = rule.estimate(chain.net, squared_error, chain.x, y)
    whole = replace(rule, steps=20).estimate(chain.net, squared_error, chain.x, y)
    again = rule.estimate(chain.net, squared_error, chain.x, y, states=half.states)
    assert_close(again.output, whole.output)
    for ours, theirs in zip(again.states, whole.states, strict=True):
        assert_close(ours.mean(), theirs.mean(), rtol=1e-3, atol=1e-3)  # outputs hear of the layer below one step late
    assert float(again.solution.residual.max()) < float(half.solution.residual.max())


# --- incremental ---


def by_hand(
    chain: lifted.Chain, y: Tensor, *, beta: float, steps: int, step: float, weight_step: float
) -> list[Tensor]:
    """Incremental predictive coding of a copy, by autograd, with the squared error."""
    moving = copy.deepcopy(chain)
    target, states, below = torch.as_tensor(one_hot(y)), [], moving.x
    for map_, f in moving.layers:
        states.append(map_(below).detach())
        below = f(states[-1])
    start = [p.detach().clone() for p in moving.parameters]
    states[-1] = (states[-1] + beta * target) / (1 + beta)
    for _ in range(steps):
        leaves = [s.requires_grad_() for s in states]
        slopes = lifted.gradients(lifted.energy("predictive", moving, leaves).sum(), leaves)
        below = moving.layers[-2][1](leaves[-2])
        drive = moving.layers[-1][0](below).detach()
        states = [(s - step * slope).detach() for s, slope in zip(leaves[:-1], slopes, strict=False)]
        states.append((drive + beta * target) / (1 + beta))
        value = lifted.energy("predictive", moving, states).mean() / beta
        grads = lifted.gradients(value, moving.parameters)
        with torch.no_grad():
            for parameter, gradient in zip(moving.parameters, grads, strict=True):
                parameter -= weight_step * gradient
    pairs = zip(moving.parameters, start, strict=True)
    return [(before - after.detach()) / weight_step for after, before in pairs]


def test_incremental_coding_moves_weights_with_the_states():
    chain = lifted.mlp(nn.Tanh)
    y, settings = classes(chain), {"beta": 0.5, "steps": 6, "step": 0.2, "weight_step": 0.1}
    ours = found(PredictiveCoding(variant="incremental", **settings), chain, squared_error, y)
    for one, same in zip(ours, by_hand(chain, y, **settings), strict=True):
        assert_close(one, same, rtol=1e-10, atol=1e-12)


def test_as_the_weights_step_less_it_tends_linearly_to_the_sum_of_predictive_coding_after_every_step():
    chain = lifted.mlp(nn.Tanh)
    y, off = classes(chain), []
    parts = [found(PredictiveCoding(steps=t), chain, squared_error, y) for t in range(2, 9)]
    first = fixed_first_step(chain, y)
    total = [sum(each) + one for each, one in zip(zip(*parts, strict=True), first, strict=True)]
    for weight_step in (1e-4, 5e-5):
        rule = PredictiveCoding(variant="incremental", steps=8, weight_step=weight_step)
        ours = found(rule, chain, squared_error, y)
        off.append([float((one - same).norm() / same.norm()) for one, same in zip(ours, total, strict=True)])
    assert max(off[0]) < 0.05
    for one, half in zip(*off, strict=True):
        assert log2(one / half) == pytest.approx(1, abs=0.05)


def fixed_first_step(chain: lifted.Chain, y: Tensor) -> list[Tensor]:
    """Predictive coding after one step, which the rule refuses in three layers: the lowest has learned nothing yet."""
    rule = PredictiveCoding(variant="incremental", steps=2, weight_step=1e-12)
    both = found(rule, chain, squared_error, y)
    second = found(PredictiveCoding(steps=2), chain, squared_error, y)
    return [one - other for one, other in zip(both, second, strict=True)]


def test_incremental_coding_measures_the_curvature_once_a_batch(monkeypatch):
    chain, measured = lifted.mlp(nn.Tanh), []
    norms = dyadnet.energy.lifted.spectral_norms
    monkeypatch.setattr(
        dyadnet.energy.lifted, "spectral_norms", lambda *at, **how: measured.append(at) or norms(*at, **how)
    )
    found(PredictiveCoding(variant="incremental", steps=6), chain, squared_error, classes(chain))
    assert len(measured) == 1


def test_incremental_coding_leaves_the_network_alone():
    chain = lifted.mlp(nn.Tanh)
    before = copy.deepcopy(chain.model.state_dict())
    found(PredictiveCoding(variant="incremental", weight_step=1.0), chain, squared_error, classes(chain))
    assert_close(chain.model.state_dict(), before, rtol=0, atol=0)


# --- alternating minimisation ---


def test_codes_descend_one_after_the_other_from_the_top():
    """`(1/beta) [beta l(W f(c)) + ...]`, by autograd: a code sees the codes above it as they have become."""
    chain, beta = lifted.mlp(nn.Tanh), 0.3
    y, steps = classes(chain), 4
    codes, below = [], chain.x
    for map_, f in chain.layers:
        codes.append(map_(below).detach())
        below = f(codes[-1])
    target = torch.as_tensor(one_hot(y))

    def output() -> Tensor:
        drive = chain.layers[-1][0](chain.layers[-2][1](codes[-2])).detach()
        return (drive + beta * target) / (1 + beta)

    for k in (1, 0):
        for _ in range(steps):
            if k == 1:
                codes[2] = output()
            code = codes[k].requires_grad_()
            slope = lifted.gradients(lifted.energy("predictive", chain, codes).sum(), [code])[0]
            codes[k] = (code - 0.1 * slope).detach()
    expected = lifted.gradients(lifted.energy("predictive", chain, codes).mean() / beta, chain.parameters)
    ours = found(PredictiveCoding(beta, "alternating", steps, 0.1), chain, squared_error, y)
    for one, same in zip(ours, expected, strict=True):
        assert_close(one, same, rtol=1e-10, atol=1e-12)


# --- what is refused ---


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"beta": 0.0}, "beta must be a positive number"),
        ({"beta": float("nan")}, "beta must be a positive number"),
        ({"step": -0.1}, "step must be a positive number"),
        ({"steps": 0}, "at least one pass"),
        ({"momentum": 1.0}, "momentum must lie in"),
        ({"tolerance": 0.0}, "positive tolerance"),
        ({"weight_step": inf}, "weight_step must be a positive number"),
    ],
)
def test_settings_out_of_range_are_refused(settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        PredictiveCoding(**settings)
    if settings.keys() <= {"beta", "step", "steps", "momentum", "tolerance"}:
        with pytest.raises(ValueError, match=complaint):
            AuxiliaryCoordinates(**settings)


@pytest.mark.parametrize("rule", [PredictiveCoding(), AuxiliaryCoordinates(), PredictiveCoding(variant="z-il")])
def test_networks_with_loops_are_refused(rule):
    looped = Layered.from_sequential(nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1)), lam=1.0)
    for net in (looped, Dense(2, 3, 1)):
        with pytest.raises(ValueError, match="for feedforward chains"):
            rule.estimate(net, squared_error, torch.zeros(1, 2), torch.zeros(1, 1))
