"""Netlists: a circuit with one input, free or nudged, in the language of SPICE.

    sources          V0_i n0_i 0 volts                  I2_j 0 n2_j amperes
    resistors        R2_i_j n1_i n2_j ohms
    amplifiers       E, V, F: A times the voltage of n1_i at a1_i, and c times the current drawn there back at n1_i
    gyrators         G, G: two sources of current, each controlled by the voltage at the other's node
    nudge            Rn_j n2_j t_j ohms, Vn_j t_j 0 volts:   a conductance of beta between each output and its target
    diodes           B or D, see `diode`

`nk_j` is node j of layer k. A nudge away from the target is a negative resistor, which SPICE takes; the two phases of
dyadic learning are the circuit of gyrators with its output nudged towards and away.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import final

import torch
from torch import Tensor

from dyadnet.hardware.diode import AbstractDiode, Switch
from dyadnet.hardware.gyrator import GyratorCircuit
from dyadnet.hardware.resistive import ResistiveNetwork

Lines = Iterator[str]


@final
@dataclass(frozen=True)
class Nudge:
    """What pulls the outputs of a netlist to their targets.

    Args:
        beta: the strength; negative ones push away.
        target: `(outputs,)`.

    Raises:
        ValueError: for a strength of zero, which is no nudge.
    """

    beta: float
    target: Tensor

    def __post_init__(self) -> None:
        if not (isfinite(self.beta) and self.beta != 0):
            raise ValueError(f"a nudge is a conductance, positive or negative, not {self.beta}: leave it out")


@final
@dataclass(frozen=True)
class Netlist:
    """A circuit as text.

    Attributes:
        title: its first line.
        lines: its elements and models.
        nodes: the names of the nodes of every layer.
    """

    title: str
    lines: tuple[str, ...]
    nodes: tuple[tuple[str, ...], ...]

    def text(self) -> str:
        """Return all lines, and the request for the operating point."""
        options = ".options reltol=1e-10 abstol=1e-15 vntol=1e-13 gmin=1e-15 itl1=1000"
        return "\n".join([f"* {self.title}", *self.lines, options, ".op", ".end", ""])


@torch.no_grad()
def netlist(
    circuit: ResistiveNetwork | GyratorCircuit,
    x: Tensor,
    nudge: Nudge | None = None,
    diode: AbstractDiode | None = None,
) -> Netlist:
    """Return the netlist of a circuit with its input.

    Args:
        circuit: resistors or gyrators.
        x: one input, `(inputs,)`, in the units of the network.
        nudge: of the outputs, in units of the conductances; for gyrators, in units of the leak.
        diode: another one than the network computes with.

    Raises:
        ValueError: if the input or the target is none of this circuit.

    >>> net = ResistiveNetwork([1, 1])
    >>> _ = net.conductances[0].data.copy_(torch.tensor([[0.25], [0.0]]))
    >>> print(netlist(net, torch.tensor([1.0])).text())
    * resistive network 1-1
    V0_0 n0_0 0 100.0
    V0_1 n0_1 0 -100.0
    R1_0_0 n0_0 n1_0 4.0
    .options reltol=1e-10 abstol=1e-15 vntol=1e-13 gmin=1e-15 itl1=1000
    .op
    .end
    <BLANKLINE>
    """
    if isinstance(circuit, ResistiveNetwork):
        widths, title = [circuit.inputs, *map(len, circuit.currents)], "resistive network"
        elements, scale = _resistive(circuit, _fitting(x, widths[0], "input"), diode), 1.0
    else:
        gyrations = circuit.gyrations()
        widths, title = [gyrations[0][0].shape[1], *(len(up) for up, _ in gyrations)], "network of gyrators"
        elements, scale = _gyrators(circuit, _fitting(x, widths[0], "input"), diode or Switch()), circuit.leak
    lines = [*elements, *(() if nudge is None else _nudged(nudge, len(widths) - 1, widths[-1], scale))]
    nodes = tuple(tuple(_node(k, j) for j in range(width)) for k, width in enumerate(widths) if k)
    return Netlist(f"{title} {'-'.join(map(str, widths))}", tuple(lines), nodes)


def _resistive(net: ResistiveNetwork, x: Tensor, diode: AbstractDiode | None) -> Lines:
    """Sources, amplifiers, resistors and diodes, layer by layer."""
    diode, circuit = diode or Switch(net.circuit.threshold), net.circuit
    yield from diode.models()
    yield from _sources(net.sources(x[None])[0])
    for k, (g, b) in enumerate(zip(net.conductances, net.currents, strict=True), 1):
        below = [_node(k - 1, i) for i in range(len(g))]
        if k > 1 and (circuit.gain, circuit.current_gain) != (1.0, 1.0):
            for i, node in enumerate(below):
                yield from _amplifier(f"{k - 1}_{i}", node, circuit.gain, circuit.current_gain)
            below = [f"a{k - 1}_{i}" for i in range(len(g))]
        for i, j in g.nonzero().tolist():
            yield f"R{k}_{i}_{j} {below[i]} {_node(k, j)} {1 / float(g[i, j])}"
        yield from _currents(k, b)
        for j in range(len(b)) if k < net.depth else ():
            ends = ("0", _node(k, j)) if j < net.excitatory(k) else (_node(k, j), "0")
            yield diode.element(f"{k}_{j}", *ends)


def _amplifier(name: str, node: str, gain: float, current_gain: float) -> Lines:
    """Voltages times `gain` upwards, currents times `current_gain` downwards."""
    yield f"E{name} m{name} 0 {node} 0 {gain}"
    yield f"V{name} m{name} a{name} 0"
    yield f"F{name} {node} 0 V{name} {current_gain}"


def _gyrators(circuit: GyratorCircuit, x: Tensor, diode: AbstractDiode) -> Lines:
    """Sources, leaks, gyrators and diodes, layer by layer."""
    yield from diode.models()
    yield from _sources(x)
    for k, ((up, down), b) in enumerate(zip(circuit.gyrations(), circuit.currents(), strict=True), 1):
        for j, i in up.nonzero().tolist():
            here, there = _node(k, j), _node(k - 1, i)
            yield f"G{k}_{j}_{i} 0 {here} {there} 0 {float(up[j, i])}"
            if k > 1:
                yield f"G{k}_{j}_{i}b {there} 0 {here} 0 {float(down[j, i])}"
        yield from _currents(k, b)
        activation = circuit.net.activations[k - 1]
        for j, node in enumerate(_node(k, j) for j in range(len(b))):
            yield f"R{k}_{j} {node} 0 {1 / circuit.leak}"
            for side, bound in (("l", activation.lower), ("u", activation.upper)):
                if isfinite(bound):
                    yield f"V{k}_{j}{side} r{k}_{j}{side} 0 {bound}"
                    ends = (f"r{k}_{j}{side}", node)
                    yield diode.element(f"{k}_{j}{side}", *(ends if side == "l" else ends[::-1]))


def _nudged(nudge: Nudge, last: int, outputs: int, scale: float) -> Lines:
    """A conductance from every output to its target."""
    for j, y in enumerate(_fitting(nudge.target, outputs, "target").tolist()):
        yield f"Rn_{j} {_node(last, j)} t_{j} {1 / (nudge.beta * scale)}"
        yield f"Vn_{j} t_{j} 0 {y}"


def _sources(volts: Tensor) -> Lines:
    return (f"V0_{i} {_node(0, i)} 0 {volt}" for i, volt in enumerate(volts.tolist()))


def _currents(k: int, amperes: Tensor) -> Lines:
    return (f"I{k}_{j} 0 {_node(k, j)} {ampere}" for j, ampere in enumerate(amperes.tolist()) if ampere)


def _node(k: int, j: int) -> str:
    return f"n{k}_{j}"


def _fitting(values: Tensor, width: int, name: str) -> Tensor:
    """Values of one sample, once they are seen to fit the circuit."""
    if values.numel() != width:
        raise ValueError(f"the circuit takes one {name} of {width} values, but this one has {values.numel()}")
    return values.flatten().double()
