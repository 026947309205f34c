"""Resistive networks of these tests, and what Kirchhoff's laws say of them in NumPy, node by node."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from dyadnet import squared_error
from dyadnet.hardware.circuit import Circuit
from dyadnet.hardware.resistive import ResistiveNetwork
from dyadnet.network.linearisation import Gradients
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.solver import Plain
from dyadnet.relax.stopping import Residual

EXACT = Relaxation(solver=Plain(), stop=Residual(1e-13, 5000), strict=True)
CIRCUITS = {
    "passive": Circuit(input_gain=3.0),
    "amplified": Circuit(input_gain=3.0, gain=4.0, current_gain=0.25),
    "transformed": Circuit(input_gain=3.0, gain=2.0, current_gain=2.0),
    "of real diodes": Circuit(input_gain=3.0, threshold=0.3),
}


def network(circuit: Circuit, widths: Sequence[int] = (2, 3, 3, 2)) -> ResistiveNetwork:
    """Every node is connected, and has a current of its own."""
    net = ResistiveNetwork(widths, circuit, EXACT)
    with torch.no_grad():
        for g, b in zip(net.conductances, net.currents, strict=True):
            g += 0.02 * torch.rand_like(g)
            b.copy_(0.1 * torch.randn_like(b))
    return net


def batch(samples: int = 4, inputs: int = 2, outputs: int = 2) -> tuple[Tensor, Tensor]:
    return torch.rand(samples, inputs), torch.randn(samples, outputs)


@torch.no_grad()
def excess(net: ResistiveNetwork, x: Tensor, v: Sequence[Tensor]) -> list[np.ndarray]:
    """The current that flows into every node from resistors, amplifiers and sources; diodes have to carry it away."""
    a_in, a, c = net.circuit.input_gain, net.circuit.gain, net.circuit.current_gain
    found = [np.zeros(tuple(layer.shape)) for layer in v]
    for n in range(len(x)):
        below = [float(a_in * value) for value in (*x[n], *-x[n])]
        for k in range(net.depth):
            for j in range(len(net.currents[k])):
                here = float(v[k][n, j])
                found[k][n, j] += float(net.currents[k][j])
                for i, voltage in enumerate(below):
                    g = float(net.conductances[k][i, j])
                    current = g * ((a if k else 1.0) * voltage - here)  # what the resistor carries up
                    found[k][n, j] += current
                    if k:
                        found[k - 1][n, i] -= c * current
            below = [float(value) for value in v[k][n]]
    return found


def voltages(net: ResistiveNetwork, x: Tensor) -> list[Tensor]:
    return [state.mean() for state in net.relax(x).states]


def loss(net: ResistiveNetwork, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return float(squared_error(net(x), y).mean())


def slopes(net: ResistiveNetwork, x: Tensor, y: Tensor, step: float = 1e-5) -> Gradients:
    """The gradient of the mean loss by finite differences, one parameter at a time.

    The step is far from both the rounding of the loss, 1e-15 / step, and its curvature, step^2.
    """
    found: Gradients = {}
    for p in net.parameters():
        flat, slope = p.data.view(-1), torch.zeros(p.numel())
        for i in range(p.numel()):
            value = float(flat[i])
            flat[i] = value + step
            above = loss(net, x, y)
            flat[i] = value - step
            slope[i] = (above - loss(net, x, y)) / (2 * step)
            flat[i] = value
        found[p] = slope.view_as(p)
    return found


@cache
def measured(circuit: Circuit) -> tuple[ResistiveNetwork, Tensor, Tensor, Gradients]:
    """A network with a batch and its slopes, which take a second or two."""
    net, (x, y) = network(circuit), batch()
    return net, x, y, slopes(net, x, y)


def distance(found: Gradients, expected: Gradients) -> float:
    """How far two gradients lie apart, relative to the length of the second."""
    apart = sum(float((found[p] - g).square().sum()) for p, g in expected.items())
    return (apart / sum(float(g.square().sum()) for g in expected.values())) ** 0.5


def cosine(found: Tensor, expected: Tensor) -> float:
    found, expected = found.double().flatten(), expected.double().flatten()
    return float(found @ expected / (found.norm() * expected.norm()))
