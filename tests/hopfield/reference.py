"""Recurrent networks in slow, obvious NumPy: one sample, all units in one vector, written from the equations.

    s = f(W s + U x + b),        W = theta + c theta^T

Nothing here knows of layers that update together, of batches, of solvers, or of two states in one tensor.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

Vector = np.ndarray

F: dict[str, Callable[[Vector], Vector]] = {
    "identity": lambda u: u,
    "tanh": np.tanh,
    "relu": lambda u: np.where(u > 0, u, 0.0),
    "clip(0, 1)": lambda u: np.where(u < 0, 0.0, np.where(u > 1, 1.0, u)),
}
DERIVATIVE: dict[str, Callable[[Vector], Vector]] = {
    "identity": np.ones_like,
    "tanh": lambda u: 1 / np.cosh(u) ** 2,
    "relu": lambda u: (u > 0).astype(float),
    "clip(0, 1)": lambda u: ((u > 0) & (u < 1)).astype(float),
}
G: dict[str, Callable[[float], float]] = {  # f = (G')^{-1}, G(0) = 0
    "identity": lambda s: s**2 / 2,
    "tanh": lambda s: s * np.arctanh(s) + np.log(1 - s**2) / 2,
    "relu": lambda s: s**2 / 2,
    "clip(0, 1)": lambda s: s**2 / 2,
}


@dataclass(frozen=True)
class Net:
    """A network of units, the outputs last: `f` of the hidden ones and `readout` of the outputs.

    `exists` says which entries of `theta` there are, `layer` to which layer a unit belongs (from 1), and `weight` how
    much it counts in the Hopfield energy.
    """

    theta: np.ndarray
    c: float
    U: np.ndarray
    b: Vector
    exists: np.ndarray
    f: str
    readout: str
    layer: Vector
    weight: Vector
    outputs: int

    @property
    def W(self) -> np.ndarray:
        return self.theta + self.c * self.theta.T

    @property
    def out(self) -> slice:
        return slice(len(self.b) - self.outputs, None)

    @property
    def hidden(self) -> slice:
        return slice(0, len(self.b) - self.outputs)

    def activity(self, u: Vector) -> Vector:
        return np.concatenate([F[self.f](u[self.hidden]), F[self.readout](u[self.out])])

    def slopes(self, u: Vector) -> Vector:
        return np.concatenate([DERIVATIVE[self.f](u[self.hidden]), DERIVATIVE[self.readout](u[self.out])])


class Gradient(NamedTuple):
    """In the three parameters of a network."""

    theta: np.ndarray
    U: np.ndarray
    b: Vector


def summed(gradients: Sequence[Gradient], weights: Sequence[float]) -> Gradient:
    return Gradient(*(sum(w * g[i] for w, g in zip(weights, gradients, strict=True)) for i in range(3)))


def mean(gradients: Sequence[Gradient]) -> Gradient:
    return summed(gradients, [1 / len(gradients)] * len(gradients))


# --- losses ---


def softmax(a: Vector) -> Vector:
    powers = np.exp(a - a.max())
    return powers / powers.sum()


def loss_gradient(loss: str, s: Vector, y: Vector) -> Vector:
    return (s if loss == "squared error" else softmax(s)) - y


# --- equilibria: small steps for a long time ---


def settled(net: Net, update: Callable[[Vector], Vector], s: Vector) -> Vector:
    """Follow `ds/dt = update(s) - s` in steps short enough for any direction in which W turns."""
    step = 1 / (1 + np.linalg.norm(net.W, 2) ** 2)
    for _ in range(20_000):
        change = update(s) - s
        if abs(change).max() < 1e-13:
            return s
        s = s + step * change
    raise AssertionError("the reference has not settled")


def equilibrium(net: Net, x: Vector) -> Vector:
    return settled(net, lambda s: net.activity(net.W @ s + net.U @ x + net.b), np.zeros(len(net.b)))


def nudged(net: Net, x: Vector, y: Vector, strength: float, loss: str = "squared error") -> Vector:
    """`s = f(W s + U x + b - strength l'(s))`, from the free equilibrium."""

    def update(s: Vector) -> Vector:
        u = net.W @ s + net.U @ x + net.b
        u[net.out] -= strength * loss_gradient(loss, s[net.out], y)
        return net.activity(u)

    return settled(net, update, equilibrium(net, x))


def clamped(net: Net, x: Vector, output: Vector) -> Vector:
    """The equilibrium of the hidden units, the outputs held."""

    def update(s: Vector) -> Vector:
        s = net.activity(net.W @ s + net.U @ x + net.b)
        s[net.out] = output
        return s

    start = equilibrium(net, x)
    start[net.out] = output
    return settled(net, update, start)


# --- the exact gradient ---


def told_by(net: Net, x: Vector, s: Vector, delta: Vector) -> Gradient:
    """What errors `delta` in the drives tell the parameters: `dl/dW = delta s^T`, `W = theta + c theta^T`."""
    dW = np.outer(delta, s)
    return Gradient((dW + net.c * dW.T) * net.exists, np.outer(delta, x), delta)


def implicit_gradient(net: Net, x: Vector, y: Vector, loss: str = "squared error") -> Gradient:
    """`(I - D W^T) delta = D l'`, `D = f'(W s + U x + b)`, by a dense linear solve."""
    s = equilibrium(net, x)
    D = np.diag(net.slopes(net.W @ s + net.U @ x + net.b))
    slope = np.zeros(len(s))
    slope[net.out] = loss_gradient(loss, s[net.out], y)
    return told_by(net, x, s, np.linalg.solve(np.eye(len(s)) - D @ net.W.T, D @ slope))


# --- dyadic learning, one unit at a time (thesis eq. 4.7) ---


def dyads(net: Net, x: Vector, y: Vector, beta: float, loss: str = "squared error") -> tuple[Vector, Vector]:
    """The joint fixed point `s^+- = f(W mean + U x + b +- W^T d / 2 -+ beta/2 l'(s^+-))`."""
    plus = equilibrium(net, x)
    minus = plus.copy()
    W, b, n, step = net.W, net.U @ x + net.b, len(net.b), 0.8
    for _ in range(2_000):
        largest = 0.0
        for i in range(n):
            u = W[i] @ (plus + minus) / 2 + b[i]
            v = W[:, i] @ (plus - minus) / 2
            push = pull = 0.0
            if i >= n - net.outputs:
                push = loss_gradient(loss, plus[net.out], y)[i - n] * beta / 2
                pull = loss_gradient(loss, minus[net.out], y)[i - n] * beta / 2
            f = F[net.f if i < n - net.outputs else net.readout]
            changes = f(u + v - push) - plus[i], f(u - v + pull) - minus[i]
            plus[i] += step * changes[0]
            minus[i] += step * changes[1]
            largest = max(largest, abs(changes[0]), abs(changes[1]))
        if largest < 1e-13:
            return plus, minus
    raise AssertionError("the reference has not settled")


def dyadic(net: Net, x: Vector, y: Vector, beta: float, loss: str = "squared error") -> Gradient:
    """`dL/dW = -(1/beta) d mean^T`."""
    plus, minus = dyads(net, x, y, beta, loss)
    return told_by(net, x, (plus + minus) / 2, -(plus - minus) / beta)


# --- contrasts of energies (thesis eqs 3.8-3.11) ---


def hopfield_energy(net: Net, x: Vector, s: Vector) -> float:
    """`sum_i weight_i [G(s_i) - s_i (b_i + sum_j theta_ij s_j + sum_j U_ij x_j)]`."""
    total = 0.0
    for i in range(len(s)):
        heard = net.b[i] + sum(net.U[i, j] * x[j] for j in range(len(x)))
        heard += sum(net.theta[i, j] * s[j] for j in range(len(s)) if net.exists[i, j])
        f = net.f if i < len(s) - net.outputs else net.readout
        total += net.weight[i] * (G[f](s[i]) - s[i] * heard)
    return total


def energy_gradient(net: Net, x: Vector, s: Vector) -> Gradient:
    """`dE/dtheta_ij = -weight_i s_i s_j`, and so on."""
    pre = -net.weight * s
    return Gradient(np.outer(pre, s) * net.exists, np.outer(pre, x), pre)


def contrast(net: Net, x: Vector, states: Sequence[Vector], weights: Sequence[float]) -> Gradient:
    return summed([energy_gradient(net, x, s) for s in states], weights)


def equilibrium_propagation(
    net: Net, x: Vector, y: Vector, beta: float, variant: str, loss: str = "squared error"
) -> Gradient:
    high, low = {"positive": (beta, 0.0), "negative": (0.0, -beta), "centred": (beta, -beta)}[variant]
    states = [nudged(net, x, y, strength, loss) for strength in (high, low)]
    return contrast(net, x, states, [1 / (high - low), -1 / (high - low)])


def contrastive_hebbian(net: Net, x: Vector, y: Vector) -> Gradient:
    return contrast(net, x, [clamped(net, x, y), equilibrium(net, x)], [1, -1])


def coupled_learning(
    net: Net, x: Vector, y: Vector, beta: float, variant: str, loss: str = "squared error"
) -> Gradient:
    """Clamp to `o - nu l'(o)`, `o` the free output."""
    high, low = {"positive": (beta, 0.0), "negative": (0.0, -beta), "centred": (beta, -beta)}[variant]
    free = equilibrium(net, x)[net.out]
    slope = loss_gradient(loss, free, y)
    states = [clamped(net, x, free - nu * slope) for nu in (high, low)]
    return contrast(net, x, states, [1 / (high - low), -1 / (high - low)])


# --- what is certain ---


def spectral_margin(net: Net, slope: float) -> float:
    """`1/L_f - lambda_max(sym W)`."""
    return 1 / slope - np.linalg.eigvalsh((net.W + net.W.T) / 2)[-1]


def spectral_radius(net: Net, order: Sequence[Sequence[int]], factor: float, slope: float) -> float:
    """Of one pass over the linear network: `s_k <- (1 - a) s_k + a slope (W s)_k`, group after group."""
    one_pass = np.eye(len(net.b))
    for group in order:
        chosen = np.diag(np.isin(net.layer, group).astype(float))
        one_pass = (np.eye(len(net.b)) + factor * chosen @ (slope * net.W - np.eye(len(net.b)))) @ one_pass
    return abs(np.linalg.eigvals(one_pass)).max()


def odd_even_norm(net: Net) -> float:
    """The norm of theta between odd and even layers."""
    odd = net.layer % 2 == 1
    both_ways = net.theta + net.theta.T
    return float(np.linalg.svd(both_ways[odd][:, ~odd])[1][0])
