"""Two layers next to each other as an autoencoder: the upper one regresses on the lower one and reconstructs it.

    E(x, z) = kappa/2 |z - W x - b|^2 + rho/2 |x - V z - c|^2

As a function of z it is `1/2 <z, H z> - <z, U x + r>`, as one of x `1/2 <x, H x> - <x, U^T z + r>`, up to constants:

    upper layer    H = kappa I + rho V^T V      r = kappa b - rho V^T c      U = kappa W + rho V^T
    lower layer    H = rho I + kappa W^T W      r = rho c - kappa W^T b
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn.functional import linear


@final
@dataclass(frozen=True, eq=False)
class Autoencoder:
    """The energy between two layers; `rho = 0` is regression alone.

    Attributes:
        W: weights of the regression, `(units, units below)`.
        b: its biases, `(units,)`, or None.
        V: weights of the reconstruction, `(units below, units)`.
        c: its biases, `(units below,)`, or None.
        kappa, rho: how much the two count.
    """

    W: Tensor
    b: Tensor | None
    V: Tensor
    c: Tensor | None
    kappa: float
    rho: float

    def energy(self, x: Tensor, z: Tensor) -> Tensor:
        """Return `E` for every row of `z`.

        Args:
            x: states of the lower layer, `(batch, units below)`.
            z: states of the upper layer, `(batch, units)`, or copies of the batch one after another.
        """
        copies = len(z) // len(x)
        value = self.kappa / 2 * (z - linear(x, self.W, self.b).repeat(copies, 1)).square().sum(1)
        if self.rho == 0:
            return value
        return value + self.rho / 2 * (x.repeat(copies, 1) - self.decode(z)).square().sum(1)

    def decode(self, z: Tensor) -> Tensor:
        """Return `V z + c`."""
        return linear(z, self.V, self.c)

    def regression_slopes(self, x: Tensor, z: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return the derivatives of `sum_i weights_i E_i` in W (the first term alone, should V depend on it) and b.

        Args:
            x, z: as for `energy`.
            weights: one a row of `z`.
        """
        copies = len(z) // len(x)
        e = weights[:, None] * (linear(x, self.W, self.b).repeat(copies, 1) - z)
        e = self.kappa * e.unflatten(0, (copies, -1)).sum(0)
        return e.T @ x, e.sum(0)

    def reconstruction_slopes(self, x: Tensor, z: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return those in V and c."""
        d = self.decode(z) - x.repeat(len(z) // len(x), 1)
        weights = self.rho * weights
        return d.T @ (weights[:, None] * z), weights @ d

    def coupling(self) -> Tensor:
        """Return `U`, `(units, units below)`."""
        return self.kappa * self.W + self.rho * self.V.T if self.rho else self.kappa * self.W

    def upper(self) -> tuple[Tensor, Tensor]:
        """Return `H` and `r` of the upper layer."""
        hessian, sent = self.kappa * _eye(self.W), self.kappa * _or_zeros(self.b, self.W[:, 0])
        if self.rho == 0:
            return hessian, sent
        sent = sent if self.c is None else sent - self.rho * (self.V.T @ self.c)
        return torch.addmm(hessian, self.V.T, self.V, alpha=self.rho), sent

    def lower(self) -> tuple[Tensor, Tensor]:
        """Return `H` and `r` of the lower layer."""
        hessian, sent = self.rho * _eye(self.V), self.rho * _or_zeros(self.c, self.V[:, 0])
        sent = sent if self.b is None else sent - self.kappa * (self.W.T @ self.b)
        return torch.addmm(hessian, self.W.T, self.W, alpha=self.kappa), sent


def _eye(rows: Tensor) -> Tensor:
    return torch.eye(len(rows), dtype=rows.dtype, device=rows.device)


def _or_zeros(biases: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if biases is None else biases
