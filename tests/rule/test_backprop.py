"""Backpropagation against the chain rule in NumPy."""

import numpy as np
import pytest
import reference
import torch
from cases import LOSSES, NETWORKS, as_reference, mlp, one_hot, problem
from torch import nn
from torch.testing import assert_close

from dyadnet import Backprop, DualPropagation, Layered, cross_entropy


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU, lambda: nn.Hardtanh(0, 1)], ids=["tanh", "relu", "clip"])
@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_those_of_the_chain_rule(activation, loss):
    case = problem(mlp(activation), 5)
    net, targets = as_reference(case.net), one_hot(case.y)
    samples = [reference.backprop(net, x, y, loss) for x, y in zip(case.x.numpy(), targets, strict=True)]
    step = Backprop().estimate(case.net, LOSSES[loss], case.x, case.y)
    for parameter, expected in zip(case.model.parameters(), reference.batch_mean(samples), strict=True):
        assert_close(step.grads[parameter], torch.tensor(expected), rtol=1e-12, atol=1e-14)
    outputs = np.array([reference.forward(net, x)[1][-1] for x in case.x.numpy()])
    assert_close(step.output, torch.tensor(outputs), rtol=1e-12, atol=1e-14)
    mean = np.mean([reference.loss(loss, s, y) for s, y in zip(outputs, targets, strict=True)])
    assert float(step.loss) == pytest.approx(mean, rel=1e-12)


def test_there_are_no_states_to_keep_or_to_start_from():
    case = NETWORKS["conv-pool"]()
    step = Backprop().estimate(case.net, cross_entropy, case.x, case.y)
    assert step.states is None
    assert step.passes == 1
    states = DualPropagation().estimate(case.net, cross_entropy, case.x, case.y).states
    warm = Backprop().estimate(case.net, cross_entropy, case.x, case.y, states=states)
    assert all(torch.equal(warm.grads[p], step.grads[p]) for p in step.grads)


def test_backward_is_what_the_usual_call_does():
    case = NETWORKS["conv-pool"]()
    cross_entropy(case.model(case.x), case.y).mean().backward()
    expected = [parameter.grad for parameter in case.model.parameters()]
    case.model.zero_grad()
    Backprop().backward(case.net, cross_entropy, case.x, case.y)
    assert_close([parameter.grad for parameter in case.model.parameters()], expected, rtol=1e-12, atol=1e-14)


def test_a_parameter_that_the_output_does_not_depend_on_gets_zero():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.idle = nn.Parameter(torch.ones(2))

        def forward(self, s):
            return s

    idle = Idle()
    net = Layered.from_sequential(nn.Sequential(idle, nn.Tanh(), nn.Linear(5, 4)))
    grads = Backprop().estimate(net, cross_entropy, torch.randn(3, 5), torch.tensor([0, 1, 2])).grads
    assert grads[idle.idle].tolist() == [0.0, 0.0]
