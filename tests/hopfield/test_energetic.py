"""Neurons with energies of their own: against the networks that they contain, and against finite differences."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from dyadnet import (
    Backprop,
    ContrastiveHebbian,
    Dense,
    DualPropagation,
    Dyadic,
    EquilibriumPropagation,
    RecurrentBackprop,
    cross_entropy,
    squared_error,
)
from dyadnet.network.energetic import AbstractNeuronEnergy, Energetic
from dyadnet.network.state import Pair
from dyadnet.relax.relaxation import NotSettledWarning, Relaxation
from dyadnet.relax.schedule import Parallel
from dyadnet.relax.solver import Anderson, Damped, Plain
from dyadnet.relax.stopping import Residual
from hopfield.cases import LOSSES, assert_is_derivative, batch, dense, error, grads, order

UNITS, OUTPUTS = 9, 3
SETTLED = Relaxation(Parallel(), Damped(0.5), Residual(1e-13, 3000), strict=True)


class Hopfield(AbstractNeuronEnergy):
    """Eq. 4.4: `G(s) - s (W mean + theta_0 x + b)` with tanh units and linear outputs, the parameters of a `Dense`."""

    def __init__(self, net: Dense):
        super().__init__()
        self.theta, self.theta_0, self.bias = net.theta, net.theta_0, net.bias
        self.mask = net.mask

    def drive(self, mean: Tensor, x: Tensor) -> Tensor:
        return mean @ (self.theta * self.mask).T + x @ self.theta_0.T + self.bias

    def energies(self, s: Tensor, mean: Tensor, x: Tensor) -> Tensor:
        hidden = s[:, :-OUTPUTS]
        potential = (torch.xlogy(1 + hidden, 1 + hidden) + torch.xlogy(1 - hidden, 1 - hidden)) / 2
        return torch.cat([potential, s[:, -OUTPUTS:].square() / 2], 1) - s * self.drive(mean, x)

    def minimiser(self, mean: Tensor, x: Tensor, tilt: Tensor) -> Tensor:
        a = self.drive(mean, x) + tilt
        return torch.cat([a[:, :-OUTPUTS].tanh(), a[:, -OUTPUTS:]], 1)


class Lifted(AbstractNeuronEnergy):
    """`k/2 (s - tanh(W mean + V x))^2 + q/2 s^2`: not bilinear, and curved differently from unit to unit."""

    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(0.5 * torch.randn(UNITS, UNITS) / UNITS**0.5)
        self.inputs = nn.Parameter(torch.randn(UNITS, 5) / 5**0.5)
        self.stiffness = nn.Parameter(torch.rand(UNITS) + 0.5)
        self.decay = nn.Parameter(torch.rand(UNITS))

    def predicted(self, mean: Tensor, x: Tensor) -> Tensor:
        off_diagonal = self.weights - self.weights.diagonal().diag()
        return torch.tanh(mean @ off_diagonal.T + x @ self.inputs.T)

    def energies(self, s: Tensor, mean: Tensor, x: Tensor) -> Tensor:
        return self.stiffness * (s - self.predicted(mean, x)).square() / 2 + self.decay * s.square() / 2

    def minimiser(self, mean: Tensor, x: Tensor, tilt: Tensor) -> Tensor:
        return (self.stiffness * self.predicted(mean, x) + tilt) / (self.stiffness + self.decay)


def lifted() -> Energetic:
    return Energetic(Lifted(), UNITS, OUTPUTS, SETTLED)


def test_the_minimisers_of_these_tests_minimise():
    net, (x, _) = lifted(), batch()
    mean, tilt = torch.randn(3, UNITS), torch.randn(3, UNITS)
    s = net.energy.minimiser(mean, x, tilt).detach().requires_grad_()
    (slope,) = torch.autograd.grad((net.energy.energies(s, mean, x) - tilt * s).sum(), s)
    assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-13)


# --- the network that it contains ---


@pytest.mark.parametrize("loss", LOSSES)
def test_the_hopfield_energy_gives_the_states_and_gradients_of_the_hopfield_network(loss: str):
    net, (x, y) = dense("free"), batch(loss=loss)
    net.relaxation = SETTLED
    own = Energetic(Hopfield(net), len(net.bias), OUTPUTS, SETTLED)
    assert_close(own(x), net(x).detach(), rtol=0, atol=1e-12)
    ours, theirs = (Dyadic(0.4).estimate(n, LOSSES[loss], x, y) for n in (own, net))
    assert ours.states is not None
    assert theirs.states is not None
    for mine, other in zip(ours.states, theirs.states, strict=True):
        assert isinstance(mine, Pair)
        assert isinstance(other, Pair)
        assert_close(mine.parts(), other.parts(), rtol=0, atol=1e-11)
    assert error({p: ours.grads[p] for p in net.parameters()}, theirs.grads) < 1e-9


# --- energies that are not bilinear ---


@pytest.mark.parametrize("loss", LOSSES)
def test_every_parameter_learns_the_derivative_of_the_relaxed_loss(loss: str):
    net, (x, y) = lifted(), batch(loss=loss)
    found = grads(Dyadic(1e-3), net, LOSSES[loss], x, y)
    assert set(found) == set(net.parameters())
    assert_is_derivative(lambda: LOSSES[loss](net(x), y).mean(), found, tolerance=1e-6)


def test_the_error_falls_as_the_square_of_beta():
    net, (x, y) = lifted(), batch()
    exact = grads(Dyadic(1e-4), net, squared_error, x, y)
    rate = order(lambda beta: error(grads(Dyadic(beta), net, squared_error, x, y), exact), 0.05)
    assert rate == pytest.approx(2, abs=0.05)


def test_forgetting_that_others_see_the_difference_is_noticed():
    """Negative control: an energy that hides its dependence on the means from the errors."""
    net, (x, y) = lifted(), batch()
    exact = grads(Dyadic(1e-3), net, squared_error, x, y)
    visible = net.energy.energies
    net.energy.energies = lambda s, mean, x: visible(s, mean.detach() + 0 * mean, x)
    assert error(grads(Dyadic(1e-3), net, squared_error, x, y), exact) > 0.1


def test_it_trains():
    net, (x, y) = lifted(), batch(20)
    net.relaxation = replace(SETTLED, stop=Residual(1e-5, 500))
    optimizer = torch.optim.Adam(net.parameters(), 0.05)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        losses.append(float(Dyadic(0.2).backward(net, squared_error, x, y).loss))
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]


# --- how it settles, and what is refused ---


@pytest.mark.parametrize("solver", [Plain(), Damped(0.7), Anderson()])
def test_any_solver_reaches_the_same_states(solver):
    net, (x, _) = lifted(), batch()
    other = net.relax(x, relaxation=replace(SETTLED, solver=solver))
    assert_close(other.states[-1].mean(), net(x), rtol=0, atol=1e-12)


def test_states_that_have_not_settled_are_told():
    net, (x, y) = lifted(), batch()
    net.relaxation = Relaxation(Parallel(), Damped(0.5), Residual(1e-13, 3))
    with pytest.warns(NotSettledWarning, match="samples have not settled"):
        Dyadic(0.4).estimate(net, squared_error, x, y)


@pytest.mark.parametrize(
    "rule", [RecurrentBackprop(), EquilibriumPropagation(), ContrastiveHebbian(), Backprop(), DualPropagation()]
)
def test_other_rules_say_that_they_do_not_apply(rule):
    net, (x, y) = lifted(), batch()
    with pytest.raises((TypeError, ValueError), match="use Dyadic"):
        rule.estimate(net, squared_error, x, y)


def test_there_must_be_hidden_units():
    with pytest.raises(ValueError, match="3 units cannot have 3 outputs"):
        Energetic(Lifted(), 3, 3)


def test_classes_may_be_targets():
    net, (x, y) = lifted(), batch(loss="cross-entropy")
    assert Dyadic(0.4).estimate(net, cross_entropy, x, y).loss > 0


def test_neurons_need_not_hear_one_another():
    """Each hears its inputs alone: the gradient is that of one layer."""
    (x, y), net = batch(), lifted()
    net.energy.predicted = lambda mean, x: torch.tanh(x @ net.energy.inputs.T)
    found = grads(Dyadic(1e-3), net, squared_error, x, y)
    assert_is_derivative(lambda: squared_error(net(x), y).mean(), found, tolerance=1e-6)
