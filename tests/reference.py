"""Slow, obvious NumPy, one sample and one neuron at a time, written from the equations and not from the library.

Layers count from 1 to L and 0 is the input; `W[k]` leads from layer k to layer k + 1, as in the thesis. Nothing here
knows of batches, of units of the gradient, or of a derivative where the equations have none.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Vector = np.ndarray
Dyads = dict[int, tuple[Vector, Vector]]


@dataclass(frozen=True)
class Net:
    """A multi-layer perceptron: `s_{k+1} = f_{k+1}(W_k s_k + b_k)`."""

    W: Sequence[np.ndarray]
    b: Sequence[np.ndarray]
    f: Sequence[str]

    @property
    def depth(self) -> int:
        return len(self.W)


F = {
    "identity": lambda a: a,
    "relu": lambda a: a if a > 0 else 0.0,
    "tanh": math.tanh,
    "clip": lambda a: min(max(a, 0.0), 1.0),
}
DERIVATIVE = {
    "identity": lambda a: 1.0,
    "relu": lambda a: 1.0 if a > 0 else 0.0,
    "tanh": lambda a: 1 - math.tanh(a) ** 2,
    "clip": lambda a: 1.0 if 0 < a < 1 else 0.0,
}
INVERSE = {"identity": lambda s: s, "relu": lambda s: s, "tanh": math.atanh, "clip": lambda s: s}


def each(function, *vectors: Vector) -> Vector:
    """Apply a function of numbers to every neuron."""
    return np.array([function(*values) for values in zip(*vectors, strict=True)])


def drive(W: np.ndarray, b: Vector, s: Vector) -> Vector:
    """`a_i = b_i + sum_j W_ij s_j`."""
    return np.array([b[i] + sum(W[i, j] * s[j] for j in range(len(s))) for i in range(len(b))])


def transposed(W: np.ndarray, d: Vector) -> Vector:
    """`sum_i W_ij d_i`."""
    return np.array([sum(W[i, j] * d[i] for i in range(len(d))) for j in range(W.shape[1])])


def outer(d: Vector, s: Vector) -> np.ndarray:
    """`d_i s_j`."""
    return np.array([[d[i] * s[j] for j in range(len(s))] for i in range(len(d))])


# --- losses ---


def softmax(a: Vector) -> Vector:
    powers = [math.exp(value - max(a)) for value in a]
    return np.array([power / sum(powers) for power in powers])


def loss(name: str, s: Vector, y: Vector) -> float:
    if name == "squared error":
        return sum((s[i] - y[i]) ** 2 for i in range(len(s))) / 2
    return -sum(y[i] * math.log(softmax(s)[i]) for i in range(len(s)))


def loss_gradient(name: str, s: Vector, y: Vector) -> Vector:
    return (s if name == "squared error" else softmax(s)) - y


def proximal(name: str, a: Vector, y: Vector, strength: float) -> Vector:
    """The stationary point of `strength l(s) + 1/2 |s - a|^2`, by plain gradient descent.

    The slope changes by at most 1 + max(strength, 0) curvature times the change of s.
    """
    s, step = a, 1 / (1 + max(strength, 0.0) * (1.0 if name == "squared error" else 0.5))
    for _ in range(1000):
        slope = strength * loss_gradient(name, s, y) + s - a
        if max(abs(slope)) < 1e-15:
            break
        s = s - step * slope
    return s


# --- backpropagation ---


def forward(net: Net, x: Vector) -> tuple[list[Vector], list[Vector]]:
    """Pre-activations and states of layers 0, ..., L (there are no pre-activations of the input)."""
    a, s = [x], [x]
    for W, b, f in zip(net.W, net.b, net.f, strict=True):
        a.append(drive(W, b, s[-1]))
        s.append(each(F[f], a[-1]))
    return a, s


def backprop(net: Net, x: Vector, y: Vector, name: str) -> list[tuple[np.ndarray, Vector]]:
    """Gradients of one sample's loss in `(W_k, b_k)`, by the chain rule (thesis eqs 3.1-3.4)."""
    a, s = forward(net, x)
    L = net.depth
    delta = {L: each(DERIVATIVE[net.f[L - 1]], a[L]) * loss_gradient(name, s[L], y)}
    for k in range(L - 1, 0, -1):
        delta[k] = each(DERIVATIVE[net.f[k - 1]], a[k]) * transposed(net.W[k], delta[k + 1])
    return [(outer(delta[k + 1], s[k]), delta[k + 1]) for k in range(L)]


# --- without weight transport; B and G have the shapes of the weights that they stand in for ---


def feedback_alignment(
    net: Net, B: Sequence[np.ndarray], x: Vector, y: Vector, name: str, *, direct: bool = False
) -> list[tuple[np.ndarray, Vector]]:
    """Backpropagation with `B_k` in the place of `W_k^T`, or from the output straight to layer k."""
    a, s = forward(net, x)
    L = net.depth
    delta = {L: each(DERIVATIVE[net.f[L - 1]], a[L]) * loss_gradient(name, s[L], y)}
    for k in range(L - 1, 0, -1):
        above = delta[L] if direct else delta[k + 1]
        delta[k] = each(DERIVATIVE[net.f[k - 1]], a[k]) * transposed(B[k], above)
    return [(outer(delta[k + 1], s[k]), delta[k + 1]) for k in range(L)]


def equilibrium(net: Net, G: Sequence[np.ndarray], gamma: float, x: Vector, y: Vector | None) -> list[Vector]:
    """States of `s_l = f(W_{l-1} s_{l-1} + b_l + gamma G_l s_{l+1})`, by damped iteration; the output held at y."""
    s = [x] + [np.zeros(len(b)) for b in net.b]
    for _ in range(1000):
        for k in range(1, net.depth + 1):
            a = drive(net.W[k - 1], net.b[k - 1], s[k - 1])
            if k < net.depth:
                a = a + gamma * transposed(G[k], s[k + 1])
            s[k] = s[k] / 2 + each(F[net.f[k - 1]], a) / 2
        if y is not None:
            s[-1] = y
    return s


def random_feedback_chl(
    net: Net, G: Sequence[np.ndarray], gamma: float, x: Vector, y: Vector, *, free_feedback: bool
) -> list[tuple[np.ndarray, Vector]]:
    """Minus the update of one sample, `gamma^(k - L) [free - clamped]` of the outer products that lead to layer k."""
    free = equilibrium(net, G, gamma if free_feedback else 0.0, x, None)
    held = equilibrium(net, G, gamma, x, y)
    found = []
    for k in range(1, net.depth + 1):
        share = gamma ** (k - net.depth)
        weight = share * (outer(free[k], free[k - 1]) - outer(held[k], held[k - 1]))
        found.append((weight, share * (free[k] - held[k])))
    return found


# --- dual propagation ---


@dataclass(frozen=True)
class DualPropagation:
    """The hyper-parameters, the name of the loss among them."""

    alpha: float
    beta: float
    variant: str = "transposed"
    output: str = "linear"
    loss: str = "squared error"

    @property
    def strengths(self) -> tuple[float, float]:
        """What multiplies the feedback of `s^+` and of `s^-`."""
        return (1 - self.alpha, self.alpha) if self.variant == "transposed" else (self.alpha, 1 - self.alpha)

    def mean(self, dyad: tuple[Vector, Vector]) -> Vector:
        return self.alpha * dyad[0] + (1 - self.alpha) * dyad[1]


def output_dyad(rule: DualPropagation, a: Vector, y: Vector) -> tuple[Vector, Vector]:
    """The two states of the output layer; they differ in the point at which the loss is differentiated."""
    plus, minus = (strength * rule.beta for strength in rule.strengths)
    if rule.output == "sprovr":  # each state at its own place
        return proximal(rule.loss, a, y, plus), proximal(rule.loss, a, y, -minus)
    point = a
    if rule.output == "arovr":  # both at their mean,  s = a - (alpha plus - (1 - alpha) minus) l'(s)
        point = proximal(rule.loss, a, y, rule.alpha * plus - (1 - rule.alpha) * minus)
    gradient = loss_gradient(rule.loss, point, y)
    return a - plus * gradient, a + minus * gradient


def hidden_dyad(
    rule: DualPropagation, f: str, a: Vector, feedback: Vector, old: tuple[Vector, Vector], damping: float
) -> tuple[Vector, Vector]:
    """`s <- f((a +- w W^T Delta + L f^-1(s)) / (1 + L))`; undamped for L = 0."""

    def state(strength: float, before: Vector) -> Vector:
        total = a + strength * feedback
        if damping > 0:
            total = (total + damping * each(INVERSE[f], before)) / (1 + damping)
        return each(F[f], total)

    return state(rule.strengths[0], old[0]), state(-rule.strengths[1], old[1])


def dual_propagation(
    net: Net,
    x: Vector,
    y: Vector,
    order: Sequence[Sequence[int]],
    rule: DualPropagation,
    states: Dyads | None = None,
    B: Sequence[np.ndarray] | None = None,
) -> tuple[Dyads, list[tuple[np.ndarray, Vector]]]:
    """States and gradients of one sample after visits in an order of groups of layers; differences travel down by B."""
    L, down = net.depth, net.W if B is None else B
    silent = {k: (np.zeros(len(net.b[k - 1])), np.zeros(len(net.b[k - 1]))) for k in range(1, L + 1)}
    dyads: Dyads = dict(states or silent)
    visited = set(states or ())
    below = {k: np.zeros(net.W[k - 1].shape[1]) for k in range(1, L + 1)}
    for group in order:
        before = dict(dyads)
        for k in group:
            below[k] = x if k == 1 else rule.mean(before[k - 1])
            a = drive(net.W[k - 1], net.b[k - 1], below[k])
            if k == L:
                dyads[k] = output_dyad(rule, a, y)
            else:
                feedback = transposed(down[k], before[k + 1][0] - before[k + 1][1])
                damped = rule.variant == "stabilised" and k in visited
                dyads[k] = hidden_dyad(
                    rule, net.f[k - 1], a, feedback, before[k], damping(net, k, rule.alpha) if damped else 0.0
                )
        visited.update(group)
    deltas = {k: dyads[k][0] - dyads[k][1] for k in dyads}
    return dyads, [(-outer(deltas[k], below[k]) / rule.beta, -deltas[k] / rule.beta) for k in range(1, L + 1)]


def damping(net: Net, k: int, alpha: float) -> float:
    """`L_k = |1 - 2 alpha| max(0, |W_k|^2 - 1) / 2`, the norm from a singular value decomposition."""
    return abs(1 - 2 * alpha) * max(0.0, np.linalg.svd(net.W[k])[1][0] ** 2 - 1) / 2


def batch_mean(samples: Sequence[list[tuple[np.ndarray, Vector]]]) -> list[np.ndarray]:
    """Mean gradients over samples, flat: W_0, b_0, W_1, b_1, ..."""
    return [np.mean([s[k][i] for s in samples], axis=0) for k in range(len(samples[0])) for i in (0, 1)]


# --- max-pooling with fixed switches ---


def switches(image: np.ndarray, size: int, stride: int, padding: int = 0, *, ceil: bool = False) -> np.ndarray:
    """For every window the row and the column of its first largest pixel, `(rows, columns, 2)`."""
    counts = [_windows(length, size, stride, padding, ceil=ceil) for length in image.shape]
    found = np.zeros((*counts, 2), dtype=int)
    for i in range(counts[0]):
        for j in range(counts[1]):
            places = [
                (r, c)
                for r in range(i * stride - padding, i * stride - padding + size)
                for c in range(j * stride - padding, j * stride - padding + size)
                if 0 <= r < image.shape[0] and 0 <= c < image.shape[1]
            ]
            found[i, j] = max(places, key=lambda place: image[place])
    return found


def _windows(length: int, size: int, stride: int, padding: int, *, ceil: bool) -> int:
    """How many windows fit; with `ceil`, the last may hang over, if it begins inside the image or its left margin."""
    count = (length + 2 * padding - size) // stride + 1
    overhangs = ceil and (length + 2 * padding - size) % stride != 0 and count * stride < length + padding
    return count + overhangs


def pooled(image: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The pixels under the switches."""
    return np.array([[image[tuple(place)] for place in row] for row in places])


def unpooled(delta: np.ndarray, places: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Differences sent back to where the switches point; a pixel that won twice receives both."""
    image = np.zeros(shape)
    for i in range(places.shape[0]):
        for j in range(places.shape[1]):
            image[tuple(places[i, j])] += delta[i, j]
    return image
