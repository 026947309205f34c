"""Resistive networks: Kirchhoff's laws, the power that falls, and what may be nudged."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from dyadnet import Backprop, BottomUp, ContrastiveHebbian, CoupledLearning, Dyadic, OddEven, RandomOrder, squared_error
from dyadnet.audit.robustness import robustness
from dyadnet.hardware.circuit import Circuit
from dyadnet.hardware.passivity import passive_bound
from dyadnet.hardware.resistive import ResistiveNetwork
from dyadnet.loss import cross_entropy
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.schedule import AbstractSchedule
from dyadnet.relax.solver import Plain
from dyadnet.relax.stopping import Count
from dyadnet.rule.dual_propagation import DualPropagation
from tests.hardware.circuits import CIRCUITS, batch, excess, loss, measured, network, voltages

circuits = pytest.mark.parametrize("circuit", CIRCUITS.values(), ids=CIRCUITS)

# --- equilibria ---


@circuits
def test_currents_balance_at_every_node_or_its_diode_conducts(circuit: Circuit):
    net, (x, _) = network(circuit), batch()
    v, threshold = voltages(net, x), circuit.threshold
    conducting = 0
    for k, (layer, current) in enumerate(zip(v, excess(net, x, v), strict=True), 1):
        half = net.excitatory(k) if k < net.depth else layer.shape[1]
        for (_, j), voltage in np.ndenumerate(layer.detach().numpy()):
            of_node = current[_, j]
            if k < net.depth and voltage == (-threshold if j < half else threshold):
                assert of_node < 0 if j < half else of_node > 0
                conducting += 1
            else:
                assert abs(of_node) < 1e-11
                assert k == net.depth or (voltage > -threshold if j < half else voltage < threshold)
    assert 0 < conducting < len(x) * sum(layer.shape[1] for layer in v[:-1])


@circuits
def test_without_diodes_the_updates_solve_the_linear_circuit(circuit: Circuit):
    """A threshold that nothing reaches takes the diodes out; all nodes at once are then one system of equations."""
    free = Circuit(circuit.input_gain, circuit.gain, circuit.current_gain, threshold=1e9)
    net, (x, _) = network(free), batch()
    widths = [len(b) for b in net.currents]
    ends = np.cumsum([0, *widths])
    matrix, source = np.zeros((ends[-1], ends[-1])), np.zeros((len(x), ends[-1]))
    for node in range(ends[-1]):  # currents are affine in the voltages: their slopes by differences, at one sample
        v = [torch.zeros(1, width) for width in widths]
        rest = np.concatenate([part[0] for part in excess(net, x[:1], v)])
        layer = int(np.searchsorted(ends, node, side="right")) - 1
        v[layer][0, node - ends[layer]] = 1.0
        matrix[:, node] = np.concatenate([part[0] for part in excess(net, x[:1], v)]) - rest
    for n in range(len(x)):
        at_rest = [torch.zeros(1, width) for width in widths]
        source[n] = np.concatenate([part[0] for part in excess(net, x[n : n + 1], at_rest)])
    expected = np.linalg.solve(matrix, -source.T).T
    assert_close(torch.cat(voltages(net, x), 1), torch.tensor(expected), rtol=1e-10, atol=1e-12)


@circuits
@pytest.mark.parametrize("schedule", [OddEven(), BottomUp(), RandomOrder()], ids=lambda s: type(s).__name__)
def test_no_update_raises_the_power(circuit: Circuit, schedule: AbstractSchedule):
    net, (x, _) = network(circuit), batch()
    start = [3 * torch.randn(len(x), len(b)) for b in net.currents]
    v = [net.respond(k, layer) for k, layer in enumerate(start, 1)]
    power, wiring = net.own_energy(), net.wire(x)
    states = wiring.again([net.wire(x).state(1).of_parts([layer]) for layer in v]).states
    seen = [power.value(x, [states[k] for k in range(1, net.depth + 1)])]
    net.relax(
        x,
        states=[states[k] for k in range(1, net.depth + 1)],
        relaxation=Relaxation(schedule, Plain(), Count(12)),
        observe=lambda states, _: seen.append(power.value(x, states)),
    )
    steps = torch.stack(seen).diff(dim=0)
    assert bool((steps <= 1e-12 * torch.stack(seen).abs().max()).all())
    assert float(steps[0].max()) < -1e-3


@circuits
def test_the_equilibrium_does_not_depend_on_where_it_starts(circuit: Circuit):
    net, (x, _) = network(circuit), batch()
    far = [net.wire(x).state(1).of_parts([10 * torch.randn(len(x), len(b))]) for b in net.currents]
    found = [state.mean() for state in net.relax(x, states=far).states]
    for here, there in zip(voltages(net, x), found, strict=True):
        assert_close(here, there, rtol=1e-11, atol=1e-11)


def test_the_value_is_half_the_power_of_the_resistors():
    net, (x, _) = network(Circuit(input_gain=3.0)), batch()
    v = voltages(net, x)
    layers = [net.sources(x), *v]
    slow = torch.zeros(len(x))
    for k, (g, b) in enumerate(zip(net.conductances, net.currents, strict=True)):
        across = layers[k][:, :, None] - layers[k + 1][:, None]
        slow += (g * across.square()).sum((1, 2)) / 2 - layers[k + 1] @ b
    assert_close(net.own_energy().value(x, net.relax(x).states), slow)


@pytest.mark.parametrize("circuit", [CIRCUITS["passive"], CIRCUITS["amplified"]], ids=["passive", "amplified"])
def test_ideal_circuits_are_homogeneous(circuit: Circuit):
    net, (x, _) = network(circuit), batch()
    for b in net.currents:
        b.data.zero_()
    for one, three in zip(voltages(net, x), voltages(net, 3 * x), strict=True):
        assert_close(three, 3 * one, rtol=1e-10, atol=1e-12)


def test_outputs_of_a_passive_circuit_stay_within_its_sources():
    net, (x, _) = network(Circuit(input_gain=3.0)), batch(64)
    for b in net.currents:
        b.data.zero_()
    assert all(float(layer.abs().max()) <= 3 * float(x.abs().max()) for layer in voltages(net, x))


def test_an_unconnected_node_rests():
    net = network(Circuit())
    for g, side in zip(net.conductances[:2], (slice(None), 0), strict=True):
        g.data[(side, 0) if side != 0 else (0, slice(None))] = 0
    net.currents[0].data.zero_()
    x, _ = batch()
    assert bool((voltages(net, x)[0][:, 0] == 0).all())


# --- the exact gradient ---


@circuits
def test_implicit_differentiation_agrees_with_finite_differences(circuit: Circuit):
    net, x, y, expected = measured(circuit)
    exact = Backprop().estimate(net, squared_error, x, y).grads
    for p, slope in expected.items():
        assert_close(exact[p], slope, rtol=1e-5, atol=1e-7)


def test_so_does_the_gradient_in_the_inputs():
    net, (x, y) = network(CIRCUITS["amplified"]), batch()
    x.requires_grad_()
    (found,) = torch.autograd.grad(squared_error(net(x), y).mean(), x)
    with torch.no_grad():
        for i in range(x.shape[1]):
            step = torch.zeros_like(x)
            step[1, i] = 1e-5
            slope = (loss(net, x + step, y) - loss(net, x - step, y)) / 2e-5
            assert float(found[1, i]) == pytest.approx(slope, rel=1e-5, abs=1e-8)


# --- what is refused ---


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"input_gain": 0.0}, "^input_gain must be a positive number, not 0.0"),
        ({"gain": -1.0}, "^gain must be a positive number, not -1.0"),
        ({"current_gain": float("nan")}, "^current_gain must be a positive number, not nan"),
        ({"scale": float("inf")}, "^scale must be a positive number, not inf"),
        ({"threshold": -0.1}, "^threshold must be zero or a positive number, not -0.1"),
    ],
)
def test_unphysical_parts_are_refused(settings: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        Circuit(**settings)


def test_widths_without_outputs_are_refused():
    with pytest.raises(ValueError, match="inputs, outputs and perhaps layers between"):
        ResistiveNetwork([4])


@pytest.mark.parametrize("value", [-1e-6, float("nan")])
def test_a_negative_conductance_is_refused_until_it_is_projected(value: float):
    net, (x, _) = network(Circuit()), batch()
    net.conductances[1].data[2, 1] = value
    with pytest.raises(ValueError, match=r"layer 2 has a conductance of .*: call project_"):
        net(x)
    if value < 0:
        net.project_()
        assert bool(net.conductances[1][2, 1] == 0)
        assert bool(net(x).isfinite().all())


def test_inputs_of_another_width_are_refused():
    with pytest.raises(ValueError, match="the circuit has 2 inputs, but x has 6"):
        network(Circuit())(torch.rand(2, 6))


@pytest.mark.parametrize(
    "rule", [DualPropagation(), Dyadic(0.01), Dyadic(0.01, form="joint")], ids=lambda rule: type(rule).__name__
)
def test_rules_without_an_energy_are_refused(rule: DualPropagation | Dyadic):
    net, (x, y) = network(Circuit()), batch()
    with pytest.raises((TypeError, ValueError), match=r"an energy (of its own|in common)"):
        rule.estimate(net, squared_error, x, y)


# --- passivity ---


@circuits
def test_the_bound_is_the_smallest_curvature_of_the_outputs_with_all_hidden_nodes_eliminated(circuit: Circuit):
    """By the inverse of the whole conductance matrix, whose corner is that of the Schur complement."""
    net = network(circuit)
    x, _ = batch(1)
    states = [torch.randn(1, len(b), requires_grad=True) for b in net.currents]
    energy = net.energy([x, *states]).sum()
    slopes = torch.cat([s.flatten() for s in torch.autograd.grad(energy, states, create_graph=True)])
    rows = [torch.cat([r.flatten() for r in torch.autograd.grad(s, states, retain_graph=True)]) for s in slopes]
    corner = torch.linalg.inv(torch.stack(rows))[-2:, -2:]
    assert passive_bound(net) == pytest.approx(1 / float(torch.linalg.eigvalsh(corner)[-1]), rel=1e-10)


@pytest.mark.parametrize("widths", [[2, 2], [2, 4, 2]])
def test_an_output_without_conductances_bears_no_nudge_away(widths: list[int]):
    net = ResistiveNetwork(widths)
    assert passive_bound(net) > 0
    with torch.no_grad():
        net.conductances[-1][:, 0] = 0
    assert passive_bound(net) == pytest.approx(0, abs=1e-15)
    with pytest.raises(ValueError, match="negative conductance"):
        net.check_nudge(squared_error, -0.01)


def test_nudges_have_the_loss_curvature_in_their_bound():
    net, (x, _) = network(Circuit()), batch()
    y, bound = torch.tensor([0, 1, 1, 0]), passive_bound(net)
    net.check_nudge(cross_entropy, -1.9 * bound)
    with pytest.raises(ValueError, match=f"more than the circuit bears, {2 * bound:.4g}"):
        net.check_nudge(cross_entropy, -2.1 * bound)
    assert ContrastiveHebbian().estimate(net, squared_error, x, y).solution is not None


def test_clamping_rules_pull_the_output_to_the_target():
    net, (x, y) = network(CIRCUITS["amplified"]), batch()
    first = loss(net, x, y)
    for rule in (ContrastiveHebbian(), CoupledLearning(), CoupledLearning(0.5, "positive")):
        moved = copy.deepcopy(net)
        grads = rule.estimate(net, squared_error, x, y).grads
        for here, there in zip(net.parameters(), moved.parameters(), strict=True):
            there.data -= 1e-3 * grads[here]
        moved.project_()
        assert loss(moved, x, y) < first


def test_they_are_attacked_and_disturbed_as_other_networks_are():
    """Noise that makes a conductance negative takes the resistor out, and all is as before afterwards."""
    net, (x, _) = network(Circuit(input_gain=3.0), (6, 8, 3)), batch(20, 6)
    y, before = net(x).argmax(1), [g.detach().clone() for g in net.conductances]
    sizes = {"projected gradient": (0.0, 0.5), "weights": (0.0, 3.0)}
    still, attacked, same, noisy = (trial.accuracy for trial in robustness(net, x, y, sizes))
    assert still == same == 1.0
    assert attacked < 1.0
    assert noisy < 1.0
    assert all(torch.equal(g, was) for g, was in zip(net.conductances, before, strict=True))


def test_networks_can_be_copied_pickled_and_restored():
    net, (x, _) = network(CIRCUITS["amplified"]), batch()
    other = network(CIRCUITS["amplified"])
    other.load_state_dict(net.state_dict())
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), other):
        assert torch.equal(twin(x), net(x))
    assert [name for name, _ in net.groups()] == ["layer 1", "layer 2", "layer 3"]
