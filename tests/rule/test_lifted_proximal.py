"""Rules of units that project: gradients of their own objectives, and of the loss as feedback gets weak."""

from dataclasses import replace
from math import log2

import lifted
import pytest
import torch
from cases import LOSSES, one_hot
from torch import Tensor, nn
from torch.testing import assert_close

from dyadnet import LPOM, AuxiliaryCoordinates, Layered, LiftedProximal, PredictiveCoding, cross_entropy, squared_error
from dyadnet.energy.lifted import LiftedEnergy
from dyadnet.energy.potential import AbstractPotential, Fenchel, Proximal
from dyadnet.loss import AbstractLoss
from dyadnet.network.feedback import DirectFeedback, RandomFeedback
from dyadnet.relax.relaxation import NotSettledWarning, Relaxation
from dyadnet.relax.schedule import OddEven
from dyadnet.relax.solver import Accelerated
from dyadnet.relax.stopping import Residual
from dyadnet.rule.base import AbstractRule
from dyadnet.rule.feedback_alignment import FeedbackAlignment

TIGHT = Relaxation(OddEven(), Accelerated(), Residual(1e-8, 3000))  # of energies, whose error is quadratic
RULES: dict[str, AbstractRule] = {
    "lpom": LPOM(0.1, steps=3000, tolerance=1e-11),
    "proximal": LiftedProximal(0.1, steps=3000, tolerance=1e-11),
}
CONTROL = replace(RULES["proximal"], free_phase=False)
NETWORKS = {
    "relu": lambda: lifted.mlp(nn.ReLU),
    "hard sigmoid": lambda: lifted.mlp(lambda: nn.Hardtanh(0, 1)),
    "linear": lambda: lifted.mlp(nn.Identity),
    "average pooling": lambda: lifted.conv(nn.ReLU, nn.AvgPool2d(2)),
    "maximum pooling": lambda: lifted.conv(nn.ReLU, nn.MaxPool2d(2)),
}
rules = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


def classes(chain: lifted.Chain) -> Tensor:
    return torch.arange(len(chain.x)) % 4


def grads(rule: AbstractRule, chain: lifted.Chain, loss: AbstractLoss = squared_error) -> list[Tensor]:
    found = rule.estimate(chain.net, loss, chain.x, classes(chain)).grads
    return [found[parameter] for parameter in chain.parameters]


def exact(chain: lifted.Chain, loss: AbstractLoss = squared_error) -> list[Tensor]:
    return lifted.gradients(loss(chain.model(chain.x), classes(chain)).mean(), chain.parameters)


def compared(rule: AbstractRule, chain: lifted.Chain) -> list[tuple[float, float]]:
    """Cosine with backpropagation and ratio of lengths, of the weights of every layer."""
    pairs = list(zip(grads(rule, chain), exact(chain), strict=True))[::2]
    return [(float((a * b).sum() / (a.norm() * b.norm())), float(a.norm() / b.norm())) for a, b in pairs]


# --- their own objectives ---


def least(chain: lifted.Chain, potential: type[AbstractPotential], gamma: float, y: Tensor | None) -> Tensor:
    """The mean over the batch of the least energy, clamped to `y` or free."""
    energy = LiftedEnergy(chain.net, potential, gamma)
    wiring = energy.wire(chain.x)
    energy.minimise(wiring, None if y is None else lambda drive, before: y, TIGHT)
    return wiring.value().mean().detach()


@pytest.mark.parametrize("network", ["relu", "hard sigmoid", "average pooling"])
@rules
def test_the_gradient_is_that_of_the_contrast_of_least_energies(rule, network):
    """By finite differences in a random direction of all parameters. The free energy of LPOM is zero."""
    chain, gamma = NETWORKS[network](), 0.5
    y, potential = torch.as_tensor(one_hot(classes(chain))), Fenchel if isinstance(rule, LPOM) else Proximal
    scale = gamma ** (1 - len(chain.layers))

    def contrast() -> float:
        free = 0.0 if potential is Fenchel else least(chain, potential, gamma, None)
        return scale * float(least(chain, potential, gamma, y) - free)

    assert contrast() > 0
    found = grads(replace(rule, gamma=gamma), chain)
    directions = [torch.randn_like(gradient) * gradient.norm() for gradient in found]  # all count for about as much
    ends = []
    for length in (1e-5, -2e-5):
        with torch.no_grad():
            for parameter, direction in zip(chain.parameters, directions, strict=True):
                parameter += length * direction
        ends.append(contrast())
    slope = sum(float((gradient * direction).sum()) for gradient, direction in zip(found, directions, strict=True))
    assert slope == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5, abs=1e-6)


# --- weak feedback ---


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("network", NETWORKS)
@rules
def test_the_error_falls_linearly_with_gamma_in_every_layer(rule, network, loss):
    chain, off = NETWORKS[network](), []
    for gamma in (2**-9, 2**-10):
        pairs = zip(grads(replace(rule, gamma=gamma), chain, loss), exact(chain, loss), strict=True)
        off.append([float((ours - theirs).norm() / theirs.norm()) for ours, theirs in pairs])
    assert max(off[1]) < 0.03
    for one, half in zip(*off, strict=True):
        assert log2(one / half) == pytest.approx(1, abs=0.05)


def wide() -> lifted.Chain:
    return lifted.mlp(nn.ReLU, widths=(20, 30, 30, 4), batch=20)


@rules
def test_agreement_grows_as_feedback_gets_weak_from_a_short_oblique_gradient(rule):
    """Measured before, in three layers: cosines .75, .96, .9999 at gamma 1, .1, .01 (LPOM .82, .992, .99996)."""
    chain, rule = wide(), replace(rule, tolerance=1e-8)
    cosines, ratios = zip(*(compared(replace(rule, gamma=gamma), chain)[0] for gamma in (1.0, 0.1, 0.01)), strict=True)
    assert list(cosines) == sorted(cosines)
    assert list(ratios) == sorted(ratios)
    assert 0.4 < cosines[0] < 0.97
    assert ratios[0] < 0.5
    assert cosines[1] > 0.93
    assert cosines[2] > 0.995
    assert 0.9 < ratios[2] < 1.01


def test_lpom_agrees_better_than_the_contrast_at_equal_gamma():
    chain = wide()
    for gamma in (0.1, 0.01):
        lpom, proximal = (compared(replace(rule, gamma=gamma), chain)[0][0] for rule in RULES.values())
        assert lpom > proximal


def test_without_the_free_phase_hidden_layers_learn_something_else_however_weak_the_feedback():
    """Negative control."""
    chain = wide()
    for gamma in (0.1, 0.01, 0.001):
        (first, long), (second, _), (last, _) = compared(replace(CONTROL, gamma=gamma), chain)
        assert max(abs(first), abs(second)) < 0.3
        assert long > 1
        assert last > 0.9


# --- no derivative ---


def without_derivatives(chain: lifted.Chain) -> Layered:
    """The same network of activations that refuse to be differentiated."""

    def refuse(a: Tensor, s: Tensor) -> Tensor:
        raise AssertionError("a derivative of the activation was asked for")

    stages = chain.net.stages
    forbidden = [replace(stage, activation=replace(stage.activation, derivative=refuse)) for stage in stages]
    return Layered(dict(chain.model.named_children()), tuple(forbidden))


@pytest.mark.parametrize("rule", [*RULES.values(), CONTROL], ids=[*RULES, "control"])
def test_no_derivative_of_an_activation_is_asked_for(rule, monkeypatch):
    chain = lifted.mlp(nn.ReLU)
    expected = grads(rule, chain)

    def refuse(*_, **__):
        raise AssertionError("autograd was asked")

    monkeypatch.setattr(torch.autograd, "grad", refuse)
    found = rule.estimate(without_derivatives(chain), squared_error, chain.x, classes(chain)).grads
    for parameter, gradient in zip(chain.parameters, expected, strict=True):
        assert_close(found[parameter], gradient, rtol=0, atol=0)


@pytest.mark.parametrize("rule", [PredictiveCoding(), AuxiliaryCoordinates()])
def test_the_potentials_with_activations_in_them_ask_for_it(rule):
    """Negative control."""
    chain = lifted.mlp(nn.ReLU)
    with pytest.raises(AssertionError, match="derivative of the activation"):
        rule.estimate(without_derivatives(chain), squared_error, chain.x, classes(chain))


# --- inference ---


@rules
def test_states_are_in_range_and_the_output_is_the_target_or_free(rule):
    chain = NETWORKS["hard sigmoid"]()
    states = rule.estimate(chain.net, squared_error, chain.x, classes(chain)).states
    for state in states[:-1]:
        assert 0 <= float(state.mean().min()) <= float(state.mean().max()) <= 1
    y = torch.as_tensor(one_hot(classes(chain)))
    last = chain.layers[-1][0](states[-2].mean()).detach()
    assert_close(states[-1].mean(), y if isinstance(rule, LPOM) else last)


@rules
def test_a_number_of_passes_is_made_without_a_word_and_states_that_were_to_settle_and_did_not_are_warned_about(rule):
    chain = lifted.mlp(nn.ReLU)
    few = replace(rule, gamma=1.0, steps=3, tolerance=None).estimate(chain.net, squared_error, chain.x, classes(chain))
    assert few.passes == (3 if isinstance(rule, LPOM) else 6)
    assert not few.solution.converged.all()
    with pytest.warns(NotSettledWarning, match="have not settled after 3 passes"):
        grads(replace(rule, gamma=1.0, steps=3), chain)


@rules
def test_with_neither_number_nor_tolerance_it_settles_to_that_of_the_precision(rule):
    chain = lifted.mlp(nn.ReLU)
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        model, x = chain.model.to(dtype), chain.x.to(dtype)
        step = type(rule)().estimate(Layered.from_sequential(model), squared_error, x, classes(chain))
        assert bool((step.solution.residual <= tolerance).all())


@rules
def test_settled_states_are_where_the_next_estimate_may_start(rule):
    chain = lifted.mlp(nn.ReLU)
    cold = rule.estimate(chain.net, cross_entropy, chain.x, classes(chain))
    warm = rule.estimate(chain.net, cross_entropy, chain.x, classes(chain), states=cold.states)
    assert warm.passes < cold.passes
    for parameter in chain.parameters:
        assert_close(warm.grads[parameter], cold.grads[parameter], rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("kind", [LPOM, LiftedProximal])
@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"gamma": 0.0}, "gamma must be a positive number"),
        ({"gamma": -0.1}, "gamma must be a positive number"),
        ({"gamma": float("nan")}, "gamma must be a positive number"),
        ({"steps": 0}, "at least one pass"),
        ({"tolerance": -1.0}, "positive tolerance"),
    ],
)
def test_settings_out_of_range_are_refused(kind, settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        kind(**settings)


@rules
def test_units_that_do_not_project_are_refused_by_name(rule):
    with pytest.raises(ValueError, match="0 Linear has the activation tanh"):
        grads(rule, lifted.mlp(nn.Tanh))


# --- feedback paths ---

ALONG: dict[str, AbstractRule] = {
    "lpom": LPOM(1e-4),
    "proximal": LiftedProximal(1e-4, steps=30),
    "predictive": PredictiveCoding(1e-4, steps=300),
    "auxiliary": AuxiliaryCoordinates(1e-4, steps=300),
    "fixed predictions": PredictiveCoding(variant="fixed-prediction"),
    "z-il": PredictiveCoding(variant="z-il"),
}
ALIGNED = FeedbackAlignment()


@pytest.mark.parametrize("rule", ALONG.values(), ids=ALONG)
def test_gaps_that_go_down_another_path_tend_to_feedback_alignment_along_it(rule):
    chain = lifted.mlp(nn.ReLU)
    net = chain.net.with_feedback(RandomFeedback())
    ours, theirs = (each.estimate(net, squared_error, chain.x, classes(chain)).grads for each in (rule, ALIGNED))
    for parameter in chain.parameters:
        assert float((ours[parameter] - theirs[parameter]).norm() / theirs[parameter].norm()) < 2e-3


@pytest.mark.parametrize("rule", ALONG.values(), ids=ALONG)
def test_they_do_not_go_down_straight_from_the_output(rule):
    chain = lifted.mlp(nn.ReLU)
    net = chain.net.with_feedback(DirectFeedback())
    with pytest.raises(ValueError, match="from layer to layer, not straight from the output"):
        rule.estimate(net, squared_error, chain.x, classes(chain))
