"""A recorded rule gives the rule's own gradients, for the batches that it was recorded for and for others."""

from dataclasses import replace
from math import inf

import pytest
import torch
from torch import Tensor, nn

from dyadnet import (
    AbstractRule,
    AuxiliaryCoordinates,
    Backprop,
    DualPropagation,
    EquilibriumPropagation,
    Layered,
    PredictiveCoding,
    cross_entropy,
    squared_error,
)
from dyadnet.rule.compiled import CompiledRule, compiled

RULES = [
    Backprop(),
    *(DualPropagation(alpha=alpha) for alpha in (0.0, 0.5, 1.0)),
    PredictiveCoding(inf, steps=5, step=0.1),
    PredictiveCoding(0.1, steps=5, step=0.1),
    PredictiveCoding(variant="fixed-prediction"),
    AuxiliaryCoordinates(steps=5, step=0.1),
]


def dense() -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))


def convolutional() -> nn.Sequential:
    conv = nn.Conv2d(1, 2, 3)
    return nn.Sequential(conv, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))


def problem(model: nn.Sequential) -> tuple[Layered, Tensor, Tensor]:
    shape = (5,) if isinstance(model[0], nn.Linear) else (1, 6, 6)
    return Layered.from_sequential(model), torch.randn(4, *shape), torch.tensor([0, 2, 1, 2])


def kept(graph: object) -> object:
    return graph


def recorded(rule: AbstractRule, net: Layered, x: Tensor, y: Tensor) -> CompiledRule:
    return compiled(rule, net, cross_entropy, x, y, compiler=kept)


@pytest.mark.parametrize("make", [dense, convolutional])
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_record_gives_the_gradients_of_its_rule_also_after_the_weights_have_moved(rule, make) -> None:
    net, x, y = problem(make())
    fast = recorded(rule, net, x, y)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    x, y = torch.randn_like(x), y.flip(0)
    ran = []
    run = fast.run
    fast = replace(fast, run=lambda *batch: ran.append(1) or run(*batch))
    found, expected = (each.estimate(net, cross_entropy, x, y, keep_states=False) for each in (fast, rule))
    assert ran, "the rule ran instead of its record"
    torch.testing.assert_close(found.loss, expected.loss)
    torch.testing.assert_close(found.output, expected.output)
    assert found.passes == expected.passes
    for parameter, grad in expected.grads.items():
        torch.testing.assert_close(found.grads[parameter], grad)


def test_other_batches_losses_networks_and_wishes_are_left_to_the_rule() -> None:
    net, x, y = problem(dense())
    rule = DualPropagation()
    fast = replace(recorded(rule, net, x, y), run=lambda *batch: pytest.fail("the record ran"))
    other = problem(dense())[0]
    for net_, loss, x_, y_, keep in (
        (net, cross_entropy, x[:3], y[:3], False),
        (net, squared_error, x, y, False),
        (other, cross_entropy, x, y, False),
        (net, cross_entropy, x, y, True),
    ):
        found, expected = (each.estimate(net_, loss, x_, y_, keep_states=keep) for each in (fast, rule))
        for parameter, grad in expected.grads.items():
            torch.testing.assert_close(found.grads[parameter], grad, rtol=0, atol=0)


def normalised() -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))


def to_eval(net: Layered) -> None:
    net.eval()


def to_train(net: Layered) -> None:
    net.train()


def replace_a_weight(net: Layered) -> None:
    linear = net.stages[-1].map
    assert isinstance(linear, nn.Linear)
    linear.weight = nn.Parameter(torch.randn_like(linear.weight))


def replace_a_mean(net: Layered) -> None:
    (norm,) = (m for m in net.modules() if isinstance(m, nn.BatchNorm1d))
    norm.running_mean = torch.randn(6)


def freeze_a_weight(net: Layered) -> None:
    next(iter(net.parameters())).requires_grad_(False)


@pytest.mark.parametrize("rule", [Backprop(), DualPropagation()], ids=str)
@pytest.mark.parametrize("change", [to_eval, to_train, replace_a_weight, replace_a_mean, freeze_a_weight])
def test_a_network_that_is_no_longer_what_was_recorded_is_left_to_the_rule(rule, change) -> None:
    net, x, y = problem(normalised())
    net.train(change is to_eval)
    fast = recorded(rule, net, x, y)
    change(net)
    x = torch.randn_like(x)
    expected, found = (each.estimate(net, cross_entropy, x, y, keep_states=False) for each in (rule, fast))
    torch.testing.assert_close(found.output, expected.output)
    assert found.grads.keys() == expected.grads.keys()
    for parameter, grad in expected.grads.items():
        torch.testing.assert_close(found.grads[parameter], grad)


@pytest.mark.parametrize("rule", [Backprop(), DualPropagation()], ids=str)
def test_a_network_with_a_frozen_parameter_is_recorded(rule) -> None:
    net, x, y = problem(dense())
    freeze_a_weight(net)
    fast = replace(recorded(rule, net, x, y), rule=Unused())
    found, expected = (each.estimate(net, cross_entropy, x, y, keep_states=False) for each in (fast, rule))
    assert len(expected.grads) == len(list(net.parameters())) - 1
    assert found.grads.keys() == expected.grads.keys()
    for parameter, grad in expected.grads.items():
        torch.testing.assert_close(found.grads[parameter], grad)


class Unused(AbstractRule):
    """A rule that is not to run."""

    def estimate(self, net, loss, x, y, **options):
        pytest.fail("the rule ran instead of its record")


def test_a_users_own_loss_is_recorded() -> None:
    net, x, _ = problem(dense())
    y = torch.randn(4, 3)

    def absolute(output: Tensor, y: Tensor) -> Tensor:
        return (output - y).abs().sum(1)

    fast = compiled(DualPropagation(), net, absolute, x, y, compiler=kept)
    expected = DualPropagation().estimate(net, absolute, x, y).grads
    found = fast.estimate(net, absolute, x, y, keep_states=False).grads
    for parameter, grad in expected.items():
        torch.testing.assert_close(found[parameter], grad)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_a_record_scales_no_sum_since_compilers_lose_the_factor(alpha: float) -> None:
    graphs = []
    compiled(DualPropagation(alpha=alpha), *_arguments(), compiler=lambda graph: graphs.append(graph) or graph)
    (graph,) = graphs
    assert not [node for node in graph.graph.nodes if node.kwargs.get("alpha", 1) != 1]


@pytest.mark.parametrize("rule", [EquilibriumPropagation(), PredictiveCoding(steps=5)], ids=["settles", "own steps"])
def test_a_rule_that_looks_at_its_numbers_is_refused_in_one_line(rule) -> None:
    net, x, y = problem(dense())
    net = Layered.from_sequential(dense(), 1.0) if isinstance(rule, EquilibriumPropagation) else net
    with pytest.raises(ValueError, match="cannot be recorded, for what it does depends on its numbers"):
        compiled(rule, net, cross_entropy, x, y, compiler=kept)


def test_a_network_that_draws_random_numbers_is_refused() -> None:
    net = Layered.from_sequential(nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Dropout(), nn.Linear(6, 3)))
    with pytest.raises(ValueError, match="draws random numbers"):
        compiled(Backprop(), net, cross_entropy, torch.randn(4, 5), torch.tensor([0, 1, 2, 0]), compiler=kept)


def _arguments():
    net, x, y = problem(dense())
    return net, cross_entropy, x, y
