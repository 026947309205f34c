"""A circuit simulator as the judge: it finds the voltages that our updates find, in circuits that it reads as text."""

import numpy as np
import pytest
import torch
from torch import Tensor

from dyadnet import Layered, squared_error
from dyadnet.energy.hopfield import under_condition
from dyadnet.hardware.circuit import Circuit
from dyadnet.hardware.diode import AbstractDiode, Exponential, Switch
from dyadnet.hardware.gyrator import GyratorCircuit, gyrators
from dyadnet.hardware.netlist import Netlist, Nudge, netlist
from dyadnet.hardware.resistive import ResistiveNetwork
from dyadnet.hardware.spice import SpiceError, available, operating_point
from dyadnet.network.feedback import Mismatched
from dyadnet.relax.relaxation import Relaxation, settle
from dyadnet.relax.solver import Plain
from dyadnet.relax.stopping import Residual
from dyadnet.rule.nudge import nudged
from tests.hardware.circuits import excess

WIDTHS = [64, 32, 10]
TIGHT = Residual(1e-13, 5000)
CIRCUITS = {
    "passive": Circuit(input_gain=480.0),
    "amplified": Circuit(input_gain=20.0, gain=4.0, current_gain=0.25),
    "of real diodes": Circuit(input_gain=20.0, threshold=0.5),
}
simulated = pytest.mark.skipif(not available(), reason="ngspice is not installed (apt install ngspice)")
nudges = pytest.mark.parametrize("beta", [None, 0.4, -0.2], ids=["free", "towards", "away"])


def resistive(circuit: Circuit) -> ResistiveNetwork:
    net = ResistiveNetwork(WIDTHS, circuit, Relaxation(solver=Plain(), stop=TIGHT, strict=True))
    for b in net.currents:
        b.data.normal_(std=0.1)
    return net


def skew(mismatch: Mismatched | None) -> Layered:
    """Strongly coupled, so that what goes back matters."""
    net = gyrators(WIDTHS, mismatch=mismatch, relaxation=Relaxation(stop=TIGHT, strict=True))
    net.stages[1].map.weight.data *= 5
    return net


def nudge(beta: float | None) -> Nudge | None:
    return None if beta is None else Nudge(beta, torch.eye(10)[3])


def ours(net: ResistiveNetwork | Layered, x: Tensor, push: Nudge | None) -> list[Tensor]:
    wiring = net.wire(x[None])
    output = None if push is None else nudged(net, squared_error, push.target[None], push.beta, wiring.depth)
    states = settle(wiring, under_condition(net, wiring.depth, output), net.relaxation).states
    return [state.mean()[0] for state in states]


def assert_agree(found: list[Tensor], expected: list[Tensor]) -> None:
    """To 1e-4 of every voltage; those that a diode holds at nothing, to 1e-6 of the largest of their layer."""
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6 * float(other.abs().max()))
        assert float(other.abs().max()) > 0.01


@simulated
@nudges
@pytest.mark.parametrize("circuit", CIRCUITS.values(), ids=CIRCUITS)
def test_it_agrees_on_every_node_of_a_resistive_network(circuit: Circuit, beta: float | None):
    net, x = resistive(circuit), torch.rand(64)
    found, expected = operating_point(netlist(net, x, nudge(beta))), ours(net, x, nudge(beta))
    assert_agree(found, expected)
    held = int((~net.inside(1, expected[0][None])).sum())
    assert 0 < held < 32


@simulated
@nudges
@pytest.mark.parametrize("mismatch", [None, Mismatched(relative=0.1)], ids=["matched", "mismatched"])
def test_and_of_a_network_of_gyrators(mismatch: Mismatched | None, beta: float | None):
    net, x = skew(mismatch), torch.rand(64)
    expected = ours(net, x, nudge(beta))
    assert_agree(operating_point(netlist(GyratorCircuit(net, leak=0.02), x, nudge(beta))), expected)
    assert 0 < int((expected[0] < 1e-9).sum()) < 32


@simulated
def test_and_of_one_whose_nodes_are_held_from_both_sides():
    model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.Hardtanh(0.1, 0.3), torch.nn.Linear(32, 10))
    net, x = Layered.from_sequential(model, 0.0, relaxation=Relaxation(stop=TIGHT)), torch.rand(64)
    expected = ours(net, x, None)
    assert_agree(operating_point(netlist(GyratorCircuit(net), x)), expected)
    assert {0.1, 0.3} <= {round(float(v), 9) for v in expected[0]}


@simulated
def test_the_nudge_moves_what_it_finds():
    """Negative control: the agreement is not that of a nudge too small to be seen."""
    net, x = resistive(CIRCUITS["passive"]), torch.rand(64)
    free, pulled = (operating_point(netlist(net, x, nudge(beta))) for beta in (None, 0.4))
    assert all(float((one - other).abs().max()) > 1e-2 for one, other in zip(free, pulled, strict=True))


@simulated
def test_with_exponential_diodes_currents_balance_at_every_node():
    net, x = resistive(Circuit(input_gain=20.0)), torch.rand(64)
    diode = Exponential(saturation=1e-6, slope=0.04)
    v = operating_point(netlist(net, x, diode=diode))
    hidden, output = (current[0] for current in excess(net, x[None], [layer[None] for layer in v]))
    across = -v[0].numpy()
    across[16:] *= -1  # inhibitory nodes have their diodes the other way round
    carried = 1e-6 * (np.exp(across / 0.04) - 1)
    carried[16:] *= -1
    assert np.abs(output).max() < 1e-8
    assert np.abs(hidden + carried).max() < 2e-5 * np.abs(carried).max()
    assert 0.3 < across.max() < 1.0


# --- complaints ---


@simulated
def test_a_circuit_without_an_operating_point_is_one_clear_error():
    contradiction = Netlist("two sources that disagree", ("V1 a 0 1", "V2 a 0 2"), (("a",),))
    with pytest.raises(SpiceError, match="ngspice found no operating point of the two sources that disagree: ") as told:
        operating_point(contradiction)
    assert "\n" not in str(told.value)


@simulated
def test_so_is_text_that_is_no_netlist():
    with pytest.raises(SpiceError, match="ngspice found no operating point of the nonsense"):
        operating_point(Netlist("nonsense", ("R1 a",), (("a",),)))


def test_without_the_simulator_one_is_told_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(SpiceError, match="ngspice is not installed: apt install ngspice"):
        operating_point(Netlist("empty", (), ()))


def test_a_netlist_has_a_line_for_every_part():
    net, x = resistive(CIRCUITS["amplified"]), torch.rand(64)
    made = netlist(net, x, nudge(0.4))
    kinds = [line[0] for line in made.lines]
    resistors = sum(int((g > 0).sum()) for g in net.conductances)
    assert kinds.count("R") == resistors + 10
    assert kinds.count("V") == 128 + 32 + 10  # sources, ammeters of the amplifiers, targets
    assert kinds.count("E") == kinds.count("F") == kinds.count("B") == 32
    assert kinds.count("I") == 42
    assert [len(layer) for layer in made.nodes] == [32, 10]
    assert made.text().splitlines()[0] == "* resistive network 64-32-10"
    assert len({line.split()[0].lower() for line in made.lines}) == len(made.lines)


@pytest.mark.parametrize("make", [lambda: resistive(Circuit()), lambda: GyratorCircuit(skew(None))])
def test_values_of_another_width_are_refused(make):
    circuit = make()
    with pytest.raises(ValueError, match="the circuit takes one input of 64 values, but this one has 63"):
        netlist(circuit, torch.rand(63))
    with pytest.raises(ValueError, match="the circuit takes one target of 10 values, but this one has 9"):
        netlist(circuit, torch.rand(64), Nudge(0.1, torch.rand(9)))


@pytest.mark.parametrize("beta", [0.0, float("nan"), float("inf")])
def test_a_nudge_of_no_conductance_is_refused(beta: float):
    with pytest.raises(ValueError, match="a nudge is a conductance, positive or negative, not"):
        Nudge(beta, torch.rand(3))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Switch(threshold=-0.1),
        lambda: Switch(conductance=0.0),
        lambda: Exponential(saturation=0.0),
        lambda: Exponential(slope=-0.02),
    ],
)
def test_unphysical_diodes_are_refused(make: type[AbstractDiode]):
    with pytest.raises(ValueError, match="diode"):
        make()
