"""Acceleration by momentum, against the same in NumPy and against passes without it."""

from dataclasses import replace

import lifted
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from dyadnet import OddEven, Parallel, Sweeps
from dyadnet.energy.lifted import LiftedEnergy
from dyadnet.energy.potential import Proximal
from dyadnet.network.state import AbstractState, Activity
from dyadnet.relax.momentum import Momentum
from dyadnet.relax.relaxation import Relaxation, settle
from dyadnet.relax.solver import Accelerated, Damped, OverRelaxed, Plain
from dyadnet.relax.stopping import Count, Residual


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


def quadratic() -> tuple[np.ndarray, np.ndarray]:
    """An ill-conditioned Hessian and a linear term."""
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.normal(size=(8, 8)))
    return basis @ np.diag(np.geomspace(0.01, 1.0, 8)) @ basis.T, rng.normal(size=8)


def passes(mixer: Momentum, count: int) -> Tensor:
    """Gradient steps of length 1 on `1/2 s^T H s - b s` of two samples, one of them with twice the linear term."""
    H, b = map(torch.as_tensor, quadratic())
    b = torch.stack([b, 2 * b])
    states, before = {1: Activity(torch.zeros(2, 8))}, {}
    for _ in range(count):
        if before:
            mixer.mix(before, states)
        before = dict(states)
        s = states[1].s
        states = {1: Activity(s - (s @ H - b))}
    return states[1].s


def by_hand(scale: float, count: int, constant: float | None) -> np.ndarray:
    H, b = quadratic()
    y = s = np.zeros(8)
    u = 1.0
    for turn in range(count):
        last, s = s, y - (H @ y - scale * b)
        if turn == count - 1:
            break
        if constant is None:
            next_u = (1 + np.sqrt(1 + 4 * u * u)) / 2
            momentum, u = (0.0, 1.0) if (y - s) @ (s - last) > 0 else ((u - 1) / next_u, next_u)
        else:
            momentum = constant
        y = s + momentum * (s - last)
    return s


@pytest.mark.parametrize("constant", [None, 0.0, 0.9])
@pytest.mark.parametrize("count", [1, 2, 3, 40, 200])
def test_each_sample_moves_as_if_it_were_alone(constant, count):
    found = passes(Momentum(constant), count)
    expected = np.stack([by_hand(scale, count, constant) for scale in (1.0, 2.0)])
    assert_close(found, torch.as_tensor(expected), rtol=1e-10, atol=1e-12)


def test_growing_momentum_begins_anew_where_it_has_gone_too_far():
    """It then settles linearly, which momentum that grows for ever does not."""
    H, b = quadratic()
    far = [np.abs(by_hand(1.0, count, None) - np.linalg.solve(H, b)).max() for count in (100, 200, 300)]
    assert far[1] < 1e-2 * far[0]
    assert far[2] < 1e-2 * far[1]


def relaxed(order, solver) -> int:
    chain = lifted.mlp(nn.ReLU, widths=(10, 30, 30, 4), batch=8)
    energy, y = LiftedEnergy(chain.net, Proximal), torch.randn(8, 4)
    wiring = energy.wire(chain.x)
    how = Relaxation(order, solver, Residual(1e-10, 2000))
    return settle(wiring, energy.neuron(wiring, lambda drive, before: y), how).iterations


@pytest.mark.parametrize(
    ("order", "plain"), [(OddEven(), Plain()), (Parallel(), Damped(0.9))], ids=["odd-even", "parallel"]
)
def test_it_saves_at_least_half_of_the_passes(order, plain):
    factor = plain.factor if isinstance(plain, Damped) else 1.0
    torch.manual_seed(1)
    slow = relaxed(order, plain)
    torch.manual_seed(1)
    assert relaxed(order, Accelerated(None, factor)) < slow / 2


def test_lifted_energies_take_it_by_default_and_save_a_third_of_the_passes():
    torch.manual_seed(1)
    chain = lifted.mlp(nn.Tanh, widths=(10, 30, 30, 4), batch=8)
    energy, y, stop = LiftedEnergy(chain.net), torch.randn(8, 4), Residual(1e-8, 2000)
    own = replace(energy.settling(), stop=stop)

    def passes(how: Relaxation) -> int:
        return energy.minimise(energy.wire(chain.x), lambda drive, before: y, how).iterations

    assert isinstance(own.solver, Accelerated)
    assert passes(own) < 2 / 3 * passes(replace(own, solver=OverRelaxed()))


def test_the_last_pass_is_not_extrapolated():
    """What is returned has been projected, and its residual is of the states that were visited."""
    chain = lifted.mlp(nn.ReLU)
    energy = LiftedEnergy(chain.net, Proximal)
    first = energy.wire(chain.x)
    how = Relaxation(Sweeps(), Accelerated(0.9), Count(1))
    settle(first, energy.neuron(first, None), how)
    plain = energy.wire(chain.x)
    settle(plain, energy.neuron(plain, None), Relaxation(Sweeps(), Plain(), Count(1)))
    for k in (1, 2, 3):
        assert torch.equal(first.state(k).s, plain.state(k).s)


@pytest.mark.parametrize("settings", [{"momentum": 1.0}, {"momentum": -0.1}, {"factor": 0.0}, {"factor": 2.0}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match="must lie in"):
        Accelerated(**settings)
