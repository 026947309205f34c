"""Contrastive Hebbian learning with random feedback: against slow equilibria, and where it tends as feedback fades."""

from math import log2

import numpy as np
import pytest
import reference
import torch
from cases import as_reference, mirrored, mlp, one_hot
from torch import Tensor, nn
from torch.testing import assert_close

from dyadnet import Backprop, ContrastiveHebbian, Layered, cross_entropy, squared_error
from dyadnet.network.feedback import DirectFeedback, KolenPollack, RandomFeedback
from dyadnet.network.linearisation import Gradients
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.stopping import Count, Residual
from dyadnet.rule.feedback_alignment import FeedbackAlignment
from dyadnet.rule.random_feedback_chl import RandomFeedbackCHL

TIGHT = Relaxation(stop=Residual(1e-14, 2000))
variants = pytest.mark.parametrize("free_feedback", [False, True], ids=["free of feedback", "free with feedback"])


def network(model: nn.Sequential | None = None) -> Layered:
    return Layered.from_sequential(model or mlp(), relaxation=TIGHT, feedback=RandomFeedback())


def batch(size: int = 3) -> tuple[Tensor, Tensor]:
    y = torch.arange(size) % 4
    return torch.randn(size, 5), torch.tensor(one_hot(y))


def contrast(net: Layered, gamma: float, x: Tensor, y: Tensor, *, free_feedback: bool) -> Gradients:
    """The rule's gradients, on the network that it needs."""
    prepared = net.with_lam((1 + gamma) / 2) if free_feedback else net
    return RandomFeedbackCHL(gamma, free_feedback).estimate(prepared, squared_error, x, y).grads


@variants
@pytest.mark.parametrize("gamma", [0.1, 0.7])
def test_gradients_are_the_contrast_of_slow_equilibria(gamma: float, free_feedback: bool):
    net, (x, y) = network(), batch()
    assert net.feedback is not None
    G = [np.empty(0), *(weight.numpy() for weight in net.feedback.state_dict().values())]
    slow = [
        reference.random_feedback_chl(as_reference(net), G, gamma, a, b, free_feedback=free_feedback)
        for a, b in zip(x.numpy(), y.numpy(), strict=True)
    ]
    ours = list(contrast(net, gamma, x, y, free_feedback=free_feedback).values())
    assert_close(ours, [torch.tensor(g) for g in reference.batch_mean(slow)], rtol=1e-8, atol=1e-10)


def order_towards(exact: Gradients, net: Layered, x: Tensor, y: Tensor) -> float:
    """The power of gamma with which the error falls."""

    def error(gamma: float) -> float:
        ours = contrast(net, gamma, x, y, free_feedback=True)
        return max(float((ours[p] - exact[p]).norm() / exact[p].norm()) for p in exact)

    assert error(1e-3) < 0.02
    return log2(error(2e-3) / error(1e-3))


def averaging() -> nn.Sequential:
    """For images of 2 x 6 x 6."""
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(3, 4, 3, stride=2),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(4, 4),
    )


def model_of(kind: str) -> tuple[nn.Sequential, Tensor]:
    return (mlp(), torch.randn(3, 5)) if kind == "mlp" else (averaging(), torch.randn(3, 2, 6, 6))


kinds = pytest.mark.parametrize("kind", ["mlp", "convolutions"])


@kinds
def test_it_tends_to_feedback_alignment_linearly_in_gamma(kind: str):
    model, x = model_of(kind)
    net, y = network(model), batch()[1]
    exact = FeedbackAlignment().estimate(net, squared_error, x, y).grads
    assert order_towards(exact, net, x, y) == pytest.approx(1, abs=0.05)


@kinds
def test_along_the_transposes_it_tends_to_backpropagation_linearly_in_gamma(kind: str):
    model, x = model_of(kind)
    net, y = mirrored(network(model)), batch()[1]
    assert order_towards(Backprop().estimate(net, squared_error, x, y).grads, net, x, y) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("gamma", [0.1, 0.5])
def test_along_the_transposes_it_is_contrastive_hebbian_learning(gamma: float):
    net, (x, y) = network().with_lam((1 + gamma) / 2), batch()
    ours = RandomFeedbackCHL(gamma).estimate(mirrored(net), squared_error, x, y)
    theirs = ContrastiveHebbian().estimate(net.with_feedback(None), squared_error, x, y)
    assert_close(ours.grads, theirs.grads, rtol=1e-9, atol=1e-11)
    assert_close(ours.output, theirs.output, rtol=1e-9, atol=1e-11)


# --- without feedback in the free phase ---


def test_without_free_feedback_one_hidden_layer_learns_from_the_target_in_the_place_of_the_error():
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 4))
    net, (x, y) = network(model), batch()
    assert net.feedback is not None
    a = model[0](x)
    error = -(1 - a.tanh().square()) * (y @ net.feedback.B1)
    found = contrast(net, 1e-6, x, y, free_feedback=False)
    assert_close(found[model[0].weight], error.T @ x / 3, rtol=1e-4, atol=1e-6)
    assert_close(
        found[model[2].weight],
        Backprop().estimate(net, squared_error, x, y).grads[model[2].weight],
        rtol=1e-4,
        atol=1e-6,
    )


def test_without_free_feedback_what_the_lowest_of_two_hidden_layers_learns_grows_without_bound_as_gamma_falls():
    net, (x, y) = network(), batch()

    def size(gamma: float) -> float:
        return float(contrast(net, gamma, x, y, free_feedback=False)[net.stages[0].map.weight].norm())

    assert log2(size(5e-4) / size(1e-3)) == pytest.approx(1, abs=0.05)


# --- what an estimate says, and what is refused ---


def test_the_output_is_that_of_the_network_and_the_states_are_free():
    x, y = batch()
    for gamma, free_feedback in ((0.3, True), (0.3, False)):
        net = network().with_lam(0.65 if free_feedback else 0.5)
        step = RandomFeedbackCHL(gamma, free_feedback).estimate(net, squared_error, x, y)
        assert_close(step.output, net(x))
        assert step.states is not None
        assert step.states[-1].mean() is step.output
        assert_close(step.loss, squared_error(net(x), y).mean())


def test_a_warm_start_saves_passes_and_changes_nothing_else():
    net, (x, y), rule = network().with_lam(0.65), batch(), RandomFeedbackCHL(0.3)
    cold = rule.estimate(net, squared_error, x, y)
    warm = rule.estimate(net, squared_error, x, y, states=cold.states)
    assert warm.passes < cold.passes
    assert_close(warm.grads, cold.grads, rtol=1e-9, atol=1e-11)


def test_classes_are_clamped_as_one_hot_outputs():
    net, (x, y) = network().with_lam(0.65), batch()
    classes = RandomFeedbackCHL(0.3).estimate(net, cross_entropy, x, y.argmax(1)).grads
    assert_close(classes, RandomFeedbackCHL(0.3).estimate(net, squared_error, x, y).grads, rtol=0, atol=0)


def test_learned_feedback_weights_learn_what_the_weights_do():
    net, (x, y) = Layered.from_sequential(mlp(), 0.65, relaxation=TIGHT, feedback=KolenPollack()), batch()
    grads = RandomFeedbackCHL(0.3).estimate(net, squared_error, x, y).grads
    assert net.feedback is not None
    assert_close(grads[net.feedback.B1], grads[net.stages[1].map.weight], rtol=0, atol=0)


def test_a_relaxation_of_ones_own_is_used_in_both_phases():
    net, (x, y) = network().with_lam(0.65), batch()
    rule = RandomFeedbackCHL(0.3, relaxation=Relaxation(stop=Count(7)))
    assert rule.estimate(net, squared_error, x, y).passes == 14


@pytest.mark.parametrize("gamma", [0.0, -0.1, 1.1, float("nan")])
def test_feedback_that_is_none_or_outweighs_the_drive_is_refused(gamma: float):
    with pytest.raises(ValueError, match=r"gamma must lie in \(0, 1\]"):
        RandomFeedbackCHL(gamma)


@pytest.mark.parametrize(("rule", "lam"), [(RandomFeedbackCHL(0.3), 0.65), (RandomFeedbackCHL(0.3, False), 0.5)])
def test_the_network_must_have_the_feedback_of_the_free_phase(rule, lam: float):
    x, y = batch()
    with pytest.raises(ValueError, match=rf"needs a layered network of lam={lam:g}: net.with_lam\({lam:g}\)"):
        rule.estimate(network().with_lam(0.6), squared_error, x, y)


def test_feedback_must_lead_from_layer_to_layer():
    x, y = batch()
    with pytest.raises(
        ValueError, match="RandomFeedbackCHL needs feedback weights from layer to layer, not the transpose"
    ):
        RandomFeedbackCHL(0.3).estimate(network().with_feedback(None).with_lam(0.65), squared_error, x, y)
    direct = Layered.from_sequential(mlp(), feedback=DirectFeedback())
    with pytest.raises(ValueError, match="not direct feedback"):
        RandomFeedbackCHL(0.3, False).estimate(direct, squared_error, x, y)


def test_maps_that_change_at_every_visit_are_refused():
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Dropout(), nn.Linear(7, 4)).train()
    x, y = batch()
    with pytest.raises(ValueError, match="2 Dropout gives another map at every visit"):
        RandomFeedbackCHL(0.3).estimate(network(model).with_lam(0.65), squared_error, x, y)
