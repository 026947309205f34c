"""The lifted networks of these tests, made afresh for every test after its seed is set, and their twins in NumPy."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from dyadnet import Layered
from dyadnet.network.lifted import Lifted, Terms
from dyadnet.network.linearisation import Gradients
from dyadnet.network.state import Activity, States
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.solver import Accelerated
from dyadnet.relax.stopping import Residual
from lrrn import reference

TIGHT = Residual(1e-13, 3000)
EXACT = Relaxation(solver=Accelerated(), stop=TIGHT, strict=True)
LEARNING = Relaxation(solver=Accelerated(), stop=Residual(1e-4, 3000), strict=True)


def mlp(
    activation: Callable[[], nn.Module] = nn.ReLU, *, widths: Sequence[int] = (5, 7, 6, 3), scale: float = 1.0
) -> nn.Sequential:
    """Linear maps whose entries have a variance of `scale^2` over the fan-in, and biases that matter."""
    model = nn.Sequential()
    for inputs, outputs in pairwise(widths):
        linear = nn.Linear(inputs, outputs)
        nn.init.normal_(linear.weight, std=scale / inputs**0.5)
        nn.init.normal_(linear.bias, std=0.3)
        model.extend([linear, activation()])
    return model[:-1]


def lifted(
    terms: Terms | None = None,
    model: nn.Sequential | None = None,
    *,
    scale: float = 1.0,
    output_gain: float = 1.0,
    relaxation: Relaxation = EXACT,
) -> Lifted:
    """Reconstructions with weights and biases of their own have some that matter."""
    chain = Layered.from_sequential(model or mlp(scale=scale))
    net = Lifted(chain, terms, output_gain=output_gain, relaxation=relaxation)
    with torch.no_grad():
        for parameter in (*net.V, *net.c):
            parameter += 0.3 * torch.randn_like(parameter)
    return net


def mixed() -> nn.Sequential:
    """Every kind of box: a half line, a box, no bounds."""
    linears = [module for module in mlp(widths=(5, 7, 6, 6, 3)) if isinstance(module, nn.Linear)]
    boxes = [nn.ReLU(), nn.Hardtanh(-0.5, 1), nn.Identity(), nn.Identity()]
    return nn.Sequential(*(module for pair in zip(linears, boxes, strict=True) for module in pair))


NETWORKS: dict[str, Callable[[], Lifted]] = {
    "tied": lifted,
    "tied, strong feedback": lambda: lifted(Terms(gamma=1.0)),
    "tied, output too": lambda: lifted(Terms(gamma=0.3, output_reconstructs=True), output_gain=2.0),
    "biases": lambda: lifted(Terms(gamma=0.5, biases=True)),
    "untied": lambda: lifted(Terms(gamma=0.5, tied=False)),
    "untied, biases, output too": lambda: lifted(
        Terms(0.5, regression=2.0, reconstruction=0.5, tied=False, biases=True, output_reconstructs=True)
    ),
    "regression alone": lambda: lifted(Terms(gamma=0.5, reconstruction=0.0), output_gain=0.5),
    "unequal weights": lambda: lifted(Terms(gamma=0.5, regression=2.0, reconstruction=0.5)),
    "hard sigmoid": lambda: lifted(Terms(gamma=0.5), mlp(lambda: nn.Hardtanh(0, 1))),
    "mixed boxes": lambda: lifted(Terms(gamma=0.5, output_reconstructs=True), mixed(), output_gain=2.0),
    "linear": lambda: lifted(Terms(gamma=0.5), mlp(nn.Identity)),
    "one layer": lambda: lifted(Terms(output_reconstructs=True), mlp(widths=(5, 3))),
    "no biases": lambda: lifted(Terms(gamma=0.5), without_biases()),
}


SOME = {name: NETWORKS[name] for name in ("untied, biases, output too", "regression alone", "mixed boxes")}
"""Those that between them have everything."""


def without_biases() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(5, 6, bias=False), nn.ReLU(), nn.Linear(6, 3, bias=False))


def batch(size: int = 3) -> tuple[Tensor, Tensor]:
    """Five inputs and three outputs."""
    return torch.randn(size, 5), torch.randn(size, 3)


@torch.no_grad()
def predict(net: Lifted, x: Tensor) -> Tensor:
    return net(x)


# --- from the library's objects to those of the reference, and back ---


def as_reference(net: Lifted) -> reference.Net:
    pairs = [net.autoencoder(k) for k in range(1, net.depth + 1)]

    def numbers(tensor: Tensor | None, units: int) -> np.ndarray:
        return np.zeros(units) if tensor is None else tensor.detach().numpy()

    return reference.Net(
        [numbers(pair.W, 0) for pair in pairs],
        [numbers(pair.b, len(pair.W)) for pair in pairs],
        [numbers(pair.V, 0) for pair in pairs],
        [numbers(pair.c, len(pair.V)) for pair in pairs],
        net.terms.regression,
        [pair.rho for pair in pairs],
        net.terms.gamma,
        [(activation.lower, activation.upper) for activation in net.activations],
        net.output_gain,
    )


def by_reference(
    rule: Callable[..., reference.Gradient], net: Lifted, x: Tensor, y: Tensor, *options: float
) -> Gradients:
    """The mean over a batch of what a rule of the reference makes of every sample."""
    slow = as_reference(net)
    samples = [rule(slow, a, b, *options) for a, b in zip(x.numpy(), y.numpy(), strict=True)]
    mean = reference.combine([1 / len(samples)] * len(samples), samples)
    grads: Gradients = {}
    for k, map_ in enumerate(net.maps):
        tied = torch.as_tensor(mean.V[k].T) if net.terms.tied else 0
        grads[map_.weight] = torch.as_tensor(mean.W[k]) + tied
        if map_.bias is not None:
            grads[map_.bias] = torch.as_tensor(mean.b[k])
    grads |= {V: torch.as_tensor(mean.V[k]) for k, V in enumerate(net.V)}
    return grads | {c: torch.as_tensor(mean.c[k]) for k, c in enumerate(net.c)}


def minima(net: Lifted, x: Tensor, outputs: Tensor | None = None) -> list[Tensor]:
    """The states of all layers by the reference, `(batch, units)`; outputs free or held."""
    slow, held = as_reference(net), [None] * len(x) if outputs is None else list(outputs.numpy())
    samples = [reference.minimise(slow, a, output=o) for a, o in zip(x.numpy(), held, strict=True)]
    return [torch.tensor(np.stack(layer)) for layer in zip(*samples, strict=True)]


def tensors(states: States) -> list[Tensor]:
    return [state.mean() for state in states]


def activities(layers: Sequence[Tensor]) -> States:
    return [Activity(layer) for layer in layers]


def kkt(net: Lifted, x: Tensor, states: States, *, clamped: bool = False) -> float:
    """The largest change of any neuron in a step down the energy's slope, by autograd, and back into its box.

    The slope of a layer is taken in units of its own autoencoder, by dividing by `gamma^(k-L)`.
    """
    z = [state.mean().detach().requires_grad_() for state in states]
    slopes = torch.autograd.grad(net.energy([x.flatten(1), *z]).sum(), z)
    worst = 0.0
    for k, (layer, slope, activation) in enumerate(zip(z, slopes, net.activations, strict=True), 1):
        if k < net.depth or not clamped:
            stepped = (layer - slope / net.discount(k)).clamp(activation.lower, activation.upper)
            worst = max(worst, float((stepped - layer).detach().abs().max()))
    return worst


# --- comparisons ---


def error(ours: Mapping[Tensor, Tensor], exact: Mapping[Tensor, Tensor]) -> float:
    """The largest error of any parameter's gradient, relative to that gradient, or to 1e-3 where it vanishes."""
    assert set(ours) == set(exact)
    return max(float((ours[p] - exact[p]).norm() / exact[p].norm().clamp(min=1e-3)) for p in exact)
