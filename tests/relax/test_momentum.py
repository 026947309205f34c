"""Momentum over passes, on quadratics whose passes are known."""

import pytest
import torch
from torch import Tensor

from dyadnet.network.state import AbstractState, Activity
from dyadnet.relax.momentum import Momentum


def descend(eigenvalues: Tensor, passes: int, *, accelerated: bool) -> Tensor:
    """Distances to the minimum of `1/2 sum h s^2` after steps down its slope, a sample a row of eigenvalues."""
    states: dict[int, AbstractState] = {1: Activity(torch.ones_like(eigenvalues))}
    momentum = Momentum()
    for _ in range(passes):
        before = dict(states)
        states[1] = Activity(before[1].mean() * (1 - eigenvalues))
        reached = states[1].mean()
        if accelerated:
            momentum.mix(before, states)
    return reached.norm(dim=1)


def test_the_first_two_steps_ahead_are_those_of_nesterov():
    momentum = Momentum()
    at = [torch.tensor([[v]]) for v in (0.0, 1.0, 3.0, 4.0)]
    assert momentum.combine(at[0], at[1]) == 1.0
    t = (1 + 5**0.5) / 2
    ahead = (1 + (1 + 4 * t * t) ** 0.5) / 2
    assert float(momentum.combine(at[1], at[2])) == pytest.approx(3 + (t - 1) / ahead * 2)


def test_a_sample_that_is_carried_uphill_begins_anew_and_the_others_do_not():
    momentum = Momentum()
    momentum.combine(torch.tensor([[0.0], [0.0]]), torch.tensor([[1.0], [1.0]]))
    carried = momentum.combine(torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0], [2.0]]))  # 3 -> 2: back down
    assert float(carried[0]) > 2
    assert float(carried[1]) == 2
    assert momentum.t is not None
    assert float(momentum.t[0]) > 1 == float(momentum.t[1])


def test_ill_conditioned_quadratics_take_the_root_of_the_passes():
    eigenvalues = torch.logspace(-4, 0, 30).expand(2, 30)
    assert bool((descend(eigenvalues, 1500, accelerated=True) < 1e-3).all())
    assert bool((descend(eigenvalues, 1500, accelerated=False) > 0.5).all())


def test_samples_do_not_hear_one_another():
    easy, hard = torch.full((1, 5), 0.9), torch.logspace(-3, 0, 5)[None]
    together = descend(torch.cat([easy, hard]), 40, accelerated=True)
    alone = torch.cat([descend(part, 40, accelerated=True) for part in (easy, hard)])
    assert torch.equal(together, alone)
