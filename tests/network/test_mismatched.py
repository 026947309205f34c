"""A feedback path of devices that are meant as transposes: nominally the network is what it was."""

import pytest
import torch
from torch import nn

from dyadnet import ContrastiveHebbian, CoupledLearning, EquilibriumPropagation, Layered, squared_error
from dyadnet.network.feedback import FeedbackPath, KolenPollack, Mismatched, RandomFeedback, SignSymmetric
from dyadnet.network.linearisation import Gradients
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.stopping import Residual
from dyadnet.rule.base import AbstractRule

RULES = [EquilibriumPropagation(0.1), ContrastiveHebbian(), CoupledLearning(0.1)]
rules = pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)


def symmetric() -> Layered:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    return Layered.from_sequential(model, 1.0, relaxation=Relaxation(stop=Residual(1e-12)))


def learned(rule: AbstractRule, net: Layered) -> Gradients:
    torch.manual_seed(1)
    return rule.estimate(net, squared_error, torch.rand(4, 6), torch.rand(4, 3)).grads


@rules
def test_energy_rules_run_on_a_nominally_symmetric_network(rule: AbstractRule):
    net = symmetric()
    plain = learned(rule, net)
    gaps = []
    for relative in (0.01, 0.1):
        found = learned(rule, net.with_feedback(Mismatched(relative=relative)))
        gaps.append(float(sum((found[p] - g).square().sum() for p, g in plain.items())) ** 0.5)
    assert 0 < gaps[0] < gaps[1]
    assert gaps[1] / gaps[0] == pytest.approx(10, rel=0.2)


@rules
@pytest.mark.parametrize("path", [RandomFeedback(), SignSymmetric(), KolenPollack()], ids=lambda p: type(p).__name__)
def test_other_paths_have_no_energy(rule: AbstractRule, path: FeedbackPath):
    with pytest.raises(ValueError, match="feedback through weights of its own has no energy"):
        learned(rule, symmetric().with_feedback(path))


def test_errors_are_those_of_the_seed_and_are_saved_with_the_network():
    net = symmetric()
    one, same, other = (net.with_feedback(Mismatched(relative=0.1, seed=seed)).state_dict() for seed in (1, 1, 2))
    names = [name for name in one if name.startswith("feedback")]
    assert names == ["feedback.B1", "feedback.B2"]
    for name in names:
        assert torch.equal(one[name], same[name])
        assert not torch.equal(one[name], other[name])


def test_weights_in_two_places_share_their_errors():
    shared = nn.Linear(4, 4)
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), shared, nn.ReLU(), shared, nn.ReLU(), nn.Linear(4, 2))
    net = Layered.from_sequential(model, feedback=Mismatched())
    assert [name for name in net.state_dict() if name.startswith("feedback")] == ["feedback.B1", "feedback.B3"]


@pytest.mark.parametrize("relative", [-0.1, float("nan"), float("inf")])
def test_unphysical_errors_are_refused(relative: float):
    with pytest.raises(ValueError, match="relative must be zero or a positive number, not"):
        Mismatched(relative=relative)
