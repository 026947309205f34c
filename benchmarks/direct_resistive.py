"""Equilibrium propagation in a resistive network as its equations read: the loop that one would write first.

    v_j = clip( (sum_i g^k_ij v_i + sum_l g^{k+1}_jl v_l + b_j) / (sum_i g^k_ij + sum_l g^{k+1}_jl) )
    dE/dg_ij = 1/2 (v_i - v_j)^2

A layer asks all its neighbours anew whenever it moves, the clamped sources among them, and adds up its conductances;
the two nudged phases follow one another; the squares of the voltages across all resistors are a tensor `(batch, below,
above)` for every phase. It takes the same steps as `EquilibriumPropagation` does, in the same order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class DirectResistive:
    """Centred equilibrium propagation in a passive circuit of ideal diodes.

    Args:
        conductances: `(below, above)`, the lowest from twice the inputs.
        currents: `(above,)`.
        input_gain: what the inputs are multiplied with.
        beta: the nudging strength.
        iterations: of every phase; an iteration updates the odd layers, then the even ones.
    """

    conductances: Sequence[Tensor]
    currents: Sequence[Tensor]
    input_gain: float
    beta: float
    iterations: int

    @torch.no_grad()
    def backward(self, x: Tensor, y: Tensor) -> None:
        """Set every `p.grad` to the gradient of the batch's mean loss.

        Args:
            x: inputs `(batch, inputs)`.
            y: targets `(batch, outputs)`, real.
        """
        sources = self.input_gain * torch.cat([x, -x], 1)
        free = self.relax([sources, *(x.new_zeros(len(x), len(b)) for b in self.currents)], y, 0.0)
        plus, minus = self.relax(free, y, self.beta), self.relax(free, y, -self.beta)
        for k, (g, b) in enumerate(zip(self.conductances, self.currents, strict=True), 1):
            difference = squares(plus[k - 1], plus[k]) - squares(minus[k - 1], minus[k])
            g.grad = difference / (2 * self.beta)
            b.grad = (minus[k] - plus[k]).mean(0) / (2 * self.beta)

    def relax(self, voltages: Sequence[Tensor], y: Tensor, nudge: float) -> list[Tensor]:
        """Return the voltages of all layers after relaxing with the output nudged."""
        v, depth = list(voltages), len(self.conductances)
        for _ in range(self.iterations):
            for group in (range(1, depth + 1, 2), range(2, depth + 1, 2)):
                for k in group:
                    v[k] = self.settled(k, v, y, nudge)
        return v

    def settled(self, k: int, v: Sequence[Tensor], y: Tensor, nudge: float) -> Tensor:
        """Return layer k where the currents into its nodes balance."""
        below, last = self.conductances[k - 1], k == len(self.conductances)
        current, stiffness = v[k - 1] @ below + self.currents[k - 1], below.sum(0)
        if last:
            return (current + nudge * y) / (stiffness + nudge)
        above = self.conductances[k]
        drive = (current + v[k + 1] @ above.T) / (stiffness + above.sum(1))
        half = (drive.shape[1] + 1) // 2
        return torch.cat([drive[:, :half].clamp(min=0), drive[:, half:].clamp(max=0)], 1)


def squares(below: Tensor, above: Tensor) -> Tensor:
    """Return half the squares of the voltages across all resistors, their mean over the batch."""
    return ((below[:, :, None] - above[:, None]) ** 2).mean(0) / 2
