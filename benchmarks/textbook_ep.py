"""Equilibrium propagation as a textbook writes it: the loop that one would write without this library.

    E(s) = sum_k [ 1/2 |s_k|^2 - <s_k, W_k s_{k-1} + b_k> ],    hidden units in [0, 1],    l = 1/2 |s_L - y|^2

A layer asks all its neighbours anew whenever it moves, the clamped input among them; the three phases follow one
another; the gradient is a difference of Hebbian products. It takes the same steps as `EquilibriumPropagation` does, in
the same order, and so reaches the same numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class TextbookEP:
    """Centred equilibrium propagation in a symmetric layered network with hard-sigmoid units and a linear readout.

    Args:
        layers: the linear maps, from the bottom up.
        beta: the nudging strength.
        iterations: of every phase; an iteration updates the odd layers, then the even ones.
    """

    layers: Sequence[nn.Linear]
    beta: float
    iterations: int

    @torch.no_grad()
    def backward(self, x: Tensor, y: Tensor) -> None:
        """Add the gradient of the batch's mean loss to every `p.grad`.

        Args:
            x: inputs `(batch, inputs)`.
            y: targets `(batch, outputs)`, real.
        """
        silent = [x.new_zeros(len(x), layer.out_features) for layer in self.layers]
        free = self.relax([x, *silent], y, 0.0)
        plus, minus = self.relax(free, y, self.beta), self.relax(free, y, -self.beta)
        scale = 2 * self.beta * len(x)
        for k, layer in enumerate(self.layers, 1):
            _add(layer.weight, (minus[k].T @ minus[k - 1] - plus[k].T @ plus[k - 1]) / scale)
            _add(layer.bias, (minus[k] - plus[k]).sum(0) / scale)

    def relax(self, states: Sequence[Tensor], y: Tensor, nudge: float) -> list[Tensor]:
        """Return the states `[x, s_1, ..., s_L]` after relaxing with the output nudged."""
        s, depth = list(states), len(self.layers)
        for _ in range(self.iterations):
            for group in (range(1, depth + 1, 2), range(2, depth + 1, 2)):
                drives = {k: self.drive(k, s) for k in group}
                for k, drive in drives.items():
                    s[k] = drive.clamp(0, 1) if k < depth else (drive + nudge * y) / (1 + nudge)
        return s

    def drive(self, k: int, s: Sequence[Tensor]) -> Tensor:
        """Return `s_k - dE/ds_k`: what all the neighbours of layer k send to it."""
        drive = s[k - 1] @ self.layers[k - 1].weight.T + self.layers[k - 1].bias
        return drive if k == len(self.layers) else drive + s[k + 1] @ self.layers[k].weight


def _add(parameter: Tensor, grad: Tensor) -> None:
    parameter.grad = grad if parameter.grad is None else parameter.grad + grad
