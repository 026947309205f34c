"""Layers that minimise a convex quadratic over boxes, each given the layers next to it.

    z_k = argmin over C_k  1/2 <z, H_k z> - <z, r_k>,        r_k = U_k z_{k-1} + D_k z_{k+1} + d_k

    all at once        z_k <- proj( z_k - (H_k z_k - r_k) / h ),                   h >= |H_k|  (projected gradient)
    one after another  z_ki <- proj( (r_ki - sum_{j != i} H_kij z_kj) / H_kii )    (coordinate descent)

Both lower the quadratic unless the layer minimises it. As the projections on boxes are the activations f (ReLU, clip,
identity), either is a layer of ordinary neurons `z_k = f(u_k)` that hear themselves too: their drive is what stands
between the brackets. What a pass changes is then the residual of the conditions of optimality (Karush, Kuhn, Tucker).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from dyadnet.activation import Activation
from dyadnet.network.linearisation import Gradients
from dyadnet.network.state import AbstractState, Activity, States
from dyadnet.network.wiring import AbstractWiring, over
from dyadnet.relax.schedule import AbstractSchedule, Parallel


@final
@dataclass(frozen=True, eq=False)
class Block:
    """One layer's quadratic, divided by a curvature so that its step is `u = z within + below up + above down + sent`.

    Attributes:
        within: `I - H / curvature`, `(units, units)`; samples are rows. None for units that do not touch one another,
            whose step leads to the minimum itself.
        up: from the layer below, `(units below, units)`.
        down: from the layer above, `(units above, units)`; None for the output.
        sent: what is always sent, `(units,)`, or `(batch, units)` where it holds the inputs' part.
        curvature: a scalar of at least `|H|`, or the diagonal of H for units that move one after another, `(units,)`.
        in_turn: whether they do.
    """

    within: Tensor | None
    up: Tensor
    down: Tensor | None
    sent: Tensor
    curvature: Tensor
    in_turn: bool


def block(hessian: Tensor, up: Tensor, down: Tensor | None, sent: Tensor, *, in_turn: bool) -> Block:
    """Return the block of `1/2 <z, hessian z> - <z, below up + above down + sent>`."""
    curvature = hessian.diagonal() if in_turn else norm_bound(hessian)
    within = torch.eye(len(hessian), dtype=hessian.dtype, device=hessian.device) - hessian / curvature
    return Block(
        within, up / curvature, None if down is None else down / curvature, sent / curvature, curvature, in_turn
    )


def norm_bound(symmetric: Tensor, squarings: int = 3) -> Tensor:
    """Return a bound of the spectral norm from above, `|A^m|_F^(1/m)` with `m = 2^squarings`.

    It exceeds the norm by the `2m`-th root of the number of units at most, and for spectra that fall by a few percent.

    >>> norm_bound(torch.diag(torch.tensor([3.0, 1.0])))
    tensor(3.)
    """
    size = symmetric.norm().clamp(min=torch.finfo(symmetric.dtype).tiny)
    power = symmetric / size
    for _ in range(squarings):
        power = power @ power
    return size * power.norm() ** (1 / 2**squarings)


@final
class QuadraticWiring(AbstractWiring):
    """The wiring of layers with quadratic energies, for one batch.

    Args:
        blocks: from the bottom up; they serve every batch and phase until the weights change.
        activations: the projections on the boxes.
        x: inputs `(batch, inputs)`.
        sent: what the inputs send to the lowest layer, `(copies * batch, units)`, a row for every row of the states.
        states: the states that layers are in; others are silent.
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        activations: Sequence[Activation],
        x: Tensor,
        sent: Tensor,
        states: dict[int, AbstractState],
    ) -> None:
        self.blocks, self.activations, self.depth, self.sent = blocks, activations, len(blocks), sent
        silent = {k: Activity(x.new_zeros(len(sent), b.up.shape[1])) for k, b in enumerate(blocks, 1)}
        self.states: dict[int, AbstractState] = {0: Activity(x)} | silent | states

    def again(self, states: States, copies: int = 1) -> "QuadraticWiring":
        """Return the wiring of the same inputs and other states."""
        x = self.states[0].mean()
        sent = self.sent[: len(x)].repeat(copies, 1)
        held = dict(enumerate(states, 1))
        return over(self.substrate, QuadraticWiring(self.blocks, self.activations, x, sent, held))

    def state(self, k: int) -> AbstractState:
        """Return the state of layer k."""
        return self.states[k]

    def drive(self, k: int) -> Tensor:
        """Return `u_k`, from where the layer and its neighbours are."""
        block, z = self.blocks[k - 1], self.states[k].mean()
        u = self.sent if k == 1 else torch.addmm(block.sent, self.states[k - 1].mean(), block.up)
        if block.down is not None:
            u = torch.addmm(u, self.states[k + 1].mean(), block.down)
        if block.within is None:
            return u
        return self._one_by_one(k, z, u, block.within) if block.in_turn else torch.addmm(u, z, block.within)

    def share_of_others(self, k: int) -> Tensor | None:
        """Return `diag(H_k) / h`: the drive of a step is `(1 - share) z + share (r - sum_{j != i} H_ij z_j) / H_ii`."""
        within = self.blocks[k - 1].within
        return None if within is None else 1 - within.diagonal()

    def _one_by_one(self, k: int, z: Tensor, u: Tensor, within: Tensor) -> Tensor:
        """The states of layer k once every unit has moved; a projection leaves them where they are."""
        units, heard, f = z.T.clone(), u.T, self.activations[k - 1].f
        for i, weights in enumerate(within.T):
            units[i] = f(heard[i] + weights @ units)
        return units.T.contiguous()

    def feedback(self, k: int) -> None:
        """Return None: there are no errors."""

    def gradients(self) -> Gradients:
        """Refuse: there are no errors to learn from.

        Raises:
            TypeError: always.
        """
        raise TypeError("layers that minimise an energy in common have no errors to learn from: use LRRN, or contrasts")

    def best_factor(self, schedule: AbstractSchedule, iterations: int, margin: float) -> float:
        """Return 1, or 1/2 for simultaneous updates.

        The quadratic is at most twice the sum of its blocks, as no odd layers touch one another, and no even ones.
        """
        return 0.5 if isinstance(schedule, Parallel) else 1.0
