"""A rule of one's own: errors that pick up noise at every layer on their way down, as on an analogue device."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

import dyadnet as dn
from dyadnet import data
from dyadnet.network.state import AbstractState
from dyadnet.relax.propagate import propagate
from dyadnet.rule.base import Estimate


@dataclass(frozen=True, eq=False)
class Response(AbstractState):
    states: tuple[Tensor, Tensor]  # at a little more and a little less drive
    strength: float

    def mean(self) -> Tensor:
        return (self.states[0] + self.states[1]) / 2

    def error(self) -> Tensor:
        return (self.states[0] - self.states[1]) / self.strength


@dataclass(frozen=True)
class NoisyFeedback(dn.AbstractRule):
    noise: float  # of the feedback, relative to its root mean square
    beta: float = 0.1

    def estimate(self, net, loss, x, y, *, states=None, generator=None, keep_states=True) -> Estimate:
        strength, generator = self.beta * len(x), generator or torch.Generator().manual_seed(0)

        def neuron(k, drive, feedback, before):
            f = net.stages[k - 1].activation.f
            feedback = loss.gradient(f(drive), y) / len(x) if k == len(net.stages) else feedback
            if feedback is None:
                return Response((f(drive), f(drive)), strength)
            noise = self.noise * feedback.square().mean().sqrt() * torch.randn(drive.shape, generator=generator)
            nudge = strength / 2 * (feedback + noise)
            return Response((f(drive + nudge), f(drive - nudge)), strength)

        reached = propagate(net, x, neuron, dn.Sweeps(), states=states, generator=generator, keep_states=keep_states)
        return Estimate(loss(reached.output, y).mean(), reached.output, reached.grads, reached.states)


digits = data.load("digits")
x_test, y_test = next(data.batches(digits, digits.test, 360))
for noise in (0.0, 0.1, 1.0, 3.0, 10.0):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    net, rule = dn.Layered.from_sequential(model), NoisyFeedback(noise)
    optimizer, generator = torch.optim.Adam(model.parameters(), 2e-3), torch.Generator().manual_seed(0)
    for _ in range(10):
        for x, y in data.batches(digits, digits.train, 100, generator=generator):
            optimizer.zero_grad()
            rule.backward(net, dn.cross_entropy, x, y, generator=generator)
            optimizer.step()
    print(f"noise {noise:4g}: {100 * (model(x_test).argmax(1) == y_test).double().mean():.1f} % of the test digits")
