"""The networks of these tests, made afresh for every test after its seed is set, and their counterparts in NumPy."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from math import log2

import numpy as np
import torch
from torch import Tensor, nn

from dyadnet import AbstractRule, Dense, Layered, cross_entropy, squared_error
from dyadnet.loss import AbstractLoss
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.dense import Structure
from dyadnet.network.linearisation import Gradients
from dyadnet.network.state import States
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.schedule import Parallel
from dyadnet.relax.solver import Anderson
from dyadnet.relax.stopping import Residual
from hopfield import reference

LAMBDAS = (0.0, 0.25, 0.5, 0.75, 1.0)
LOSSES: dict[str, AbstractLoss] = {"squared error": squared_error, "cross-entropy": cross_entropy}
TIGHT = Residual(1e-13, 1500)
EXACT = Relaxation(stop=TIGHT, strict=True)
EXACT_DENSE = Relaxation(Parallel(), Anderson(), TIGHT, strict=True)

# --- networks ---


def mlp(
    activation: Callable[[], nn.Module] = nn.Tanh, *, widths: Sequence[int] = (5, 7, 6, 3), gain: float = 1.0
) -> nn.Sequential:
    """Linear maps whose entries have a variance of `gain^2` over the fan-in, and biases that matter."""
    model = nn.Sequential()
    for inputs, outputs in pairwise(widths):
        linear = nn.Linear(inputs, outputs)
        nn.init.normal_(linear.weight, std=gain / inputs**0.5)
        nn.init.normal_(linear.bias, std=0.3)
        model.extend([linear, activation()])
    return model[:-1]


def conv_pool() -> nn.Sequential:
    """For images of 2 x 8 x 8: padded, pooled and strided.

    Feedback is weak against the differences between pixels, so that no window changes its mind about its largest one:
    if the feedback to the winner makes it lose, there is no equilibrium.
    """
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1),
        nn.Tanh(),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 4, 3, stride=2, padding=1),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(16, 3),
    )
    with torch.no_grad():
        for module, factor in ((model[0], 2.0), (model[3], 0.1), (model[6], 0.3)):
            module.weight *= factor
    return model


def pooled(lam: float) -> tuple[Layered, Tensor]:
    """Pooled convolutions and two images in whose windows the largest pixels stand out."""
    torch.manual_seed(1)
    return Layered.from_sequential(conv_pool(), lam, relaxation=EXACT), torch.randn(2, 2, 8, 8)


def layered(lam: float, activation: Callable[[], nn.Module] = nn.Tanh) -> Layered:
    """With positive feedback, weights are small enough for the equilibrium to be the only one."""
    return Layered.from_sequential(mlp(activation, gain=0.6 if lam <= 0.5 else 0.3), lam, relaxation=EXACT)


def strong_skew() -> Layered:
    """A layered skew network of spectral norm 12."""
    net = layered(0.0)
    scaled(net, 12.0)
    return net


def scaled(net: Layered, norm: float) -> None:
    """Give the coupling between odd and even layers a norm, by the same factor in every map above the first."""
    factor = norm / reference.odd_even_norm(as_reference(net))
    with torch.no_grad():
        for stage in net.stages[1:]:
            linear(stage.map).weight *= factor


def dense(structure: Structure, *, scale: float = 0.9, lam: float = 0.5) -> Dense:
    """Twelve units, three of them outputs, with biases that matter."""
    net = Dense(5, 12, 3, structure, lam=lam, scale=scale, activation=nn.Tanh(), relaxation=EXACT_DENSE)
    nn.init.normal_(net.bias, std=0.3)
    return net


DENSE: dict[str, Callable[[], Dense]] = {
    "symmetric": lambda: dense("symmetric", scale=0.7),
    "lower-triangular": lambda: dense("lower", scale=1.5),
    "skew": lambda: dense("skew"),
    "lam 1/4": lambda: dense("interpolated", lam=0.25),
    "lam 3/4": lambda: dense("interpolated", lam=0.75, scale=0.7),
    "free": lambda: dense("free"),
    "strong skew": lambda: dense("skew", scale=12.0),
}
LAYERED: dict[str, Callable[[], Layered]] = {
    "layered, strong skew": strong_skew,
    "layered, lam 0": lambda: layered(0.0),
    "layered, lam 1/4": lambda: layered(0.25),
    "layered, lam 1/2": lambda: layered(0.5),
    "layered, lam 3/4": lambda: layered(0.75),
    "layered, lam 1": lambda: layered(1.0),
}
NETWORKS: dict[str, Callable[[], AbstractNetwork]] = {**DENSE, **LAYERED}
WITH_ENERGY: dict[str, Callable[[], AbstractNetwork]] = {
    name: NETWORKS[name] for name in ("symmetric", "layered, lam 3/4", "layered, lam 1")
}


def batch(size: int = 3, *, loss: str = "squared error") -> tuple[Tensor, Tensor]:
    """Five inputs and three outputs; classes for the cross-entropy."""
    x = torch.randn(size, 5)
    return x, torch.randn(size, 3) if loss == "squared error" else torch.arange(size) % 3


def targets(y: Tensor) -> np.ndarray:
    """Targets as NumPy takes them."""
    return y.numpy() if y.is_floating_point() else np.eye(3)[y.numpy()]


# --- from the library's objects to those of the reference ---


def linear(module: nn.Module) -> nn.Linear:
    assert isinstance(module, nn.Linear)
    return module


def as_reference(net: AbstractNetwork) -> reference.Net:
    """The same network as one dense system."""
    if isinstance(net, Dense):
        return _dense_reference(net)
    assert isinstance(net, Layered)
    maps, rows, L = [linear(stage.map) for stage in net.stages], layer_rows(net), len(net.stages)
    units = rows[-1].stop
    theta, exists = np.zeros((units, units)), np.zeros((units, units), dtype=bool)
    U, layer = np.zeros((units, maps[0].in_features)), np.zeros(units, dtype=int)
    for k, (map_, here) in enumerate(zip(maps, rows, strict=True), 1):
        layer[here] = k
        if k == 1:
            U[here] = map_.weight.detach().numpy()
        else:
            theta[here, rows[k - 2]], exists[here, rows[k - 2]] = map_.weight.detach().numpy(), True
    return reference.Net(
        theta,
        net.gain,
        U,
        np.concatenate([map_.bias.detach().numpy() for map_ in maps]),
        exists,
        net.activations[0].name,
        net.activations[-1].name,
        layer,
        np.array([net.gain ** float(k - L) if net.gain > 0 else np.nan for k in layer]),
        maps[-1].out_features,
    )


def layer_rows(net: Layered) -> list[slice]:
    """Where the units of every layer stand among all units."""
    ends = np.cumsum([linear(stage.map).out_features for stage in net.stages]).tolist()
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def _dense_reference(net: Dense) -> reference.Net:
    hidden = len(net.bias) - net.outputs
    exists = net.mask.numpy()
    return reference.Net(
        net.theta.detach().numpy() * exists,
        net.gain,
        net.theta_0.detach().numpy(),
        net.bias.detach().numpy(),
        exists,
        net.activations[0].name,
        net.activations[1].name,
        np.array([1] * hidden + [2] * net.outputs),
        np.ones(len(net.bias)),
        net.outputs,
    )


def as_gradients(net: AbstractNetwork, gradient: reference.Gradient) -> Gradients:
    """A gradient of the reference, parameter by parameter of the library's network."""
    if isinstance(net, Dense):
        found = zip((net.theta, net.theta_0, net.bias), gradient, strict=True)
        return {parameter: torch.as_tensor(value) for parameter, value in found}
    assert isinstance(net, Layered)
    grads: Gradients = {}
    for k, (stage, here) in enumerate(zip(net.stages, layer_rows(net), strict=True)):
        weight = gradient.U[here] if k == 0 else gradient.theta[here, layer_rows(net)[k - 1]]
        grads[linear(stage.map).weight] = torch.as_tensor(weight)
        grads[linear(stage.map).bias] = torch.as_tensor(gradient.b[here])
    return grads


def by_reference(
    rule: Callable[..., reference.Gradient], net: AbstractNetwork, x: Tensor, y: Tensor, *options: object
) -> Gradients:
    """The mean over a batch of what a rule of the reference makes of every sample."""
    slow = as_reference(net)
    samples = [rule(slow, a, b, *options) for a, b in zip(x.numpy(), targets(y), strict=True)]
    return as_gradients(net, reference.mean(samples))


def equilibria(net: AbstractNetwork, x: Tensor) -> Tensor:
    """The free states of all units, by the reference, `(batch, units)`."""
    return torch.tensor(np.stack([reference.equilibrium(as_reference(net), a) for a in x.numpy()]))


def one_vector(states: States) -> Tensor:
    """The means of all layers, `(batch, units)`."""
    return torch.cat([state.mean() for state in states], 1)


# --- comparisons ---


def error(ours: Mapping[Tensor, Tensor], exact: Mapping[Tensor, Tensor]) -> float:
    """The largest error of any parameter's gradient, relative to that gradient."""
    assert set(ours) == set(exact)
    return max(float((ours[p] - exact[p]).norm() / exact[p].norm()) for p in exact)


def order(error_at: Callable[[float], float], strength: float) -> float:
    """The power of the strength with which an error falls."""
    return log2(error_at(strength) / error_at(strength / 2))


def grads(rule: AbstractRule, net: AbstractNetwork, loss: AbstractLoss, x: Tensor, y: Tensor) -> Gradients:
    return rule.estimate(net, loss, x, y).grads


def finite_difference(value: Callable[[], Tensor], parameter: Tensor, direction: Tensor, step: float = 1e-5) -> float:
    """The derivative of `value()` as `parameter` moves along `direction`.

    The step balances the truncation, step^2, against the error of a relaxed value, 1e-13 / step.
    """
    with torch.no_grad():
        before = parameter.clone()
        parameter += step * direction
        above = float(value())
        parameter.copy_(before - step * direction)
        below = float(value())
        parameter.copy_(before)
    return (above - below) / (2 * step)


def assert_is_derivative(value: Callable[[], Tensor], gradients: Mapping[Tensor, Tensor], tolerance: float) -> None:
    """Every gradient agrees with finite differences along random directions."""
    for parameter, gradient in gradients.items():
        for _ in range(2):
            direction = torch.randn_like(parameter)
            direction /= direction.norm()
            expected = finite_difference(value, parameter, direction)
            assert abs(float((gradient * direction).sum()) - expected) < tolerance * max(1.0, float(gradient.norm()))
