"""Acceleration of whole passes by momentum (Nesterov 1983; with projections Beck and Teboulle 2009).

A pass takes the states `y_t` to `s_{t+1}`; the next one starts from

    y_{t+1} = s_{t+1} + m_t (s_{t+1} - s_t)

with a constant `m`, or with `m_t = (u_t - 1) / u_{t+1}`, `u_{t+1} = (1 + sqrt(1 + 4 u_t^2)) / 2`, `u_1 = 1`. Then a
sample whose pass turned against its last movement, `<y_t - s_{t+1}, s_{t+1} - s_t> > 0`, has gone too far, and its `u`
begins anew (O'Donoghue and Candes 2015).
"""

import torch
from torch import Tensor

from dyadnet.network.state import AbstractMovable, AbstractState

Parts = dict[int, list[Tensor]]


class Momentum:
    """The memory of an accelerated relaxation.

    Args:
        constant: the momentum; None lets it grow.
    """

    def __init__(self, constant: float | None) -> None:
        self.constant = constant
        self.last: dict[int, AbstractState] = {}
        self.u: Tensor | float = 1.0  # of every sample, once there is any

    def mix(self, before: dict[int, AbstractState], states: dict[int, AbstractState]) -> None:
        """Let states go on as they have moved from one pass to the next.

        Args:
            before: where the pass began.
            states: what it reached; changed in place.
        """
        last, self.last = self.last or before, dict(states)
        moved = {k: _difference(state, last.get(k)) for k, state in states.items()}
        moves: Parts = {k: move for k, move in moved.items() if move is not None}
        if not moves:
            return
        momentum = self._grown(before, moves) if self.constant is None else self.constant
        for k, move in moves.items():
            state = states[k]
            assert isinstance(state, AbstractMovable)
            ahead = [_ahead(part, step, momentum) for part, step in zip(state.parts(), move, strict=True)]
            states[k] = state.of_parts(ahead)

    def _grown(self, before: dict[int, AbstractState], moves: Parts) -> Tensor:
        """The momentum of every sample, `(batch,)`."""
        back = {k: _difference(before[k], self.last[k]) or [] for k in moves}
        pairs = [pair for k, move in moves.items() for pair in zip(back[k], move, strict=True)]
        turned = sum((one * other).flatten(1).sum(1) for one, other in pairs) > 0
        u = torch.where(torch.as_tensor(turned), 1.0, self.u)
        self.u = (1 + (1 + 4 * u * u).sqrt()) / 2
        return (u - 1) / self.u


def _difference(new: AbstractState, old: AbstractState | None) -> list[Tensor] | None:
    """How far the parts of a state lie from those of another; None where nothing can have moved."""
    if new is old or not isinstance(new, AbstractMovable) or not isinstance(old, AbstractMovable):
        return None
    return [n - o for n, o in zip(new.parts(), old.parts(), strict=True)]


def _ahead(part: Tensor, step: Tensor, momentum: Tensor | float) -> Tensor:
    """A part that goes on along its last step."""
    if not isinstance(momentum, Tensor):
        return torch.add(part, step, alpha=momentum)
    return torch.addcmul(part, step, momentum.view(-1, *[1] * (part.dim() - 1)).to(part.dtype))
