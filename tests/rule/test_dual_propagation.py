"""Dual propagation against NumPy, against backpropagation as beta falls, and where it settles and where it does not."""

import dataclasses
from itertools import pairwise
from math import inf, log2
from typing import Any

import pytest
import reference
import torch
from cases import ACTIVATIONS, LOSSES, SCHEDULES, SMOOTH, Problem, as_reference, dyads, mlp, one_hot, problem, weight
from torch import Tensor, nn
from torch.testing import assert_close

from dyadnet import DualPropagation, Layered, OddEven, Sweeps, cross_entropy, squared_error
from dyadnet.audit.alignment import residual
from dyadnet.loss import AbstractLoss

VARIANTS: tuple[Any, ...] = ("transposed", "original", "stabilised")
OUTPUTS: tuple[Any, ...] = ("linear", "sprovr", "arovr")
ALPHAS = (0.0, 0.3, 0.5, 1.0)

variants = pytest.mark.parametrize("variant", VARIANTS)
outputs = pytest.mark.parametrize("output", OUTPUTS)
alphas = pytest.mark.parametrize("alpha", ALPHAS)
schedules = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)

# --- the states and gradients themselves ---


def stretched(model: nn.Sequential) -> nn.Sequential:
    """Weights with one dominant direction, whose norm above 1 the power iteration finds to rounding."""
    for module in model:
        if isinstance(module, nn.Linear):
            left, values, right = torch.linalg.svd(module.weight.detach(), full_matrices=False)
            values[0], values[1:] = 1.2, values[1:].clamp(max=0.4)
            module.weight.data = left @ torch.diag(values) @ right
    return model


def agrees(rule: DualPropagation, case: Problem, loss: str, states=None, start: dict | None = None):
    """Compare states and gradients with those of NumPy, and return both kinds of states for a warm start."""
    step = rule.estimate(case.net, LOSSES[loss], case.x, case.y, states=states)
    net, targets = as_reference(case.net), one_hot(case.y)
    slow = reference.DualPropagation(rule.alpha, rule.beta, rule.variant, rule.output, loss)
    order = list(rule.schedule.order(net.depth))
    samples = [
        reference.dual_propagation(net, x, y, order, slow, start and start[n])
        for n, (x, y) in enumerate(zip(case.x.numpy(), targets, strict=True))
    ]
    for k, state in enumerate(dyads(step), 1):
        for ours, sign in ((state.plus(), 0), (state.minus(), 1)):
            theirs = torch.stack([torch.tensor(found[k][sign]) for found, _ in samples])
            assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
        assert_close(state.mean(), rule.alpha * state.plus() + (1 - rule.alpha) * state.minus())
        assert_close(state.delta(), state.plus() - state.minus(), rtol=0, atol=0)
    expected = reference.batch_mean([grads for _, grads in samples])
    for parameter, gradient in zip(case.model.parameters(), expected, strict=True):
        assert_close(step.grads[parameter], torch.tensor(gradient), rtol=1e-11, atol=1e-12)
    return step.states, dict(enumerate(found for found, _ in samples))


@variants
@alphas
@schedules
def test_states_and_gradients_are_those_of_the_equations_also_from_a_warm_start(variant, alpha, schedule):
    rule = DualPropagation(beta=0.2, alpha=alpha, variant=variant, schedule=schedule)
    case = problem(stretched(mlp(nn.ReLU)), 5, batch=2)
    agrees(rule, case, "squared error", *agrees(rule, case, "squared error"))


@variants
@alphas
@pytest.mark.parametrize("activation", [nn.Tanh, lambda: nn.Hardtanh(0, 1)], ids=["tanh", "clip"])
def test_states_and_gradients_are_those_of_the_equations_for_other_activations(variant, alpha, activation):
    rule = DualPropagation(beta=0.2, alpha=alpha, variant=variant, schedule=OddEven(4))
    agrees(rule, problem(stretched(mlp(activation)), 5, batch=2), "cross-entropy")


@pytest.mark.parametrize("variant", VARIANTS[:2])
@alphas
@outputs
@pytest.mark.parametrize("loss", LOSSES)
def test_output_steps_are_those_of_the_equations(variant, alpha, output, loss):
    rule = DualPropagation(beta=0.4, alpha=alpha, variant=variant, output=output, schedule=Sweeps(2))
    agrees(rule, problem(stretched(mlp(nn.ReLU)), 5, batch=2), loss)


def test_a_single_neuron_by_hand():
    """a = 2 x 3 = 6, target 5: s+ = 6 - w+ beta 1, s- = 6 + w- beta 1, gradient (s- - s+) x / beta."""
    net = Layered.from_sequential(nn.Sequential(nn.Linear(1, 1, bias=False)))
    nn.init.constant_(weight(net, 0), 2.0)
    x, y = torch.tensor([[3.0]]), torch.tensor([[5.0]])
    for variant, plus, minus in zip(VARIANTS, (5.7, 5.9), (6.1, 6.3), strict=False):
        step = DualPropagation(beta=0.4, alpha=0.25, variant=variant).estimate(net, squared_error, x, y)
        (state,) = dyads(step)
        assert state.plus().item() == pytest.approx(plus, abs=1e-12)
        assert state.minus().item() == pytest.approx(minus, abs=1e-12)
        assert step.grads[weight(net, 0)].item() == pytest.approx(3.0, abs=1e-12)


@outputs
@schedules
def test_at_alpha_one_half_the_original_and_the_transposed_form_are_one(output, schedule):
    case = SMOOTH["mlp"]()
    found = [
        case.estimate(DualPropagation(variant=variant, output=output, schedule=schedule), cross_entropy)
        for variant in ("original", "transposed")
    ]
    assert_close(found[0], found[1], rtol=1e-12, atol=1e-14)


def test_at_alpha_one_half_nothing_is_damped():
    case = SMOOTH["conv-pool"]()
    found = [
        case.estimate(DualPropagation(variant=variant, schedule=Sweeps(3)), cross_entropy)
        for variant in ("original", "stabilised")
    ]
    assert_close(found[0], found[1], rtol=1e-12, atol=1e-14)


class DualReLU(torch.autograd.Function):
    """ReLU forward; backward a difference quotient in the place of its derivative."""

    @staticmethod
    def forward(ctx, a):
        ctx.save_for_backward(a)
        return a.relu()

    @staticmethod
    def backward(ctx, dy):  # pyright: ignore[reportIncompatibleMethodOverride]
        (a,) = ctx.saved_tensors
        return ((a + dy).relu() - (a - dy).relu()) / 2


class DualReLUModule(nn.Module):
    def forward(self, a: Tensor) -> Tensor:
        return DualReLU.apply(a)


def conv_relu_pool() -> nn.Sequential:
    """Activities small enough that some units are turned on or off by the error."""
    small = nn.Conv2d(3, 4, 3, bias=False)
    nn.init.normal_(small.weight, std=0.02)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), small, nn.ReLU(), nn.Flatten(), nn.Linear(4, 4)
    )


@pytest.mark.parametrize(
    ("make", "shape"), [(lambda: mlp(nn.ReLU), (5,)), (conv_relu_pool, (2, 6, 6))], ids=["mlp", "conv-pool"]
)
def test_one_sweep_at_beta_two_over_batch_is_backpropagation_with_another_derivative_of_relu(make, shape):
    case = problem(make(), *shape, batch=5)
    twin = nn.Sequential(*(DualReLUModule() if isinstance(m, nn.ReLU) else m for m in case.model))
    loss = nn.functional.cross_entropy(twin(case.x), case.y)
    expected = torch.autograd.grad(loss, list(twin.parameters()))
    rule = DualPropagation(beta=2 / len(case.x), schedule=Sweeps())
    step = rule.estimate(case.net, cross_entropy, case.x, case.y)
    assert_close([step.grads[p] for p in case.model.parameters()], list(expected), rtol=1e-12, atol=1e-14)
    ordinary = case.exact(cross_entropy)
    assert any(not torch.allclose(e, o) for e, o in zip(expected, ordinary.values(), strict=True))


# --- the limit of small beta ---

BETAS = [2.0**-j for j in (8, 9, 10)]


def orders(rule: DualPropagation, case: Problem, loss: AbstractLoss) -> dict[str, float]:
    """The power of beta with which each parameter's error falls, by a line through all betas; infinite if exact."""
    exact, errors = case.exact(loss), []
    for beta in BETAS:
        found = case.estimate(dataclasses.replace(rule, beta=beta), loss)
        errors.append({name: float((found[name] - exact[name]).norm() / exact[name].norm()) for name in exact})
    found = {}
    for name in exact:
        points = [(log2(beta), log2(error[name] + 1e-300)) for beta, error in zip(BETAS, errors, strict=True)]
        x, y = torch.tensor(points).T
        x = x - x.mean()
        found[name] = inf if max(error[name] for error in errors) < 1e-11 else float((x @ y) / (x @ x))
    return found


def output_is_exact(rule: DualPropagation) -> bool:
    """Whether the output layer's gradient is that of the loss at the free activities, at any beta."""
    linear = rule.output == "linear" or (rule.output == "arovr" and (rule.alpha == 0.5 or rule.variant == "transposed"))
    return linear and (rule.schedule == Sweeps() or (rule.variant == "transposed" and rule.alpha in (0, 1)))


ONE_SWEEP = [
    DualPropagation(alpha=alpha, variant=variant, output=output)
    for variant in VARIANTS[:2]
    for output in OUTPUTS
    for alpha in (0.0, 0.5, 1.0)
]
SETTLED = [
    DualPropagation(alpha=0.5, schedule=Sweeps(4)),  # at 0 and 1 it is settled after one sweep
    *(DualPropagation(alpha=alpha, variant="original", schedule=Sweeps(4)) for alpha in (0.0, 0.5, 1.0)),
    *(DualPropagation(alpha=alpha, variant="stabilised", schedule=Sweeps(16)) for alpha in (0.0, 1.0)),
]


@pytest.mark.parametrize("name", ["mlp", "conv-pool"])
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("rule", ONE_SWEEP + SETTLED, ids=repr)
def test_the_error_falls_as_beta_squared_at_alpha_one_half_and_as_beta_at_0_and_1_in_every_layer(name, loss, rule):
    found = orders(rule, SMOOTH[name](), loss)
    top = list(found)[-2:]
    for parameter, order in found.items():
        expected = inf if parameter in top and output_is_exact(rule) else 2 if rule.alpha == 0.5 else 1
        assert order == pytest.approx(expected, abs=0.05), parameter


# --- where it settles ---


def he_problem(scale: float) -> Problem:
    """20-64-64-64-10 with ReLU, He's initialisation times a scale, and real targets."""
    sizes = [20, 64, 64, 64, 10]
    modules: list[nn.Module] = []
    for below, above in pairwise(sizes):
        layer = nn.Linear(below, above)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
        layer.weight.data *= scale
        modules += [layer, nn.ReLU()]
    model = nn.Sequential(*modules[:-1])
    return Problem(model, Layered.from_sequential(model), torch.randn(8, 20), torch.randint(10, (8,)))


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_the_transposed_form_at_alpha_0_and_1_is_settled_after_one_sweep_at_any_weights(scale, alpha):
    case = he_problem(scale)
    once, twice, more = (
        dyads(DualPropagation(alpha=alpha, schedule=Sweeps(n)).estimate(case.net, squared_error, case.x, case.y))
        for n in (1, 2, 5)
    )
    x = case.x
    for k, stage in enumerate(case.net.stages):
        x = stage.activation.f(stage.map(x)).detach()
        for later in (twice, more):
            assert_close(later[k].plus(), once[k].plus(), rtol=1e-12, atol=1e-12)
            assert_close(later[k].minus(), once[k].minus(), rtol=1e-12, atol=1e-12)
        if k < len(case.net.stages) - 1:
            assert_close(once[k].mean(), x, rtol=1e-12, atol=1e-12)  # the free activity
    assert unrest(scale, alpha=alpha) < 1e-12


def unrest(scale: float, **settings) -> float:
    """The relative change that following the schedule once more makes."""
    torch.manual_seed(0)
    case = he_problem(scale)
    found = residual(DualPropagation(**settings), case.net, squared_error, case.x, case.y)
    assert found is not None
    return found


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_the_original_form_at_alpha_0_and_1_is_not_settled_after_one_sweep_and_never_at_large_weights(alpha):
    for scale in (0.5, 1.0, 1.5, 2.0):
        assert unrest(scale, alpha=alpha, variant="original") > 0.1
    many = Sweeps(40)
    assert unrest(0.5, alpha=alpha, variant="original", schedule=many) < 1e-10
    for scale in (1.5, 2.0):
        assert not unrest(scale, alpha=alpha, variant="original", schedule=many) < 0.5  # or not a number


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_the_original_form_diverges_at_large_weights(alpha):
    case = he_problem(2.0)
    rule = DualPropagation(alpha=alpha, variant="original", schedule=Sweeps(60))
    output = dyads(rule.estimate(case.net, squared_error, case.x, case.y))[-1]
    assert not output.mean().abs().max() < 1e6


def test_the_stabilised_form_settles_where_the_original_does_not():
    """For alpha above 1/2, where the feedback is negative and the original oscillates."""
    settings = {"beta": 0.3, "alpha": 1.0, "schedule": Sweeps(80)}
    assert unrest(1.0, variant="original", **settings) > 0.1
    assert unrest(1.0, variant="stabilised", **settings) < 1e-3


# --- strength ---


def test_beta_does_not_depend_on_the_size_of_the_batch():
    case = problem(mlp(nn.ReLU), 5, batch=1)
    once = DualPropagation(beta=0.5).estimate(case.net, cross_entropy, case.x, case.y)
    many = DualPropagation(beta=0.5).estimate(case.net, cross_entropy, case.x.repeat(7, 1), case.y.repeat(7))
    for before, after in zip(dyads(once), dyads(many), strict=True):
        assert_close(after.plus(), before.plus().repeat(7, 1), rtol=1e-12, atol=1e-13)
        assert_close(after.minus(), before.minus().repeat(7, 1), rtol=1e-12, atol=1e-13)
    assert_close(list(many.grads.values()), list(once.grads.values()), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_takes_part_without_a_derivative_being_asked_for(name):
    case = problem(mlp(ACTIVATIONS[name]), 5)
    exact = case.exact(cross_entropy)
    found = case.estimate(DualPropagation(beta=1e-4), cross_entropy)
    for parameter in exact:
        assert_close(found[parameter], exact[parameter], rtol=1e-3, atol=1e-5)


# --- what is refused ---


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"beta": 0.0}, "beta must be a positive number, not 0.0"),
        ({"beta": -1.0}, "beta must be a positive number"),
        ({"beta": inf}, "beta must be a positive number, not inf"),
        ({"beta": float("nan")}, "beta must be a positive number, not nan"),
        ({"alpha": -0.1}, r"alpha must lie in \[0, 1\], not -0.1"),
        ({"alpha": 1.1}, r"alpha must lie in \[0, 1\]"),
        ({"alpha": float("nan")}, r"alpha must lie in \[0, 1\]"),
    ],
)
def test_settings_out_of_range_are_refused(settings, said):
    with pytest.raises(ValueError, match=said) as caught:
        DualPropagation(**settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "loss"),
    [
        ({"beta": 2.0}, squared_error),  # (1 - alpha) beta = 1
        ({"beta": 1.0, "alpha": 0.0, "variant": "original"}, squared_error),
        ({"beta": 1.0, "alpha": 1.0, "variant": "transposed"}, squared_error),
        ({"beta": 4.0}, cross_entropy),
    ],
)
def test_a_beta_beyond_the_bound_of_an_exact_step_is_refused(settings, loss):
    case = problem(mlp(), 5)
    rule = DualPropagation(output="sprovr", **settings)
    with pytest.raises(ValueError, match="smaller beta"):
        rule.estimate(case.net, loss, case.x, case.y)
    dataclasses.replace(rule, output="linear").estimate(case.net, loss, case.x, case.y)


def test_the_stabilised_form_refuses_activations_without_an_inverse():
    case = problem(mlp(nn.GELU), 5)
    with pytest.raises(ValueError, match="0 Linear has gelu"):
        DualPropagation(variant="stabilised", alpha=0.0).estimate(case.net, cross_entropy, case.x, case.y)
