"""What every rule keeps, on every kind of network. A rule is covered by being listed in `cases.RULES`, or in
`cases.NO_GRADIENTS` if it keeps all of it but for the gradient."""

import copy
from math import isinf, log2

import pytest
import torch
from cases import (
    ALL_RULES,
    LIFTED,
    NETWORKS,
    ONE_SWEEP,
    RELAXING,
    RULES,
    SMOOTH,
    UNSETTLED,
    Problem,
    activation_of,
    mlp,
    on,
    order_of,
    problem,
    usual,
    with_beta,
)
from torch import nn
from torch.testing import assert_close

from dyadnet import AbstractRule, Layered, cross_entropy, squared_error

ROUNDING = 1e-11

rules = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
every_rule = pytest.mark.parametrize("rule", ALL_RULES.values(), ids=ALL_RULES)
ON_NETWORKS = on(NETWORKS, ALL_RULES)
on_networks = pytest.mark.parametrize(("rule", "make"), ON_NETWORKS.values(), ids=ON_NETWORKS)
ON_SMOOTH = on(SMOOTH, {name: rule for name, rule in RULES.items() if name not in UNSETTLED})
on_smooth_networks = pytest.mark.parametrize(("rule", "make"), ON_SMOOTH.values(), ids=ON_SMOOTH)


def errors(rule: AbstractRule, case: Problem, beta: float) -> dict[str, float]:
    """Relative error of each parameter's gradient."""
    exact, found = case.exact(cross_entropy), case.estimate(with_beta(rule, beta), cross_entropy)
    return {name: float((found[name] - exact[name]).norm() / exact[name].norm()) for name in exact}


@on_smooth_networks
def test_the_error_of_the_gradient_falls_with_beta_at_the_order_of_the_rule_in_every_layer(rule, make):
    case, order = make(), order_of(rule)
    fine = errors(rule, case, 2**-10)
    if isinf(order):
        assert max(fine.values()) < ROUNDING
        return
    coarse = errors(rule, case, 2**-9)
    for name in fine:
        if fine[name] > ROUNDING:  # some layers are exact; which ones, the tests of the rule say
            assert log2(coarse[name] / fine[name]) == pytest.approx(order, abs=0.1), name


@on_networks
def test_the_gradient_of_a_batch_is_the_mean_over_its_samples(rule, make):
    case = make()
    few = Problem(case.model, case.net, case.x[:3], case.y[:3])
    whole = few.estimate(rule, cross_entropy)
    samples = [
        Problem(case.model, case.net, few.x[i : i + 1], few.y[i : i + 1]).estimate(rule, cross_entropy)
        for i in range(3)
    ]
    for name in whole:
        assert_close(whole[name], torch.stack([sample[name] for sample in samples]).mean(0), rtol=1e-10, atol=1e-12)


@every_rule
def test_backward_adds_the_estimate_to_what_is_there(rule):
    case = usual(rule)
    estimate = case.estimate(rule, squared_error)
    for times in (1, 2):
        rule.backward(case.net, squared_error, case.x, case.y)
        for name, parameter in case.parameters.items():
            assert_close(parameter.grad, times * estimate[name], rtol=1e-12, atol=1e-14)


@on_networks
def test_an_estimate_changes_nothing(rule, make):
    case = make()
    for parameter in case.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    model, x, y, random = copy.deepcopy(case.model), case.x.clone(), case.y.clone(), torch.get_rng_state()
    rule.estimate(case.net, cross_entropy, case.x, case.y)
    assert torch.equal(case.x, x)
    assert torch.equal(case.y, y)
    assert not case.x.requires_grad
    assert torch.equal(torch.get_rng_state(), random)
    assert_close(case.model.state_dict(), model.state_dict(), rtol=0, atol=0)
    assert all(parameter.grad.eq(1).all() for parameter in case.model.parameters())


@every_rule
def test_an_estimate_is_a_function_of_its_arguments(rule):
    case = usual(rule)
    torch.manual_seed(1)
    once = case.estimate(rule, cross_entropy)
    torch.manual_seed(2)
    assert_close(case.estimate(rule, cross_entropy), once, rtol=0, atol=0)


@every_rule
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_dtype_and_device_are_those_of_the_network(rule, dtype):
    for device in ["cpu", "cuda"][: 1 + torch.cuda.is_available()]:
        case = usual(rule)
        net, x, y = case.net.to(device, dtype), case.x.to(device, dtype), case.y.to(device)
        step = rule.estimate(net, cross_entropy, x, y)
        states = [state.mean() for state in step.states or ()]
        for tensor in (step.loss, step.output, *step.grads.values(), *states):
            assert (tensor.dtype, tensor.device) == (dtype, x.device)


@every_rule
def test_every_trainable_parameter_gets_a_gradient_of_its_shape(rule):
    case = usual(rule)
    grads = rule.estimate(case.net, cross_entropy, case.x, case.y).grads
    assert set(grads) == set(case.model.parameters())
    assert all(grad.shape == parameter.shape for parameter, grad in grads.items())
    assert not any(grad.requires_grad for grad in grads.values())


@every_rule
def test_frozen_parameters_get_no_gradient_and_do_not_change_the_others(rule):
    case = usual(rule)
    free = case.estimate(rule, cross_entropy)
    frozen = [name for i, name in enumerate(case.parameters) if i % 3 == 0]
    for name in frozen:
        case.parameters[name].requires_grad_(False)
    rule.backward(case.net, cross_entropy, case.x, case.y)
    for name, parameter in case.parameters.items():
        if name in frozen:
            assert parameter.grad is None, name
        else:
            assert_close(parameter.grad, free[name], rtol=1e-12, atol=1e-14)


@every_rule
def test_a_parameter_that_two_stages_share_gets_the_sum_of_their_gradients(rule):
    lower, upper = nn.Linear(5, 5), nn.Linear(5, 5)
    upper.weight, upper.bias = lower.weight, lower.bias
    f = activation_of(rule)
    tied = problem(nn.Sequential(lower, f(), upper, f(), nn.Linear(5, 4)), 5)
    untied = copy.deepcopy(tied.model)
    untied[2] = copy.deepcopy(untied[2])
    grads = Problem(untied, Layered.from_sequential(untied), tied.x, tied.y).estimate(rule, cross_entropy)
    found = tied.estimate(rule, cross_entropy)
    for name in ("weight", "bias"):
        assert_close(found[f"0.{name}"], grads[f"0.{name}"] + grads[f"2.{name}"], rtol=1e-12, atol=1e-14)


@every_rule
def test_states_that_are_not_kept_leave_the_gradients_as_they_are(rule):
    case = usual(rule)
    kept = rule.estimate(case.net, cross_entropy, case.x, case.y)
    dropped = rule.estimate(case.net, cross_entropy, case.x, case.y, keep_states=False)
    assert dropped.states is None
    for parameter, grad in kept.grads.items():
        assert_close(dropped.grads[parameter], grad, rtol=1e-12, atol=1e-14)


@on_networks
def test_loss_and_output_are_those_of_the_network_without_a_nudge(rule, make):
    case = make()
    relaxes = rule in RELAXING.values()  # its means, and so its output, move with beta
    step = with_beta(rule, 1e-8 if relaxes else 0.1).estimate(case.net, cross_entropy, case.x, case.y)
    free = case.model(case.x).detach()
    assert_close(step.output, free, rtol=0, atol=1e-6 if relaxes else 1e-12)
    assert_close(step.loss, nn.functional.cross_entropy(free, case.y), rtol=0, atol=1e-6 if relaxes else 1e-12)
    assert not step.output.requires_grad


@every_rule
def test_gradients_are_found_where_autograd_is_off(rule):
    case = usual(rule)
    outside = case.estimate(rule, cross_entropy)
    with torch.no_grad():
        assert_close(case.estimate(rule, cross_entropy), outside, rtol=0, atol=0)


@every_rule
def test_a_plain_function_serves_as_the_loss(rule):
    case = problem(mlp(activation_of(rule)), 5)

    def own(output, y):
        return nn.functional.cross_entropy(output, y, reduction="none")

    if getattr(rule, "output", "linear") == "linear":
        assert_close(case.estimate(rule, own), case.estimate(rule, cross_entropy), rtol=1e-10, atol=1e-12)
    else:
        with pytest.raises(ValueError, match="proximal step"):
            case.estimate(rule, own)


# --- training mode ---


def damped(rule: AbstractRule) -> bool:
    """Whether a rule looks at the maps beforehand, for their norms: at alpha 1/2 there is nothing to damp."""
    return getattr(rule, "variant", None) == "stabilised" and getattr(rule, "alpha", None) != 0.5


EVALUATES_ONCE = {name: rule for name, rule in ONE_SWEEP.items() if not damped(rule)}
EVALUATES_AGAIN = {name: rule for name, rule in RULES.items() if name not in EVALUATES_ONCE}
relaxing_rules = pytest.mark.parametrize("rule", EVALUATES_AGAIN.values(), ids=EVALUATES_AGAIN)
one_sweep_rules = pytest.mark.parametrize("rule", EVALUATES_ONCE.values(), ids=EVALUATES_ONCE)


def batch_norm_case(rule: AbstractRule) -> Problem:
    f = activation_of(rule)
    return problem(nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), f(), nn.Linear(6, 4)).train(), 5)


def dropout_case(rule: AbstractRule) -> Problem:
    f = activation_of(rule)
    return problem(nn.Sequential(nn.Linear(5, 6), f(), nn.Dropout(0.5), nn.Linear(6, 4)).train(), 5)


@one_sweep_rules
def test_one_sweep_updates_batch_statistics_once_and_learns_with_them(rule):
    case = batch_norm_case(rule)
    forward = Problem(copy.deepcopy(case.model), case.net, case.x, case.y)
    exact = forward.exact(cross_entropy)
    found = case.estimate(with_beta(rule, 1e-4), cross_entropy)
    assert_close(case.model.state_dict(), forward.model.state_dict(), rtol=1e-12, atol=1e-14)
    assert_close(found, exact, rtol=1e-3, atol=1e-4)


@one_sweep_rules
def test_gradients_of_one_sweep_are_those_of_the_dropout_that_was_drawn(rule):
    case = dropout_case(rule)
    torch.manual_seed(3)
    exact = case.exact(squared_error)
    torch.manual_seed(3)
    found = case.estimate(with_beta(rule, 1e-4), squared_error)
    assert_close(found, exact, rtol=1e-3, atol=1e-4)


@relaxing_rules
@pytest.mark.parametrize(
    ("make", "named"),
    [(batch_norm_case, "1 BatchNorm1d"), (dropout_case, "2 Dropout")],
    ids=["batch statistics", "dropout"],
)
def test_rules_that_relax_refuse_a_map_that_changes_and_leave_it_untouched(rule, make, named):
    case = make(rule)
    before, random = copy.deepcopy(case.model.state_dict()), torch.get_rng_state()
    with pytest.raises(ValueError, match=named):
        rule.estimate(case.net, cross_entropy, case.x, case.y)
    assert_close(case.model.state_dict(), before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), random)


@every_rule
def test_evaluation_mode_leaves_the_running_statistics_alone_and_takes_any_schedule(rule):
    case = batch_norm_case(rule)
    case.model.eval()
    before = copy.deepcopy(case.model.state_dict())
    rule.estimate(case.net, cross_entropy, case.x, case.y)
    assert_close(case.model.state_dict(), before, rtol=0, atol=0)


# --- half precision ---


@rules
def test_under_bfloat16_autocast_gradients_stay_close_to_those_of_single_precision_at_any_beta(rule):
    case = usual(rule)
    single = Problem(case.model.float(), case.net, case.x.float(), case.y)
    for beta in (1e-1, 1e-3):
        # what lifted states differ by is small in single precision, too: half must not make it worse
        lifted = isinstance(rule, LIFTED)
        exact = single.estimate(with_beta(rule, beta), cross_entropy) if lifted else single.exact(cross_entropy)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = single.estimate(with_beta(rule, beta), cross_entropy)
        for name in exact:
            cosine = torch.cosine_similarity(found[name].flatten(), exact[name].flatten(), dim=0)
            assert cosine > 0.99, (name, beta)


# --- learning ---


@every_rule
def test_descent_along_the_estimates_learns(rule):
    case = problem(mlp(activation_of(rule)), 5, batch=12)
    optimizer = torch.optim.Adam(case.model.parameters(), lr=0.05)
    values = []
    for _ in range(6):
        optimizer.zero_grad()
        values.append(float(rule.backward(case.net, cross_entropy, case.x, case.y).loss))
        optimizer.step()
    assert values[-1] < 0.9 * values[0]
