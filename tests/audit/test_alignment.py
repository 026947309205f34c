"""Agreement with backpropagation: on hand-made estimates whose cosine and length are known."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isnan

import pytest
import torch
from cases import NETWORKS, RULES, dyads, problem, usual
from hopfield import cases
from torch import Tensor, nn

from dyadnet import (
    AbstractRule,
    Backprop,
    DualPropagation,
    Dyadic,
    Lagrangian,
    Layered,
    RecurrentBackprop,
    Sweeps,
    alignment,
    cross_entropy,
    squared_error,
)
from dyadnet.audit.alignment import residual
from dyadnet.relax.relaxation import NotSettledWarning, Relaxation
from dyadnet.relax.stopping import Count, Residual
from dyadnet.rule.base import Estimate


@dataclass(frozen=True)
class Altered(AbstractRule):
    """Backpropagation whose gradients a function alters."""

    change: Callable[[Tensor, Tensor], Tensor]

    def estimate(self, net, loss, x, y, *, states=None, generator=None, keep_states=True) -> Estimate:
        step = Backprop().estimate(net, loss, x, y)
        return Estimate(step.loss, step.output, {p: self.change(p, grad) for p, grad in step.grads.items()})


def one_layer() -> tuple[Layered, Tensor, Tensor]:
    """Gradient (6, 8) in the weights and 2 in the bias."""
    layer = nn.Linear(2, 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return Layered.from_sequential(nn.Sequential(layer)), torch.tensor([[3.0, 4.0]]), torch.tensor([[-2.0]])


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("rule", [Backprop(), Lagrangian()], ids=["backprop", "lagrangian"])
def test_exact_rules_agree_in_direction_and_length(make, rule):
    case = make()
    found = alignment(rule, case.net, cross_entropy, case.x, case.y)
    assert [layer.layer for layer in found] == [stage.name for stage in case.net.stages]
    for layer in found:
        assert layer.cosine == pytest.approx(1, abs=1e-12)
        assert layer.norm_ratio == pytest.approx(1, abs=1e-12)
        assert layer.same_sign == pytest.approx(1, abs=0.02)  # rounding decides the smallest
        assert layer.straddling is None


def test_an_estimate_that_was_turned_and_stretched_is_measured_as_such():
    net, x, y = one_layer()

    def turn(parameter, grad):  # (6, 8, 2) becomes (-8, 6, 0): orthogonal, of length 10 over the root of 104
        return torch.tensor([[-8.0, 6.0]]) if parameter.dim() == 2 else torch.zeros(1)

    (layer,) = alignment(Altered(turn), net, squared_error, x, y)
    assert layer.cosine == pytest.approx(0, abs=1e-12)
    assert layer.norm_ratio == pytest.approx(10 / 104**0.5, rel=1e-12)
    assert layer.same_sign == pytest.approx(1 / 3)
    (layer,) = alignment(Altered(lambda p, grad: -3 * grad), net, squared_error, x, y)
    assert (layer.cosine, layer.norm_ratio) == (pytest.approx(-1, abs=1e-12), pytest.approx(3, rel=1e-12))
    assert layer.same_sign == 0


def test_entries_without_a_sign_in_the_exact_gradient_do_not_count():
    net, x, y = one_layer()
    (layer,) = alignment(Altered(lambda p, grad: grad + 1), net, squared_error, x * torch.tensor([[1.0, 0.0]]), y)
    assert layer.same_sign == 1


def test_weights_and_bias_of_a_layer_count_as_one_vector():
    net, x, y = one_layer()
    (layer,) = alignment(Altered(lambda p, grad: grad if p.dim() == 2 else 0 * grad), net, squared_error, x, y)
    assert layer.cosine == pytest.approx(10 / 104**0.5, rel=1e-12)
    assert layer.norm_ratio == pytest.approx(10 / 104**0.5, rel=1e-12)


def test_the_exact_output_step_lengthens_the_gradient_of_squared_error_by_a_known_factor():
    """Delta_L = beta (y - a) / ((1 + alpha beta) (1 - (1 - alpha) beta)): at beta 1/2 and alpha 1/2 by 16/15."""
    net, x, y = one_layer()
    rule = DualPropagation(beta=0.5, output="sprovr")
    (layer,) = alignment(rule, net, squared_error, x, y)
    assert layer.cosine == pytest.approx(1, abs=1e-12)
    assert layer.norm_ratio == pytest.approx(16 / 15, rel=1e-12)


def test_a_layer_without_gradient_has_no_direction():
    net, x, y = one_layer()
    (layer,) = alignment(Backprop(), net, squared_error, x, torch.zeros_like(y))
    assert isnan(layer.cosine)
    assert isnan(layer.norm_ratio)
    assert isnan(layer.same_sign)
    (layer,) = alignment(Altered(lambda p, grad: 0 * grad), net, squared_error, x, y)
    assert isnan(layer.cosine)
    assert layer.norm_ratio == 0


def test_another_reference_can_be_named():
    case = NETWORKS["relu mlp"]()
    rule = DualPropagation(beta=1.0)
    for layer in alignment(rule, case.net, cross_entropy, case.x, case.y, reference=rule):
        assert layer.cosine == pytest.approx(1, abs=1e-12)
    against_backprop = alignment(rule, case.net, cross_entropy, case.x, case.y)
    assert min(layer.cosine for layer in against_backprop) < 1 - 1e-6


def test_stages_without_trainable_parameters_are_left_out():
    model = nn.Sequential(nn.Flatten(), nn.Tanh(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    case = problem(model, 2, 3)
    model[2].requires_grad_(False)
    found = alignment(DualPropagation(), case.net, cross_entropy, case.x, case.y)
    assert [layer.layer for layer in found] == ["4 Linear"]


def test_units_that_straddle_a_kink_are_counted_where_there_are_dyads():
    first, second = nn.Linear(1, 4, bias=False), nn.Linear(4, 1, bias=False)
    case = problem(nn.Sequential(first, nn.ReLU(), second), 1, batch=1)
    first.weight.data = torch.tensor([[0.02], [0.03], [-0.02], [-1.0]])
    second.weight.data = torch.full((1, 4), 0.1)
    x = torch.ones(1, 1)
    y = second(first(x).relu()).detach() - 1.0  # feedback of 0.1 to every unit, half of it to each state
    for beta, share in ((1.0, 0.75), (0.5, 0.5), (0.1, 0.0)):
        found = alignment(DualPropagation(beta=beta), case.net, squared_error, x, y)
        assert [layer.straddling for layer in found] == [share, 0.0]


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_every_rule_agrees_well_at_a_small_beta_and_leaves_no_trace(rule):
    case = usual(rule)
    for layer in alignment(rule, case.net, cross_entropy, case.x, case.y):
        assert layer.cosine > 0.9
    assert all(parameter.grad is None for parameter in case.model.parameters())


# --- networks with loops ---


RECURRENT = {name: make for name, make in cases.NETWORKS.items() if "strong" not in name}


@pytest.mark.parametrize("make", RECURRENT.values(), ids=RECURRENT)
def test_recurrent_backpropagation_is_exact_where_there_are_loops(make):
    """Against itself by way of the reference; `test_recurrent_backprop.py` holds it against finite differences."""
    net, (x, y) = make(), cases.batch()
    found = alignment(RecurrentBackprop(), net, squared_error, x, y)
    assert [layer.layer for layer in found] == [name for name, _ in net.groups()]
    for layer in found:
        assert layer.cosine == pytest.approx(1, abs=1e-9)
        assert layer.norm_ratio == pytest.approx(1, abs=1e-6)
        assert layer.straddling is None


@pytest.mark.parametrize("make", RECURRENT.values(), ids=RECURRENT)
def test_a_rule_agrees_better_at_a_smaller_beta(make):
    net, (x, y) = make(), cases.batch()
    lowest = [
        min(layer.cosine for layer in alignment(Dyadic(beta), net, squared_error, x, y)) for beta in (1.0, 0.1, 1e-3)
    ]
    assert lowest[0] < lowest[1] < lowest[2]
    assert lowest[2] > 1 - 1e-6


def test_the_reference_settles_though_the_network_is_in_a_hurry():
    """A rule stopped after a few passes is compared with the gradient at equilibrium, not with one stopped as early."""
    net, (x, y) = cases.layered(0.0), cases.batch()
    net.relaxation = Relaxation(stop=Count(2))
    hasty = alignment(RecurrentBackprop(), net, squared_error, x, y)
    assert min(layer.cosine for layer in hasty) < 0.999
    settled = RecurrentBackprop(cases.EXACT)
    against_itself = alignment(settled, net, squared_error, x, y)
    assert min(layer.cosine for layer in against_itself) > 1 - 1e-9


def test_layers_of_a_dense_network_are_its_parameters():
    net, (x, y) = cases.dense("skew"), cases.batch()
    found = alignment(Dyadic(0.1), net, squared_error, x, y)
    assert [layer.layer for layer in found] == ["theta", "theta_0", "bias"]
    net.theta.requires_grad_(False)
    found = alignment(Dyadic(0.1), net, squared_error, x, y)
    assert [layer.layer for layer in found] == ["theta_0", "bias"]


def test_only_feedforward_chains_have_no_loops():
    assert not cases.layered(0.5).relaxes
    assert all(net.relaxes for net in (cases.layered(0.25), cases.dense("lower"), cases.dense("free")))


# --- residual ---


def test_the_residual_of_a_rule_that_relaxes_is_that_of_its_solution():
    net, (x, y) = cases.layered(0.0), cases.batch()
    net.relaxation = Relaxation(stop=Residual(1e-3))
    found = residual(Dyadic(), net, squared_error, x, y)
    solution = Dyadic().estimate(net, squared_error, x, y).solution
    assert solution is not None
    assert found == float(solution.residual.max()) <= 1e-3
    net.relaxation = Relaxation(stop=Residual(1e-3, most=2))
    with pytest.warns(NotSettledWarning):
        assert (residual(Dyadic(), net, squared_error, x, y) or 0) > 1e-3


def test_a_rule_without_states_has_no_residual():
    case = NETWORKS["relu mlp"]()
    assert residual(Backprop(), case.net, cross_entropy, case.x, case.y) is None


def test_the_residual_is_the_largest_relative_change_of_one_more_pass():
    """A chain of one stage settles at once; with two, the original form at alpha 0 has further to go."""
    case = NETWORKS["relu mlp"]()
    assert residual(Lagrangian(), case.net, cross_entropy, case.x, case.y) == 0
    assert residual(DualPropagation(alpha=0), case.net, cross_entropy, case.x, case.y) == pytest.approx(0, abs=1e-12)
    rule = DualPropagation(alpha=0, variant="original", beta=0.5)
    once = rule.estimate(case.net, cross_entropy, case.x, case.y)
    twice = DualPropagation(alpha=0, variant="original", beta=0.5, schedule=Sweeps(2)).estimate(
        case.net, cross_entropy, case.x, case.y
    )
    changes = []
    for before, after in zip(dyads(once), dyads(twice), strict=True):
        changes.append(float((after.mean() - before.mean()).norm() / after.mean().norm()))
        delta, difference = after.delta(), after.delta() - before.delta()
        changes.append(float(difference.norm() / delta.norm()))
    assert residual(rule, case.net, cross_entropy, case.x, case.y) == pytest.approx(max(changes), rel=1e-9)
    assert max(changes) > 0.01
