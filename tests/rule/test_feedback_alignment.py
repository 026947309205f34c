"""Feedback alignment, direct or from layer to layer: against its equations, backpropagation, and what it learns."""

from functools import cache
from math import log2

import numpy as np
import pytest
import reference
import torch
from cases import LOSSES, SCHEDULES, SMOOTH, as_reference, mirrored, mlp, one_hot, problem
from torch import Tensor, nn
from torch.testing import assert_close

from dyadnet import (
    AbstractRule,
    Backprop,
    DualPropagation,
    Dyadic,
    EquilibriumPropagation,
    Lagrangian,
    Layered,
    Sweeps,
    alignment,
    cross_entropy,
    squared_error,
)
from dyadnet.audit.feedback_angles import feedback_angles
from dyadnet.data.loading import load
from dyadnet.loss import AbstractLoss
from dyadnet.network.feedback import DirectFeedback, FeedbackPath, KolenPollack, RandomFeedback, SignSymmetric
from dyadnet.rule.feedback_alignment import DirectFeedbackAlignment, FeedbackAlignment

LAYERWISE: dict[str, FeedbackPath] = {
    "random": RandomFeedback(),
    "sign-symmetric": SignSymmetric(),
    "kolen-pollack": KolenPollack(),
}
losses = pytest.mark.parametrize("loss", LOSSES)
layerwise = pytest.mark.parametrize("path", LAYERWISE.values(), ids=LAYERWISE)
schedules = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


def net_of(path: FeedbackPath | None, model: nn.Sequential | None = None) -> Layered:
    return Layered.from_sequential(model or mlp(), feedback=path)


def batch(size: int = 3) -> tuple[Tensor, Tensor]:
    return torch.randn(size, 5), torch.arange(size) % 4


def grads(rule: AbstractRule, net: Layered, loss: AbstractLoss, x: Tensor, y: Tensor) -> list[Tensor]:
    """Gradients of the maps' parameters, from the bottom up."""
    found = rule.estimate(net, loss, x, y).grads
    return [found[p] for stage in net.stages for p in stage.map.parameters()]


def downward(net: Layered) -> list[np.ndarray]:
    """`B_0, B_1, ...` in the shapes of the weights; there is none below the lowest layer."""
    assert net.feedback is not None
    weights = net.feedback.detours().values() if net.feedback.detours() else net.feedback.state_dict().values()
    return [np.empty(0), *(weight.detach().numpy() for weight in weights)]


# --- against the equations ---


@losses
@layerwise
def test_feedback_alignment_is_its_recursion(path, loss: str):
    net, (x, y) = net_of(path), batch()
    targets = one_hot(y)
    slow = [
        reference.feedback_alignment(as_reference(net), downward(net), a, b, loss)
        for a, b in zip(x.numpy(), targets, strict=True)
    ]
    ours = grads(FeedbackAlignment(), net, LOSSES[loss], x, torch.tensor(targets))
    assert_close(ours, [torch.tensor(g) for g in reference.batch_mean(slow)])


@losses
def test_direct_feedback_alignment_is_its_recursion(loss: str):
    net, (x, y) = net_of(DirectFeedback()), batch()
    targets = one_hot(y)
    slow = [
        reference.feedback_alignment(as_reference(net), downward(net), a, b, loss, direct=True)
        for a, b in zip(x.numpy(), targets, strict=True)
    ]
    ours = grads(DirectFeedbackAlignment(), net, LOSSES[loss], x, torch.tensor(targets))
    assert_close(ours, [torch.tensor(g) for g in reference.batch_mean(slow)])


@layerwise
@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_dyads_along_a_path_are_their_equations(path, alpha: float):
    net, (x, y) = net_of(path, mlp(nn.ReLU)), batch(1)
    slow = reference.DualPropagation(alpha, 0.3, loss="cross-entropy")
    order = list(Sweeps().order(3))
    _, found = reference.dual_propagation(as_reference(net), x[0].numpy(), one_hot(y)[0], order, slow, B=downward(net))
    ours = grads(DualPropagation(0.3, alpha), net, cross_entropy, x, y)
    assert_close(ours, [torch.tensor(g) for pair in found for g in pair])


# --- what it comes to ---


@pytest.mark.parametrize("make", SMOOTH.values(), ids=SMOOTH)
def test_along_the_transposes_it_is_backpropagation(make):
    case = make()
    found = FeedbackAlignment().estimate(mirrored(case.net), cross_entropy, case.x, case.y).grads
    found = {name: found[parameter] for name, parameter in case.parameters.items()}
    assert_close(found, case.exact(cross_entropy), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("path", [RandomFeedback(), SignSymmetric(), DirectFeedback()], ids=lambda p: type(p).__name__)
def test_along_other_weights_it_is_not(path):
    case = problem(mlp(), 5, batch=30)
    rule = DirectFeedbackAlignment() if isinstance(path, DirectFeedback) else FeedbackAlignment()
    *hidden, output = alignment(rule, case.net.with_feedback(path), cross_entropy, case.x, case.y)
    assert output.cosine == pytest.approx(1)
    assert output.norm_ratio == pytest.approx(1)
    assert all(layer.cosine < 0.95 for layer in hidden)


def test_with_one_hidden_layer_direct_feedback_is_feedback_through_the_output_map():
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 4))
    (x, y), direct, layered = batch(), net_of(DirectFeedback(seed=2), model), net_of(RandomFeedback(seed=2), model)
    one = grads(DirectFeedbackAlignment(), direct, cross_entropy, x, y)
    assert_close(one, grads(FeedbackAlignment(), layered, cross_entropy, x, y), rtol=1e-13, atol=1e-15)


@schedules
def test_any_order_of_updates_finds_the_same_errors(schedule):
    (x, y), model = batch(), mlp()
    for rule, path in ((FeedbackAlignment, RandomFeedback()), (DirectFeedbackAlignment, DirectFeedback())):
        net = net_of(path, model)
        expected = grads(rule(), net, cross_entropy, x, y)
        assert_close(grads(rule(schedule), net, cross_entropy, x, y), expected, rtol=1e-12, atol=1e-14)


@schedules
def test_states_given_at_the_start_do_not_matter_once_errors_have_arrived(schedule):
    (x, y), model = batch(), mlp()
    for rule, path in ((FeedbackAlignment, RandomFeedback()), (DirectFeedbackAlignment, DirectFeedback())):
        net = net_of(path, model)
        states = rule().estimate(net, cross_entropy, torch.randn_like(x), y).states
        warm = rule(schedule).estimate(net, cross_entropy, x, y, states=states).grads
        assert_close(warm, rule().estimate(net, cross_entropy, x, y).grads, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("path", [*LAYERWISE.values(), DirectFeedback()], ids=lambda path: type(path).__name__)
@pytest.mark.parametrize("rule", [DualPropagation, Dyadic], ids=["dual propagation", "dyadic"])
def test_dyads_tend_to_the_lagrangian_form_along_the_same_path(rule, path):
    net, (x, y) = net_of(path), batch()
    exact = Lagrangian().estimate(net, cross_entropy, x, y).grads

    def error(beta: float) -> float:
        ours = rule(beta).estimate(net, cross_entropy, x, y).grads
        return max(float((ours[p] - exact[p]).norm() / exact[p].norm()) for p in exact)

    assert error(0.01) < 1e-3
    assert log2(error(0.02) / error(0.01)) == pytest.approx(2, abs=0.05)


def test_states_between_predictions_and_feedback_tend_to_it_as_well():
    """Equilibrium propagation of a lifted energy, whose gaps travel down the path."""
    net, (x, y) = net_of(RandomFeedback()), batch()
    exact = grads(FeedbackAlignment(), net, squared_error, x, torch.tensor(one_hot(y)))
    ours = grads(EquilibriumPropagation(1e-4), net, squared_error, x, torch.tensor(one_hot(y)))
    assert_close(ours, exact, rtol=1e-4, atol=1e-5)


# --- what it learns ---


@cache
def digits() -> tuple[Tensor, Tensor]:
    train = load("digits").train
    return train.images[:512].flatten(1).double() / 16, train.labels[:512]


def trained(rule: AbstractRule, net: Layered, optimizer: torch.optim.Optimizer, steps: int) -> float:
    """The share of the digits that it gets right in the end."""
    x, y = digits()
    for start in (64 * torch.arange(steps) % 512).tolist():
        optimizer.zero_grad()
        rule.backward(net, cross_entropy, x[start : start + 64], y[start : start + 64])
        optimizer.step()
    return float((net(x).argmax(1) == y).double().mean())


def reader() -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 10))


@pytest.mark.parametrize(
    ("rule", "path"), [(FeedbackAlignment(), RandomFeedback()), (DirectFeedbackAlignment(), DirectFeedback())]
)
def test_weights_align_with_the_feedback_weights_as_it_learns(rule, path):
    net = net_of(path, reader())
    before = feedback_angles(net)
    assert trained(rule, net, torch.optim.Adam(net.parameters(), 0.01), 80) > 0.9
    after = feedback_angles(net)
    assert before == pytest.approx([90, 90], abs=6)
    assert max(after) < 80


def test_another_path_than_the_one_it_learned_along_stays_at_a_right_angle():
    net = net_of(RandomFeedback(), reader())
    trained(FeedbackAlignment(), net, torch.optim.Adam(net.parameters(), 0.01), 80)
    assert feedback_angles(net.with_feedback(RandomFeedback(seed=1))) == pytest.approx([90, 90], abs=8)


OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, 0.5, weight_decay=0.1),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, 0.01, weight_decay=5.0),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("rule", [FeedbackAlignment(), DualPropagation(0.1)], ids=["lagrangian", "dual propagation"])
def test_kolen_pollack_finds_the_transpose_under_weight_decay(rule, optimizer):
    net, (x, y) = net_of(KolenPollack(), reader()), digits()
    assert min(feedback_angles(net)) > 80
    trained(rule, net, optimizer(net.parameters()), 150)
    assert max(feedback_angles(net)) < 1
    exact = Backprop().estimate(net, cross_entropy, x, y).grads
    ours = Lagrangian().estimate(net, cross_entropy, x, y).grads
    for stage in net.stages:
        for p in stage.parameters():
            assert float((ours[p] - exact[p]).norm() / exact[p].norm()) < 0.02


def test_the_difference_to_the_transpose_decays_at_the_rate_of_the_weight_decay():
    """`B - W^T` is multiplied by `1 - rate decay` in every step, whatever is learned."""
    net = net_of(KolenPollack(), reader())
    optimizer = torch.optim.SGD(net.parameters(), 0.1, weight_decay=0.3)

    def differences() -> list[Tensor]:
        assert net.feedback is not None
        detours = net.feedback.detours()
        pairs = zip(detours.values(), net.stages[1:], strict=True)
        return [(B - stage.map.weight).detach() for B, stage in pairs]

    before = differences()
    trained(FeedbackAlignment(), net, optimizer, 10)
    assert_close(differences(), [(1 - 0.1 * 0.3) ** 10 * difference for difference in before])


def test_without_decay_the_difference_stays():
    net = net_of(KolenPollack(), reader())
    trained(FeedbackAlignment(), net, torch.optim.SGD(net.parameters(), 0.1), 40)
    assert min(feedback_angles(net)) > 30


# --- what is refused ---


@pytest.mark.parametrize("path", [None, DirectFeedback()], ids=["transpose", "direct"])
def test_feedback_alignment_asks_for_weights_from_layer_to_layer(path):
    with pytest.raises(ValueError, match=r"FeedbackAlignment needs feedback weights from layer to layer, not .*: net"):
        FeedbackAlignment().estimate(net_of(path), cross_entropy, *batch())


@pytest.mark.parametrize("path", [None, RandomFeedback()], ids=["transpose", "random"])
def test_direct_feedback_alignment_asks_for_direct_feedback(path):
    with pytest.raises(ValueError, match=r"needs direct feedback: net.with_feedback\(DirectFeedback\(\)\)"):
        DirectFeedbackAlignment().estimate(net_of(path), cross_entropy, *batch())


def test_it_is_for_feedforward_chains():
    with pytest.raises(ValueError, match="this rule is for feedforward chains"):
        FeedbackAlignment().estimate(net_of(RandomFeedback()).with_lam(0.75), cross_entropy, *batch())
