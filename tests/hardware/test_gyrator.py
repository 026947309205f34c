"""Networks of gyrators: one equilibrium however strong the coupling, which only damped updates find."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dyadnet import Dyadic, Layered, RecurrentBackprop, squared_error
from dyadnet.hardware.gyrator import GyratorCircuit, gyrators
from dyadnet.network.feedback import Mismatched, RandomFeedback
from dyadnet.relax.relaxation import NotSettledWarning, Relaxation
from dyadnet.relax.solver import Plain
from dyadnet.relax.stopping import Residual

RATIOS = (0.5, 1.5, 3.0, 10.0)
EXACT = Relaxation(stop=Residual(1e-11, 2000), strict=True)
ratios = pytest.mark.parametrize("ratio", RATIOS)


def coupled(ratio: float, seed: int = 0) -> Layered:
    """Two layers of 40 nodes with diodes, the coupling between them `ratio` times the leak, and an idle output."""
    torch.manual_seed(seed)
    net = gyrators([40, 40, 40, 1], relaxation=EXACT)
    first, second, idle = (stage.map for stage in net.stages)
    assert all(isinstance(map_, nn.Linear) for map_ in (first, second, idle))
    with torch.no_grad():
        first.weight.zero_()
        idle.weight.zero_()
        second.weight.copy_(torch.randn(40, 40))
        second.weight *= ratio / torch.linalg.matrix_norm(second.weight, 2)
        for map_ in (first, second):
            map_.bias.normal_()
    return net


@torch.no_grad()
def voltages(net: Layered, x: Tensor, **how: object) -> Tensor:
    return torch.cat([state.mean() for state in net.relax(x, **how).states], 1)


@ratios
def test_currents_balance_or_a_diode_conducts(ratio: float):
    circuit = GyratorCircuit(coupled(ratio), leak=0.3)
    (v,) = voltages(circuit.net, torch.zeros(1, 40)).numpy()
    v1, v2, (_, (up, down), _) = v[:40], v[40:80], circuit.gyrations()
    b = [current.numpy() for current in circuit.currents()]
    currents = [b[0] - down.numpy().T @ v2 - 0.3 * v1, b[1] + up.numpy() @ v1 - 0.3 * v2]
    for current, voltage in zip(currents, (v1, v2), strict=True):
        assert np.abs(current[voltage > 1e-8]).max() < 1e-9 * (1 + ratio)
        assert current[voltage < 1e-8].max() < 1e-9
    assert up.norm(p=2) > 0
    assert float(torch.linalg.matrix_norm(up, 2)) == pytest.approx(0.3 * ratio)


@ratios
def test_there_is_one_equilibrium(ratio: float):
    net, x = coupled(ratio), torch.zeros(3, 40)
    found = voltages(net, x)
    far = [state.of_parts([10 * torch.randn_like(state.mean())]) for state in net.relax(x).states]
    torch.testing.assert_close(voltages(net, x, states=far), found, rtol=1e-8, atol=1e-8)


@ratios
def test_no_change_of_the_currents_moves_it_by_more_than_the_leak_allows(ratio: float):
    circuit = GyratorCircuit(coupled(ratio), leak=0.3)
    x, before, gains = torch.zeros(1, 40), voltages(circuit.net, torch.zeros(1, 40)), []
    for size in (1e-3, 1.0):
        for _ in range(3):
            changes = [size * torch.randn(40) for _ in range(2)]
            for sign in (1.0, -1.0):
                if sign < 0:
                    moved = (voltages(circuit.net, x) - before).norm()
                    gains.append(float(moved / torch.cat(changes).norm()))
                for stage, change in zip(circuit.net.stages, changes, strict=False):
                    stage.map.bias.data += sign * change / 0.3  # currents over the leak
    assert max(gains) <= 1 / 0.3
    assert max(gains) > 0.2 / 0.3


@pytest.mark.parametrize("ratio", [1.5, 3.0, 10.0])
def test_exact_updates_in_turn_diverge_from_it(ratio: float):
    """Negative control: what suits resistors does not suit gyrators."""
    undamped = Relaxation(solver=Plain(), stop=Residual(1e-8, 200))
    with pytest.warns(NotSettledWarning):
        solution = coupled(ratio).relax(torch.zeros(1, 40), relaxation=undamped)
    assert not bool(solution.converged.any())


def test_below_a_coupling_of_1_they_settle_there():
    net, x = coupled(0.5), torch.zeros(1, 40)
    torch.testing.assert_close(voltages(net, x, relaxation=Relaxation(solver=Plain())), voltages(net, x))


# --- mismatch ---


@pytest.mark.parametrize(("relative", "measured"), [(0.01, 0.008), (0.1, 0.044), (0.3, 0.22)])
def test_mismatch_moves_the_states_by_about_half_of_itself(relative: float, measured: float):
    """At a coupling of 3; single draws lie between half and one and a half times the mean."""
    changes = []
    for seed in range(8):
        net, x = coupled(3.0, seed), torch.zeros(1, 40)
        before = voltages(net, x)
        after = voltages(net.with_feedback(Mismatched(relative=relative, seed=seed)), x)
        changes.append(float((after - before).norm() / before.norm()))
    assert measured / 1.6 < sum(changes) / len(changes) < 1.6 * measured


def test_the_way_back_follows_the_weights_with_errors_that_stay():
    net = gyrators([5, 4, 3], mismatch=Mismatched(relative=0.2, seed=3))
    circuit = GyratorCircuit(net, leak=2.0)

    def errors() -> Tensor:
        up, down = circuit.gyrations()[1]
        return down / up - 1

    before = errors()
    with torch.no_grad():
        net.stages[1].map.weight.normal_()
    torch.testing.assert_close(errors(), before)
    assert 0.1 < float(before.std()) < 0.35
    assert torch.equal(circuit.gyrations()[0][0], circuit.gyrations()[0][1])  # inputs are sources: nothing goes back


def test_without_error_it_is_the_transpose():
    net, x = gyrators([5, 4, 3], relaxation=EXACT), torch.randn(3, 5)
    torch.testing.assert_close(voltages(net.with_feedback(Mismatched(relative=0.0)), x), voltages(net, x))


def test_a_common_factor_is_a_loss_or_a_gain_of_the_whole_way_back():
    net, x = gyrators([5, 4, 3], relaxation=EXACT), torch.randn(3, 5)
    lossy = net.with_feedback(Mismatched(scale=0.5, relative=0.0))
    v = voltages(lossy, x)
    up = net.stages[1].map
    expected = net.stages[0].map(x) - 0.5 * v[:, 4:] @ up.weight
    torch.testing.assert_close(v[:, :4], expected.relu().detach())


def test_gyrators_learn_by_dyads():
    net, x, y = gyrators([5, 4, 3], relaxation=EXACT), torch.randn(6, 5), torch.randn(6, 3)
    exact = RecurrentBackprop(EXACT).estimate(net, squared_error, x, y).grads
    found = Dyadic(1e-4).estimate(net, squared_error, x, y).grads
    for p, grad in exact.items():
        torch.testing.assert_close(found[p], grad, rtol=1e-5, atol=1e-7)


# --- what is refused ---


def test_other_networks_are_refused():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))
    with pytest.raises(ValueError, match="lam=0, not one of lam=1"):
        GyratorCircuit(Layered.from_sequential(model, 1.0))
    with pytest.raises(ValueError, match="take no feedback path, or Mismatched"):
        GyratorCircuit(Layered.from_sequential(model, 0.0, feedback=RandomFeedback()))
    with pytest.raises(ValueError, match="leak must be a positive number, not"):
        GyratorCircuit(Layered.from_sequential(model, 0.0), leak=0.0)
    smooth = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2))
    with pytest.raises(TypeError, match="0 Linear has the activation tanh: the layers of a gyrator circuit"):
        GyratorCircuit(Layered.from_sequential(smooth, 0.0))
