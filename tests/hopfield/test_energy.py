"""Energies by explicit sums and finite differences, and that they fall with every update."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from dyadnet import BottomUp, Dense, Layered, OddEven, Parallel, RandomOrder, Sweeps, squared_error
from dyadnet.activation import UnitSigmoid
from dyadnet.energy.base import AbstractEnergy
from dyadnet.energy.hopfield import HopfieldEnergy
from dyadnet.energy.lifted import LiftedEnergy
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.state import Activity
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.schedule import AbstractSchedule
from dyadnet.relax.solver import AbstractSolver, Damped, Plain
from dyadnet.relax.stopping import Count, Residual
from dyadnet.rule.nudge import both
from hopfield import reference
from hopfield.cases import (
    EXACT,
    WITH_ENERGY,
    as_gradients,
    as_reference,
    assert_is_derivative,
    batch,
    dense,
    error,
    finite_difference,
    layered,
    linear,
    mlp,
    pooled,
)

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "hard sigmoid": lambda: nn.Hardtanh(0, 1),
    "relu": nn.ReLU,
    "leaky relu": lambda: nn.LeakyReLU(0.2),
    "sigmoid": nn.Sigmoid,
    "unit sigmoid": UnitSigmoid,
}


def somewhere(net: AbstractNetwork, x: Tensor) -> list[Activity]:
    """States that are no equilibrium, in the range of their activations."""
    shapes = [state.mean().shape for state in net.relax(x, relaxation=Relaxation(stop=Count(1))).states]
    return [Activity(a.f(torch.randn(shape))) for a, shape in zip(net.activations, shapes, strict=True)]


def energies(
    net: AbstractNetwork, x: Tensor, schedule: AbstractSchedule, solver: AbstractSolver, passes: int = 12
) -> Tensor:
    """The energy of every sample after 0, 1, ... passes, `(passes + 1, batch)`."""
    energy, states = HopfieldEnergy(net), somewhere(net, x)
    found = [energy.value(x, states)]
    for _ in range(passes):
        states = net.relax(x, states=states, relaxation=Relaxation(schedule, solver, Count(1))).states
        found.append(energy.value(x, states))
    return torch.stack(found)


def never_rises(values: Tensor) -> bool:
    """Up to rounding, which grows with the terms of the sum."""
    return bool((values[1:] - values[:-1] <= 1e-12 * (1 + values.abs().max())).all())


# --- values and gradients ---


@pytest.mark.parametrize("name", WITH_ENERGY)
def test_the_hopfield_energy_is_a_sum_over_units_and_pairs(name: str):
    net, (x, _) = WITH_ENERGY[name](), batch()
    states = somewhere(net, x)
    rows = torch.cat([state.mean() for state in states], 1).numpy()
    expected = [reference.hopfield_energy(as_reference(net), a, s) for a, s in zip(x.numpy(), rows, strict=True)]
    assert_close(HopfieldEnergy(net).value(x, states), torch.tensor(expected))


def test_the_quadratic_energy_is_the_sum_of_squared_distances_to_predictions():
    net, (x, _) = layered(0.5), batch()
    states = somewhere(net, x)
    below, expected = x, torch.zeros(3)
    for stage, state in zip(net.stages, states, strict=True):
        expected += (state.mean() - stage.activation.f(stage.map(below))).square().sum(1).detach() / 2
        below = state.mean()
    assert_close(LiftedEnergy(net).value(x, states), expected)


def with_an_energy() -> dict[str, Callable[[], tuple[AbstractNetwork, Tensor, AbstractEnergy]]]:
    found = {
        name: lambda make=make: (net := make(), batch()[0], HopfieldEnergy(net)) for name, make in WITH_ENERGY.items()
    }
    found["quadratic"] = lambda: (net := layered(0.5), batch()[0], LiftedEnergy(net))
    found["pooled"] = lambda: (*(case := pooled(0.75)), HopfieldEnergy(case[0]))
    found["unit sigmoid"] = lambda: (net := layered(1.0, UnitSigmoid), batch()[0], HopfieldEnergy(net))
    return found


energetic = pytest.mark.parametrize("make", with_an_energy().values(), ids=with_an_energy())


@energetic
def test_gradients_are_the_derivative_of_the_value(make):
    net, x, energy = make()
    states = somewhere(net, x)
    found = energy.gradients(energy.wire(x, states), [1.0])
    assert set(found) == set(net.parameters())
    assert_is_derivative(lambda: energy.value(x, states).sum(), found, tolerance=1e-8)


@energetic
def test_gradients_of_copies_are_their_weighted_sum(make):
    net, x, energy = make()
    copies = [somewhere(net, x) for _ in range(2)]
    stacked = [Activity(torch.cat([a.mean(), b.mean()])) for a, b in zip(*copies, strict=True)]
    apart = [energy.gradients(energy.wire(x, states), [1.0]) for states in copies]
    together = energy.gradients(energy.wire(x, stacked, 2), [2.0, -0.5])
    assert error(together, {p: 2 * apart[0][p] - 0.5 * apart[1][p] for p in together}) < 1e-12


@pytest.mark.parametrize("name", WITH_ENERGY)
def test_complex_states_have_complex_gradients_of_which_the_real_part_counts(name: str):
    net, (x, _) = WITH_ENERGY[name](), batch(1)
    slow, real, imaginary = as_reference(net), somewhere(net, x), somewhere(net, x)
    states = [Activity(torch.complex(a.mean(), b.mean())) for a, b in zip(real, imaginary, strict=True)]
    s, weight = torch.cat([state.s[0] for state in states]).numpy(), 0.3 - 0.8j
    found = reference.energy_gradient(slow, x[0].numpy(), s)
    expected = reference.Gradient(*(np.real(weight * part) for part in found))
    energy = HopfieldEnergy(net)
    assert error(energy.gradients(energy.wire(x, states), [weight]), as_gradients(net, expected)) < 1e-12


def slopes(value: Callable[[], Tensor], states: Sequence[Activity]) -> list[float]:
    """Derivatives along random directions in every layer; the step is small against `1 - s^2`."""
    return [finite_difference(value, state.s, torch.randn_like(state.s), 1e-6) for state in states for _ in range(3)]


@energetic
def test_a_free_minimum_is_flat(make):
    net, x, energy = make()
    how = replace(energy.settling(), stop=Residual(1e-13, 3000))
    free = energy.minimise(energy.wire(x), relaxation=how)
    states = [Activity(state.mean().clone()) for state in free.states]
    assert max(map(abs, slopes(lambda: energy.value(x, states).sum(), states))) < 1e-6
    assert max(map(abs, slopes(lambda: energy.value(x, elsewhere).sum(), elsewhere := somewhere(net, x)))) > 0.1


@energetic
def test_a_nudged_minimum_is_flat_together_with_the_loss(make):
    net, x, energy = make()
    y = torch.randn(len(x), 3)
    wiring = energy.wire(x)
    output = both(net, squared_error, y, torch.tensor([0.4]), wiring.depth)
    nudged = energy.minimise(wiring, output, replace(energy.settling(), stop=Residual(1e-13, 3000)))
    states = [Activity(state.mean().clone()) for state in nudged.states]

    def total() -> Tensor:
        return energy.value(x, states).sum() + 0.4 * squared_error(states[-1].s, y).sum()

    assert max(map(abs, slopes(total, states))) < 1e-6


def test_the_least_quadratic_energy_is_zero_at_the_forward_pass():
    net, (x, _) = layered(0.5), batch()
    energy = LiftedEnergy(net)
    free = energy.minimise(energy.wire(x), relaxation=Relaxation(stop=Residual(1e-13)))
    assert float(energy.value(x, free.states).abs().max()) < 1e-24
    assert_close(free.states[-1].mean(), net(x).detach())


# --- the energy falls ---

schedules = st.sampled_from([OddEven(), Sweeps(), BottomUp(), RandomOrder()])
solvers = st.sampled_from([Plain(), Damped(0.5), Damped(0.9)])


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    lam=st.floats(0.55, 1.0),
    gain=st.floats(0.1, 4.0),
    widths=st.lists(st.integers(1, 6), min_size=3, max_size=5),
    activation=st.sampled_from(list(ACTIVATIONS)),
    schedule=schedules,
    solver=solvers,
)
def test_no_update_one_layer_at_a_time_raises_the_energy(seed, lam, gain, widths, activation, schedule, solver):
    torch.manual_seed(seed)
    net = Layered.from_sequential(mlp(ACTIVATIONS[activation], widths=widths, gain=gain), lam)
    values = energies(net, torch.randn(3, widths[0]), schedule, solver)
    assert never_rises(values)
    assert bool((values[-1] < values[0]).all())


def conv(pool: nn.Module, activation: Callable[[], nn.Module]) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        activation(),
        nn.Conv2d(3, 4, 3, padding=1),
        pool,
        activation(),
        nn.Flatten(),
        nn.Linear(16, 3),
    )


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), lam=st.floats(0.55, 1.0), gain=st.floats(0.5, 8.0), schedule=schedules)
@pytest.mark.parametrize(
    ("pool", "activation"),
    [(nn.AvgPool2d(2), "tanh"), (nn.MaxPool2d(2), "hard sigmoid"), (nn.MaxPool2d(2), "relu")],
    ids=["averages, tanh", "maxima, hard sigmoid", "maxima, relu"],
)
def test_nor_with_convolutions_and_pooling_below_units_that_are_not_negative(
    pool, activation, seed, lam, gain, schedule
):
    torch.manual_seed(seed)
    model = conv(pool, ACTIVATIONS[activation])
    with torch.no_grad():
        model[2].weight *= gain
    assert never_rises(energies(Layered.from_sequential(model, lam), torch.randn(2, 1, 4, 4), schedule, Plain(), 6))


def inhibited() -> Layered:
    """A unit and an output that inhibit each other, both driven up."""
    net = Layered.from_sequential(mlp(widths=(1, 1, 1)), 1.0)
    for stage, weight in zip(net.stages, (0.0, -5.0), strict=True):
        nn.init.constant_(linear(stage.map).weight, weight)
        nn.init.constant_(linear(stage.map).bias, 1.0)
    return net


def test_updating_all_layers_at_once_may_raise_it():
    """From silence both rise, and their inhibition costs more than their drive gains."""
    net, x = inhibited(), torch.zeros(1, 1)
    energy, silent = HopfieldEnergy(net), [Activity(torch.zeros(1, 1))] * 2
    after = {
        schedule: float(
            energy.value(x, net.relax(x, states=silent, relaxation=Relaxation(schedule, Plain(), Count(1))).states)
        )
        for schedule in (Parallel(), OddEven())
    }
    assert float(energy.value(x, silent)) == 0
    assert after[Parallel()] > 1
    assert after[OddEven()] < 0


def test_so_may_units_that_hear_one_another_within_a_dense_layer():
    net, x = Dense(1, 4, 1, "symmetric", activation=nn.Tanh()), torch.zeros(1, 1)
    with torch.no_grad():
        net.theta.zero_()[:3, :3] = -3.0
        net.bias.fill_(1.0)
    silent = [Activity(torch.zeros(1, 3)), Activity(torch.zeros(1, 1))]
    step = net.relax(x, states=silent, relaxation=Relaxation(OddEven(), Plain(), Count(1)))
    before, after = (float(HopfieldEnergy(net).value(x, states)) for states in (silent, step.states))
    assert after > before + 1


def test_so_may_maxima_over_units_whose_feedback_is_negative():
    """A window gives its largest unit away as soon as that one is inhibited."""
    model = nn.Sequential(
        nn.Unflatten(1, (1, 1, 2)), nn.Conv2d(1, 1, 1), nn.Tanh(), nn.MaxPool2d((1, 2)), nn.Flatten(), nn.Linear(1, 1)
    )
    net, x = Layered.from_sequential(model, 1.0), torch.tensor([[0.0, 0.1]])
    for parameter, value in zip(net.parameters(), (1.0, 0.0, -5.0, 1.0), strict=True):
        nn.init.constant_(parameter, value)
    start = [Activity(torch.tensor([[[[0.5, 0.6]]]])), Activity(torch.tensor([[1.0]]))]
    values = [float(HopfieldEnergy(net).value(x, start))]
    for _ in range(6):
        start = net.relax(x, states=start, relaxation=Relaxation(BottomUp(), Plain(), Count(1))).states
        values.append(float(HopfieldEnergy(net).value(x, start)))
    assert max(later - earlier for earlier, later in pairwise(values)) > 0.1


def test_a_relaxation_ends_where_no_start_nearby_has_less_energy():
    net, (x, _) = dense("symmetric", scale=0.7), batch()
    energy, states = HopfieldEnergy(net), net.relax(x, relaxation=net.relaxation).states
    least = energy.value(x, states)
    for _ in range(20):
        near = [
            Activity(a.f(a.inverse(s.mean()) + 0.1 * torch.randn_like(s.mean())))  # pyright: ignore
            for a, s in zip(net.activations, states, strict=True)
        ]
        assert bool((energy.value(x, near) > least).all())


def test_the_trace_of_energies_falls_to_that_of_the_equilibrium():
    net, (x, _) = layered(1.0), batch()
    values = energies(net, x, OddEven(), Plain(), passes=60)
    settled = HopfieldEnergy(net).value(x, net.relax(x, relaxation=EXACT).states)
    assert_close(values[-1], settled, rtol=1e-9, atol=1e-9)
    assert all(float((later - earlier).max()) <= 1e-12 for earlier, later in pairwise(values))
