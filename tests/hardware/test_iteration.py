"""The loop of an optical machine in time."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from dyadnet import Dense
from dyadnet.hardware.iteration import Iteration, iterate
from dyadnet.hardware.modulator import Modulator
from dyadnet.hardware.optical import OpticalMachine
from dyadnet.network.dense import Structure
from dyadnet.relax.relaxation import NotSettledWarning
from dyadnet.relax.stopping import Count, Residual


def machine(structure: Structure = "symmetric", scale: float = 0.8, units: int = 8) -> OpticalMachine:
    torch.manual_seed(0)
    net = Dense(5, units, 3, structure, activation=nn.Tanh(), readout=nn.Tanh(), scale=scale).double()
    return OpticalMachine(net, Modulator(bits=None))


def inputs() -> torch.Tensor:
    return torch.randn(4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("gamma", [0.0, 0.3])
def test_the_states_after_some_turns_are_those_of_the_equation(gamma: float):
    optical, x = machine(), inputs()
    turn = Iteration(alpha=0.7, beta=0.4, inputs=0.2, gamma=gamma, end=0.1)
    solution = iterate(optical, x, turn, Count(6))
    W = optical.net.connectivity().detach().numpy()
    drive = (x @ optical.net.theta_0.T + optical.net.bias).detach().numpy()
    z = before = np.zeros((4, 8))
    for t in range(6):
        alpha = 0.7 + (0.1 - 0.7) * t / 5
        z, before = alpha * z + 0.4 * np.tanh(z) @ W.T + 0.2 * drive + gamma * (z - before), z
    assert_close(torch.cat([state.mean() for state in solution.states], 1).numpy(), np.tanh(z))
    assert solution.iterations == 6


@pytest.mark.parametrize("structure", ["symmetric", "skew", "free"])
@pytest.mark.parametrize("gamma", [0.0, 0.2])
def test_the_damped_loop_rests_at_the_equilibrium_of_the_network(structure: Structure, gamma: float):
    optical, x = machine(structure), inputs()
    solution = iterate(optical, x, Iteration.damped(0.4, gamma), Residual(1e-12, most=2000))
    assert bool(solution.converged.all())
    assert_close(solution.states[-1].mean(), optical.net(x), rtol=0, atol=1e-9)


def test_momentum_saves_turns_in_a_symmetric_network_and_costs_the_skew_one_its_rest():
    """A heavy ball rolls down an energy; where there is none it is thrown off its orbit."""
    x = 0.1 * inputs()
    slow, quick = (
        iterate(machine("symmetric", 0.95), x, Iteration.damped(0.2, gamma), Residual(1e-9, most=1000)).iterations
        for gamma in (0.0, 0.5)
    )
    assert quick < slow / 2
    assert iterate(machine("skew", 0.95), x, Iteration.damped(0.5), Residual(1e-9)).converged.all()
    with pytest.warns(NotSettledWarning):
        iterate(machine("skew", 0.95), x, Iteration.damped(0.5, 0.5), Residual(1e-9))


def test_it_goes_on_from_where_it_is_told_to_start():
    optical, x = machine(), inputs()
    rest = iterate(optical, x, stop=Residual(1e-12, most=2000))
    z = torch.cat([state.mean() for state in rest.states], 1).atanh()
    assert iterate(optical, x, stop=Residual(1e-9), start=z).iterations == 1


def test_an_annealed_machine_finds_the_largest_cut_of_a_small_graph():
    """Every start of 40 does; a largest cut is the ground state of spins that repel one another."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(10, 10, generator=generator, dtype=torch.float64).tril(-1)
    optical = machine(units=10)
    with torch.no_grad():
        optical.net.theta.copy_(-weights)
        optical.net.theta_0.zero_()
    start = 0.01 * torch.randn(40, 10, generator=generator, dtype=torch.float64)
    turn = Iteration(alpha=0.95, beta=0.5, end=0.5)
    solution = iterate(optical, torch.zeros(40, 5).double(), turn, Count(300), start)
    spins = torch.cat([state.mean() for state in solution.states], 1).sign().numpy()

    def cut(s: np.ndarray) -> float:
        return float((weights.numpy() * (1 - np.outer(s, s)) / 2).sum())

    best = max(cut(np.array((1, *rest))) for rest in product((-1, 1), repeat=9))
    assert min(map(cut, spins)) == pytest.approx(best)


def test_a_loop_that_has_not_settled_says_so():
    with pytest.warns(NotSettledWarning, match="have not settled after 2 passes"):
        iterate(machine(), inputs(), stop=Residual(most=2))


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"alpha": 1.0}, r"alpha must lie in \[0, 1\)"),
        ({"gamma": -0.1}, r"gamma must lie in \[0, 1\)"),
        ({"end": 1.5}, r"end must lie in \[0, 1\)"),
        ({"beta": 0.0}, "beta must be a positive number, not 0.0"),
    ],
)
def test_loops_that_cannot_settle_are_refused(settings: dict[str, float], complaint: str):
    with pytest.raises(ValueError, match=complaint):
        Iteration(**settings)


def test_annealing_needs_to_know_when_it_ends():
    with pytest.raises(ValueError, match=r"take stop=Count\(n\)"):
        iterate(machine(), inputs(), Iteration(end=0.1))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9])
def test_noise_of_every_turn_makes_a_unit_without_weights_stray_as_far_as_it_should(alpha: float):
    quiet = machine()
    with torch.no_grad():
        for parameter in quiet.parameters():
            parameter.zero_()
    turn, noise = Iteration(alpha=alpha), 0.01
    states = iterate(quiet, torch.zeros(4000, *inputs().shape[1:]).to(inputs()), turn, Count(120), noise=noise).states
    found = torch.cat([state.mean() for state in states], 1)
    assert found.std().item() == pytest.approx(noise / (1 - alpha**2) ** 0.5, rel=0.03)
    assert abs(found.mean().item()) < 0.002


def test_noise_follows_its_generator_and_never_settles():
    def turned(seed: int):
        draw = torch.Generator().manual_seed(seed)
        return iterate(machine(), inputs(), stop=Count(5), noise=0.1, generator=draw).states[-1].mean()

    assert torch.equal(turned(1), turned(1))
    assert not torch.equal(turned(1), turned(2))
    with pytest.raises(ValueError, match="a noisy machine makes a number of turns"):
        iterate(machine(), inputs(), noise=0.1)
    with pytest.raises(ValueError, match="noise must be zero or a positive number, not -1"):
        iterate(machine(), inputs(), stop=Count(5), noise=-1)
