"""Lipschitz constants of lifted regression/reconstruction networks (paper A, section 3).

Given the layer below, `x`, a layer is `z = argmin 1/2 <z, H z> - <z, U x> + g(z)` with a convex g: its box, and the
least energy of all that lies above. For two `x` that differ by d and their `z` that differ by D, monotonicity of the
subgradients of g gives

    <D, H D>  <=  <D, U d>                                                                                  (*)

Tied weights have `H = kappa I + rho W W^T` and `U = (kappa + rho) W`. With `w = |W^T D| <= |W| |D|`, (*) is at most
`kappa |D|^2 + rho w^2 <= (kappa + rho) w |d|`, whence

    |D| <= (kappa + rho) s / (kappa + rho s^2) |d|,      s = min(|W|, sqrt(kappa / rho)) .

That is never more than `(kappa + rho) / (2 sqrt(kappa rho))`, which is 1 for equal weights; and `|W|` without
reconstruction. For weights of their own, (*) puts D into an ellipsoid around `H^-1 U d / 2`:

    |D| <= 1/2 ( |H^-1 U| + |H^-1/2 U| / sqrt(lambda_min(H)) ) |d| .
"""

from dataclasses import dataclass
from math import prod, sqrt

import torch
from torch import Tensor

from dyadnet.network.autoencoder import Autoencoder
from dyadnet.network.lifted import Lifted


@dataclass(frozen=True)
class LipschitzBounds:
    """How far the states and the output of a lifted network can move with its inputs.

    They hold for Euclidean norms and exact minima, free or under any teaching of the output.

    Attributes:
        layers: of every layer, from the layer below.
        states: of every layer, from the inputs: the products of those.
        output: of the prediction, with the output gain.
    """

    layers: tuple[float, ...]
    states: tuple[float, ...]
    output: float


@torch.no_grad()
def lipschitz_bounds(net: Lifted) -> LipschitzBounds:
    """Return upper bounds of the Lipschitz constants of a lifted network.

    >>> from torch import nn
    >>> from dyadnet import Layered
    >>> model = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1))
    >>> _ = [nn.init.constant_(model[i].weight, 3.0) for i in (0, 2)]
    >>> lipschitz_bounds(Lifted(Layered.from_sequential(model), output_gain=2.0))
    LipschitzBounds(layers=(1.0, 3.0), states=(1.0, 3.0), output=6.0)
    """
    layers = [_bound(net.autoencoder(k), tied=net.terms.tied) for k in range(1, net.depth + 1)]
    states = tuple(prod(layers[: k + 1]) for k in range(net.depth))
    return LipschitzBounds(tuple(layers), states, net.output_gain * states[-1])


def _bound(pair: Autoencoder, *, tied: bool) -> float:
    """The bound from the lower to the upper layer of an autoencoder."""
    kappa, rho = pair.kappa, pair.rho
    if tied or rho == 0:
        s = _norm(pair.W) if rho == 0 else min(_norm(pair.W), sqrt(kappa / rho))
        return (kappa + rho) * s / (kappa + rho * s * s)
    values, vectors = torch.linalg.eigh(pair.upper()[0].double())
    turned = vectors.T @ pair.coupling().double()
    exact, root = turned / values[:, None], turned / values.sqrt()[:, None]
    return (_norm(exact) + _norm(root) / float(values[0].sqrt())) / 2


def _norm(matrix: Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrix.double(), 2))
