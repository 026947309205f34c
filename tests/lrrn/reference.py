"""Lifted networks in slow, obvious NumPy: one sample, one neuron at a time, from the energy alone.

    E(z; x) = sum_k gamma^(k-L) [ kappa/2 |z_k - W_k z_{k-1} - b_k|^2 + rho_k/2 |z_{k-1} - V_k z_k - c_k|^2 ]

Nothing here knows of Hessians, of layers that move together, of batches or of acceleration. A neuron goes to the vertex
of the parabola that the energy is in its state alone, or to the nearest state that it may have.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

Vector = np.ndarray
Layers = list[Vector]


@dataclass(frozen=True)
class Net:
    """One entry a layer, the lowest first."""

    W: Sequence[np.ndarray]
    b: Sequence[Vector]
    V: Sequence[np.ndarray]
    c: Sequence[Vector]
    kappa: float
    rho: Sequence[float]
    gamma: float
    box: Sequence[tuple[float, float]]
    gain: float

    def energy(self, x: Vector, z: Layers) -> float:
        total, L = 0.0, len(self.W)
        for k in range(1, L + 1):
            below, here = (x, *z)[k - 1], z[k - 1]
            regression = here - self.W[k - 1] @ below - self.b[k - 1]
            reconstruction = below - self.V[k - 1] @ here - self.c[k - 1]
            weight = self.gamma ** (k - L)
            total += weight * self.kappa / 2 * regression @ regression
            total += weight * self.rho[k - 1] / 2 * reconstruction @ reconstruction
        return float(total)


Extra = Callable[[Vector], float]
"""What is added to the energy, as a function of the output layer."""


def minimise(net: Net, x: Vector, *, output: Vector | None = None, extra: Extra = lambda z: 0.0) -> Layers:
    """The states of least energy, the output layer held at `output` if that is given. `extra` must be quadratic."""
    z = [np.zeros(len(b)) for b in net.b]
    if output is not None:
        z[-1] = output.copy()
    moving = z if output is None else z[:-1]
    for _ in range(2000):
        furthest = max(
            [move(net, x, z, k, i, extra) for k, layer in enumerate(moving) for i in range(len(layer))], default=0.0
        )
        if furthest < 1e-13:
            return z
    raise AssertionError(f"neurons still move by {furthest}")


def move(net: Net, x: Vector, z: Layers, k: int, i: int, extra: Extra) -> float:
    """Move neuron i of layer k to its minimum; return how far that was."""
    before = z[k][i]

    def at(state: float) -> float:
        z[k][i] = state
        return net.energy(x, z) + extra(z[-1])

    low, middle, high = at(before - 1), at(before), at(before + 1)
    vertex = before - (high - low) / 2 / (high - 2 * middle + low)
    z[k][i] = min(max(vertex, net.box[k][0]), net.box[k][1])
    return abs(z[k][i] - before)


class Gradient(NamedTuple):
    """Of one sample, one entry a layer."""

    W: Layers
    b: Layers
    V: Layers
    c: Layers


def derivative(net: Net, x: Vector, z: Layers) -> Gradient:
    """The derivative of the energy in all parameters, those of W and V taken apart."""
    found, L = Gradient([], [], [], []), len(net.W)
    for k in range(1, L + 1):
        below, here, weight = (x, *z)[k - 1], z[k - 1], net.gamma ** (k - L)
        e = net.W[k - 1] @ below + net.b[k - 1] - here
        d = net.V[k - 1] @ here + net.c[k - 1] - below
        found.W.append(weight * net.kappa * np.outer(e, below))
        found.b.append(weight * net.kappa * e)
        found.V.append(weight * net.rho[k - 1] * np.outer(d, here))
        found.c.append(weight * net.rho[k - 1] * d)
    return found


def combine(weights: Sequence[float], gradients: Sequence[Gradient]) -> Gradient:
    """A weighted sum of gradients."""

    def total(layers: Sequence[Layers]) -> Layers:
        return [sum(w * g for w, g in zip(weights, each, strict=True)) for each in zip(*layers, strict=True)]

    return Gradient(*(total(part) for part in zip(*gradients, strict=True)))


def clamped(net: Net, x: Vector, y: Vector) -> Gradient:
    """Of `K^2 / kappa ( min { E | K z_L = y } - min E )`."""
    free, held, weight = minimise(net, x), minimise(net, x, output=y / net.gain), net.gain**2 / net.kappa
    return combine([weight, -weight], [derivative(net, x, held), derivative(net, x, free)])


def nudged(net: Net, x: Vector, y: Vector, beta: float) -> Gradient:
    """Of `(min { E + beta/2 |K z_L - y|^2 } - min E) / beta`."""
    free = minimise(net, x)
    held = minimise(net, x, extra=lambda z: beta / 2 * (net.gain * z - y) @ (net.gain * z - y))
    return combine([1 / beta, -1 / beta], [derivative(net, x, held), derivative(net, x, free)])


def unsupervised(net: Net, x: Vector, y: Vector) -> Gradient:
    """Of `gamma^(L-1) min E`."""
    return combine([net.gamma ** (len(net.W) - 1)], [derivative(net, x, minimise(net, x))])
