"""The energy of a resistive network, half the power, and what its conductances learn from voltages at equilibrium.

    dE/dg_ij = (c/A)^(k-L) 1/2 (A v_i - v_j)^2            dE/db_j = -(c/A)^(k-L) v_j

Rules learn from differences of such squares between phases whose voltages hardly differ. As they stand they cancel:
with inputs of hundreds of volts and a nudge of 1e-4, three of four digits of an update in single precision are wrong.
With `d` the voltages less those of the first phase, `(u, v)`, and the weights `w` of the phases,

    sum w (u + d_u)^2               =  W u^2 + sum w d_u (2 u + d_u)                         W = sum w, as a rule 0
    sum w (u + d_u) (v + d_v)^T     =  u (W v + sum w d_v)^T + sum w d_u (v + d_v)^T

and what is the same in all phases, as the sources are, has dropped out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor

from dyadnet.energy.base import AbstractEnergy, Output
from dyadnet.energy.hopfield import under_condition
from dyadnet.network.linearisation import Gradients
from dyadnet.network.quadratic import QuadraticWiring
from dyadnet.network.state import Neuron, States
from dyadnet.network.wiring import AbstractWiring
from dyadnet.relax.relaxation import Relaxation

if TYPE_CHECKING:
    import dyadnet.hardware.resistive  # the network is built on this module


@final
@dataclass(frozen=True)
class Power(AbstractEnergy):
    """Half the power that a resistive network turns into heat, less what its current sources give.

    Args:
        net: the network.
    """

    net: "dyadnet.hardware.resistive.ResistiveNetwork"

    @torch.no_grad()
    def value(self, x: Tensor, states: States) -> Tensor:
        """Return `E`, `(batch,)`."""
        return self.net.energy([x.flatten(1), *(state.mean() for state in states)])

    def wire(self, x: Tensor, states: States | None = None, copies: int = 1) -> QuadraticWiring:
        """Return the network's own wiring."""
        return self.net.wire(x, states, copies)

    def settling(self) -> Relaxation:
        """Return the network's own relaxation."""
        return self.net.relaxation

    def neuron(self, wiring: AbstractWiring, output: Output | None) -> Neuron:
        """Return the exact minimisation over one layer."""
        return under_condition(self.net, wiring.depth, output)

    @torch.no_grad()
    def gradients(self, wiring: AbstractWiring, weights: Sequence[complex]) -> Gradients:
        """Learn from the squares of the voltages across the resistors."""
        copies, circuit = len(weights), self.net.circuit
        x, *layers = [wiring.state(k).mean() for k in range(wiring.depth + 1)]
        v = [self.net.sources(x)[None], *(s.unflatten(0, (copies, -1)) for s in layers)]
        grads: Gradients = {}
        for k, (g, b) in enumerate(zip(self.net.conductances, self.net.currents, strict=True), 1):
            w = [circuit.discount(k - wiring.depth) * weight.real for weight in weights]
            below = v[k - 1] if k == 1 else self.net.gain(k) * v[k - 1]
            dg, db = contrast_of_squares(below, v[k], w)
            grads |= {p: d for p, d in ((g, dg), (b, db)) if p.requires_grad}
        return grads


def contrast_of_squares(u: Tensor, v: Tensor, w: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Return `sum w 1/2 (u_i - v_j)^2`, `(below, above)`, and `-sum w v_j`, summed over the phases and the batch.

    Args:
        u: voltages below, `(phases, batch, below)`, or `(1, batch, below)` if they are the same in all phases.
        v: voltages above, `(phases, batch, above)`.
        w: a weight a phase.

    >>> dg, db = contrast_of_squares(torch.tensor([[[5.0]]]), torch.tensor([[[1.0]], [[2.0]]]), [1.0, -1.0])
    >>> float(dg), float(db)                                # 1/2 (4^2 - 3^2), and 2 - 1
    (3.5, 1.0)
    """
    total, weights = sum(w), v.new_tensor(w)[:, None, None]
    du, sum_v = u - u[0], total * v[0] + (weights * (v - v[0])).sum(0)
    columns = _squares(v, weights, total)
    dg = torch.addmm(columns.expand(u.shape[-1], -1), u[0].T, sum_v, alpha=-1)
    if len(u) > 1:
        dg.addmm_((weights * du)[1:].flatten(0, 1).T, v[1:].flatten(0, 1), alpha=-1)
    if len(u) > 1 or total:
        dg += _squares(u, weights if len(u) > 1 else weights.sum(0, keepdim=True), total)[:, None]
    return dg, -sum_v.sum(0)


def _squares(v: Tensor, weights: Tensor, total: float) -> Tensor:
    """Return `sum w 1/2 v^2` of every node."""
    d = v - v[0]
    return (total * v[0].square().sum(0) + (weights * d * (v + v[0])).sum((0, 1))) / 2
