"""Losses: values and gradients against autograd, exact nudges against their own condition and against a search."""

import numpy as np
import pytest
import reference
import torch
from cases import LOSSES
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from torch import Tensor, nn
from torch.testing import assert_close

import dyadnet.loss
from dyadnet import Dyadic, EquilibriumPropagation, Layered, RecurrentBackprop, cross_entropy, squared_error
from dyadnet.loss import AbstractLoss, CustomLoss, _fitting, _newton_step, as_loss, one_hot

losses = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
by_name = pytest.mark.parametrize("name", LOSSES)

rows = npst.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=6).flatmap(
    lambda shape: npst.arrays(np.float64, shape, elements=st.floats(-20, 20))
)


def soft(logits: Tensor) -> Tensor:
    """Distributions over the classes."""
    return (logits / 10).softmax(1)


# --- values and gradients ---


@given(a=rows)
def test_values_are_those_of_pytorch(a):
    a = torch.tensor(a)
    y = torch.arange(len(a)) % a.shape[1]
    assert_close(cross_entropy(a, y), nn.functional.cross_entropy(a, y, reduction="none"))
    assert_close(cross_entropy(a, soft(a)), nn.functional.cross_entropy(a, soft(a), reduction="none"))
    one_hot_rows = nn.functional.one_hot(y, a.shape[1]).double()
    half_squares = nn.functional.mse_loss(a, one_hot_rows, reduction="none").sum(1) / 2
    assert_close(squared_error(a, y), half_squares)
    assert_close(squared_error(a, one_hot_rows), half_squares)


@by_name
@given(a=rows)
def test_values_and_gradients_are_those_of_the_formulas_sample_by_sample(name, a):
    y = np.eye(a.shape[1])[np.arange(len(a)) % a.shape[1]]
    values = [reference.loss(name, sample, target) for sample, target in zip(a, y, strict=True)]
    gradients = [reference.loss_gradient(name, sample, target) for sample, target in zip(a, y, strict=True)]
    loss, a, y = LOSSES[name], torch.tensor(a), torch.tensor(y)
    assert_close(loss(a, y), torch.tensor(values), rtol=1e-12, atol=1e-12)
    assert_close(loss.gradient(a, y), torch.tensor(np.array(gradients)), rtol=1e-12, atol=1e-12)


@losses
@given(a=rows)
def test_gradients_are_those_of_autograd_for_classes_and_for_real_targets(loss, a):
    a = torch.tensor(a)
    for y in (torch.arange(len(a)) % a.shape[1], soft(a.flip(0))):
        leaf = a.clone().requires_grad_()
        expected = torch.autograd.grad(loss(leaf, y).sum(), leaf)[0]
        assert_close(loss.gradient(a, y), expected, rtol=1e-12, atol=1e-12)


@given(a=rows)
def test_labels_that_do_not_sum_to_one_weigh_the_cross_entropy(a):
    a = torch.tensor(a)
    y, classes = 3 * torch.rand_like(a), torch.arange(len(a)) % a.shape[1]
    y[0] = 0  # a sample that does not count
    leaf = a.clone().requires_grad_()
    assert_close(cross_entropy.gradient(a, y), torch.autograd.grad(cross_entropy(leaf, y).sum(), leaf)[0])
    twice = 2 * one_hot(classes, a)
    assert_close(cross_entropy.proximal(a, twice, -0.9), cross_entropy.proximal(a, classes, -1.8), rtol=1e-9, atol=1e-9)
    for strength in (-1.9 / float(y.sum(1).max()), 0.5, 20.0):
        assert unbalance(cross_entropy, a, y, strength) < 1e-9
    with pytest.raises(ValueError, match="with strength 2, but its exact step needs a strength below 2"):
        cross_entropy.proximal(a, twice, -1.0)


def test_squared_error_takes_outputs_of_any_shape():
    output, y = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
    assert_close(squared_error(output, y), (output - y).square().sum((1, 2, 3)) / 2)


@losses
def test_nothing_that_is_given_is_written_to(loss):
    a, y = torch.randn(5, 4), torch.randn(5, 4).softmax(1)
    before = a.clone(), y.clone()
    for call in (loss, loss.gradient):
        call(a, y)
    for strength in (0.5, -0.5):
        loss.proximal(a, y, strength)
    assert torch.equal(a, before[0])
    assert torch.equal(y, before[1])


@losses
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_dtype_is_that_of_the_output_whatever_the_targets(loss, dtype):
    a = torch.randn(5, 4, dtype=dtype)
    for y in (torch.randint(4, (5,)), torch.randint(4, (5,), dtype=torch.uint8), torch.rand(5, 4)):
        for tensor in (loss(a, y), loss.gradient(a, y), loss.proximal(a, y, 0.3)):
            assert tensor.dtype == dtype


@losses
def test_the_curvature_is_the_largest_eigenvalue_of_the_hessian(loss):
    y = torch.tensor([0])
    points = [torch.zeros(1, 2), *torch.randn(20, 1, 2), *(5 * torch.randn(20, 1, 4))]
    hessians = [torch.autograd.functional.hessian(lambda a: loss(a, y).sum(), a).squeeze() for a in points]
    largest = max(float(torch.linalg.eigvalsh(hessian)[-1]) for hessian in hessians)
    assert largest == pytest.approx(loss.curvature, rel=1e-9)


# --- exact nudges ---


def unbalance(loss: AbstractLoss, a: Tensor, y: Tensor, strength: float) -> float:
    """How far the proximal step is from a stationary point of `strength l(s) + 1/2 |s - a|^2`."""
    s = loss.proximal(a, y, strength)
    return float((s + strength * loss.gradient(s, y) - a).abs().max())


@given(a=rows, strength=st.floats(-0.999, 100))
def test_the_exact_step_of_squared_error_is_stationary(a, strength):
    a = torch.tensor(a)
    assert unbalance(squared_error, a, soft(a.flip(0)), strength) < 1e-10 * max(1.0, 1 / (1 + strength))


@given(a=rows, strength=st.floats(-0.5, 0.5))
def test_the_exact_step_of_cross_entropy_is_stationary_for_small_strengths(a, strength):
    a = torch.tensor(a)
    assert unbalance(cross_entropy, a, torch.arange(len(a)) % a.shape[1], strength) < 1e-10
    assert unbalance(cross_entropy, a, soft(a.flip(0)), strength) < 1e-10


@settings(max_examples=60)
@given(a=rows, strength=st.floats(-1.9, 100))
def test_the_exact_step_of_cross_entropy_is_stationary_up_to_its_bound(a, strength):
    a = torch.tensor(a)
    assert unbalance(cross_entropy, a, torch.arange(len(a)) % a.shape[1], strength) < 1e-10
    assert unbalance(cross_entropy, a, soft(a.flip(0)), strength) < 1e-10


def test_the_exact_step_of_cross_entropy_stands_certainty_at_strength_minus_one():
    assert unbalance(cross_entropy, torch.tensor([[50.0, 0.0, 0.0]]), torch.tensor([1]), -1.0) < 1e-10


@pytest.mark.parametrize("c", [-1.9, -1.0, -0.5, 0.0, 0.3, 5.0, 100.0, 1.5j, 0.9 - 0.4j])
@pytest.mark.parametrize("classes", [2, 10, 100])
def test_newton_steps_solve_their_equations(c, classes):
    a, r = 3 * torch.randn(8, classes), torch.randn(8, classes)
    for p in (a.softmax(1), soft(a), torch.eye(classes)[:1].expand(8, -1)):
        hessian = torch.diag_embed(p) - p[:, :, None] * p[:, None]
        expected = torch.linalg.solve(torch.eye(classes) + c * hessian, r.to((c * p).dtype))
        assert_close(_newton_step(p, r.to(expected.dtype), torch.tensor(c)), expected, rtol=1e-12, atol=1e-12)


def test_newton_steps_stand_a_class_of_which_one_plus_cp_is_nothing():
    p = torch.tensor([[0.8, 0.15, 0.05]])
    hessian = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    for c in (-1 / 0.8, -1.25 - 1e-9, -1.25 + 1e-12):
        expected = torch.linalg.solve(torch.eye(3) + c * hessian, torch.tensor([[1.0, -2.0, 3.0]]))
        assert_close(_newton_step(p, torch.tensor([[1.0, -2.0, 3.0]]), c), expected, rtol=1e-12, atol=1e-12)


@by_name
@pytest.mark.parametrize("strength", [-0.4, 0.1, 0.5, 2.0])
def test_the_exact_step_minimises_as_a_search_does(name, strength):
    a, y = torch.randn(5, 4), np.eye(4)[[0, 1, 2, 3, 0]]
    found = LOSSES[name].proximal(a, torch.tensor(y), strength)
    searched = [reference.proximal(name, sample, target, strength) for sample, target in zip(a.numpy(), y, strict=True)]
    assert_close(found, torch.tensor(np.array(searched)), rtol=1e-12, atol=1e-12)


@losses
@pytest.mark.parametrize("strength", [0.1, 1.0])
def test_no_other_output_is_better_than_the_exact_step(loss, strength):
    a, y = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0])

    def objective(s: Tensor) -> Tensor:
        return strength * loss(s, y) + (s - a).square().sum(1) / 2

    best = loss.proximal(a, y, strength)
    for size in (1e-4, 1e-2, 1.0):
        for _ in range(50):
            assert (objective(best + size * torch.randn_like(best)) > objective(best)).all()


@losses
def test_no_strength_is_no_nudge(loss):
    a = torch.randn(5, 4)
    assert_close(loss.proximal(a, torch.zeros(5, dtype=torch.long), 0.0), a, rtol=0, atol=0)


@losses
def test_exact_and_linearised_nudge_agree_to_first_order(loss):
    a, y = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0])
    gaps = [
        float((loss.proximal(a, y, strength) - (a - strength * loss.gradient(a, y))).norm())
        for strength in (2e-3, 1e-3)
    ]
    assert gaps[0] / gaps[1] == pytest.approx(4, rel=0.02)


@losses
@pytest.mark.parametrize("excess", [0.0, 1.0])
def test_a_nudge_away_from_the_target_beyond_the_bound_is_refused(loss, excess):
    bound = 1 / loss.curvature
    with pytest.raises(ValueError, match=f"below {bound:g}: take a smaller beta") as caught:
        loss.proximal(torch.zeros(1, 4), torch.tensor([0]), -bound - excess)
    assert "\n" not in str(caught.value)
    loss.proximal(torch.zeros(1, 4), torch.tensor([0]), -bound + 0.01)


@pytest.fixture
def classes_seen(monkeypatch):
    """The number of times that classes were looked at, by their being appended to a list."""
    seen = []

    def counted(y: Tensor, output: Tensor) -> Tensor:
        if not y.is_floating_point():
            seen.append(y)
        return _fitting(y, output)

    monkeypatch.setattr(dyadnet.loss, "_fitting", counted)
    return seen


@losses
def test_classes_are_looked_at_once_for_all_steps_of_a_nudge(loss, classes_seen):
    y, a = torch.tensor([0, 1, 2, 3, 0]), torch.randn(4, 5, 4)
    step = loss.nudge(y, 0.3)
    found = [step(each) for each in a]
    assert len(classes_seen) == 1
    for each, s in zip(a, found, strict=True):
        assert_close(s + 0.3 * loss.gradient(s, y), each)


@losses
@pytest.mark.parametrize("rule", [RecurrentBackprop(), EquilibriumPropagation(0.1), Dyadic(0.1)], ids=repr)
def test_a_relaxation_looks_at_classes_once_a_phase(loss, rule, classes_seen):
    net = Layered.from_sequential(nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4)), 1.0)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(0.3)
    step = rule.estimate(net, loss, torch.randn(6, 3), torch.arange(6) % 4)
    assert step.passes > 5
    assert len(classes_seen) <= 3  # two phases, and the value itself


# --- targets ---


@losses
@pytest.mark.parametrize(
    ("classes", "said"), [([0, 4], "range from 0 to 4"), ([-1, 3], "range from -1 to 3"), ([7, 9], "range from 7 to 9")]
)
def test_classes_out_of_range_are_refused(loss, classes, said):
    for call in (loss, loss.gradient):
        with pytest.raises(ValueError, match=f"classes {said}, but the output has 4"):
            call(torch.zeros(2, 4), torch.tensor(classes))


@losses
@pytest.mark.parametrize(
    ("output", "y", "said"),
    [
        ((3, 4), torch.zeros(2, dtype=torch.long), r"classes have shape \(2,\)"),
        ((3, 4), torch.zeros(3, 1, dtype=torch.long), r"classes have shape \(3, 1\)"),
        ((3, 4, 2), torch.zeros(3, dtype=torch.long), r"output of \(3, 4, 2\)"),
        ((3, 4), torch.zeros(3), r"targets have shape \(3,\), but the output has \(3, 4\)"),
        ((3, 4), torch.zeros(3, 5), r"targets have shape \(3, 5\)"),
    ],
)
def test_targets_that_do_not_fit_are_refused(loss, output, y, said):
    with pytest.raises(ValueError, match=said):
        loss(torch.zeros(output), y)


@given(y=npst.arrays(np.int64, st.integers(1, 8), elements=st.integers(0, 4)))
def test_one_hot_rows_hold_a_one_at_the_class(y):
    rows = one_hot(torch.tensor(y), torch.zeros(len(y), 5))
    assert rows.sum(1).eq(1).all()
    assert rows.argmax(1).tolist() == y.tolist()


# --- a user's own ---


def test_a_plain_function_becomes_a_loss_with_the_gradient_of_autograd():
    def quartic(output, y):
        return (output - y).pow(4).sum(1)

    loss, a, y = as_loss(quartic), torch.randn(5, 4), torch.randn(5, 4)
    assert_close(loss(a, y), quartic(a, y))
    with torch.no_grad():
        assert_close(loss.gradient(a, y), 4 * (a - y).pow(3))
    assert not a.requires_grad
    with pytest.raises(ValueError, match="output='linear'"):
        loss.proximal(a, y, 0.1)


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("weight", [None, torch.tensor([1.0, 2.0, 0.5, 3.0])], ids=["plain", "weighted"])
def test_losses_of_pytorch_are_taken_sample_by_sample(batch, weight):
    weight = None if weight is None else weight.double()
    a, y = torch.randn(batch, 4), torch.randint(4, (batch,))
    loss = as_loss(nn.CrossEntropyLoss(weight=weight, reduction="none"))
    scale = torch.ones(batch) if weight is None else weight[y]
    assert_close(loss(a, y), scale * cross_entropy(a, y))
    assert_close(loss.gradient(a, y), scale[:, None] * cross_entropy.gradient(a, y))


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize(
    ("function", "said"),
    [
        (nn.CrossEntropyLoss(), r"\(\)"),
        (nn.CrossEntropyLoss(weight=torch.ones(4, dtype=torch.float64)), r"\(\)"),
        (nn.CrossEntropyLoss(reduction="sum"), r"\(\)"),
        (lambda output, y: output.square(), r"\([15], 4\)"),
        (lambda output, y: output.square().sum(1, keepdim=True), r"\([15], 1\)"),
    ],
)
def test_losses_of_another_shape_are_refused(batch, function, said):
    loss, a, y = as_loss(function), torch.randn(batch, 4), torch.randint(4, (batch,))
    for call in (loss, loss.gradient):
        with pytest.raises(ValueError, match=rf"one value a sample, of shape \({batch},\), not {said}: take") as caught:
            call(a, y)
        assert "\n" not in str(caught.value)


def test_a_loss_stays_itself():
    assert as_loss(squared_error) is squared_error
    assert isinstance(as_loss(lambda output, y: output.sum(1)), CustomLoss)


def test_cross_entropy_of_images_and_sequences_is_refused_for_labels_of_either_kind():
    for shape in ((2, 5, 6, 6), (2, 7, 5), (5,)):
        output = torch.randn(shape)
        for y in (output.softmax(-1), torch.zeros(shape[0], dtype=torch.long)):
            for use in (cross_entropy, cross_entropy.gradient, lambda a, y: cross_entropy.proximal(a, y, 0.1)):
                with pytest.raises(ValueError, match=r"does not fit an output of \(\d"):
                    use(output, y)
