"""Anderson acceleration of whole passes, sample by sample.

A pass maps states `x` to `g(x)`. From the last few pairs, the combination of the `g(x_i)` with weights that sum to 1
and make the combined residual `sum_i alpha_i (g(x_i) - x_i)` shortest is the next iterate (Walker and Ni 2011).

Far from the equilibrium such steps can go astray for ever. Where passes settle by themselves, acceleration is guarded:
a sample whose residual has become longer takes the plain pass and forgets what lies before it.
"""

from collections import deque

import torch
from torch import Tensor

from dyadnet.network.state import AbstractMovable, AbstractState


class Mixer:
    """The memory of an accelerated relaxation.

    Args:
        memory: how many passes to combine.
        guarded: whether a longer residual makes a sample begin anew.
    """

    def __init__(self, memory: int, *, guarded: bool = False) -> None:
        self.guarded = guarded
        self.reached: deque[Tensor] = deque(maxlen=memory)
        self.gaps: deque[Tensor] = deque(maxlen=memory)
        self.known: Tensor | None = None  # how many of the last passes each sample may combine

    def mix(self, before: dict[int, AbstractState], states: dict[int, AbstractState]) -> None:
        """Replace the states that a pass reached by their combination with those of earlier passes."""
        old, new = _movable(before), _movable(states)
        if _shapes(old) != _shapes(new):
            return
        reached = _flat(new)
        self.reached.append(reached)
        self.gaps.append(reached - _flat(old))
        combined, start = self._combined(), 0
        for k, state in new.items():
            parts = []
            for part in state.parts():
                size = part[0].numel()
                parts.append(combined[:, start : start + size].reshape(part.shape))
                start += size
            states[k] = state.of_parts(parts)

    def _combined(self) -> Tensor:
        """The best combination, `(batch, all parts)`."""
        gaps = torch.stack(list(self.gaps), 1)  # (batch, memory, all parts)
        usable = self._usable(gaps)
        gram = gaps.conj() @ gaps.mT
        scale = gram.diagonal(dim1=1, dim2=2).real.sum(1)[:, None, None].clamp(min=torch.finfo(gram.dtype).tiny)
        eye = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
        gram = gram / scale + torch.finfo(gram.dtype).eps * eye
        gram = torch.where(usable[:, :, None] & usable[:, None], gram, eye)
        weights = torch.linalg.solve(gram, usable[:, :, None].to(gram.dtype))
        weights = weights / weights.sum(1, keepdim=True)
        return (weights * torch.stack(list(self.reached), 1)).sum(1)

    def _usable(self, gaps: Tensor) -> Tensor:
        """Which of the last passes each sample combines, `(batch, memory)`."""
        batch, passes = gaps.shape[:2]
        known = torch.zeros(batch, dtype=torch.long, device=gaps.device) if self.known is None else self.known
        known = (known + 1).clamp(max=passes)
        recent = torch.arange(passes, 0, -1, device=gaps.device) <= known[:, None]
        if self.guarded and passes > 1:
            lengths = gaps.abs().square().sum(2).sqrt()
            shortest = lengths[:, :-1].where(recent[:, :-1], torch.inf).amin(1)
            known = known.where(lengths[:, -1] <= shortest, 1)
            recent = torch.arange(passes, 0, -1, device=gaps.device) <= known[:, None]
        self.known = known
        return recent


def _movable(states: dict[int, AbstractState]) -> dict[int, AbstractMovable]:
    """The states of the layers, without the input's."""
    return {k: state for k, state in sorted(states.items()) if k > 0 and isinstance(state, AbstractMovable)}


def _shapes(states: dict[int, AbstractMovable]) -> dict[int, list[torch.Size]]:
    return {k: [part.shape for part in state.parts()] for k, state in states.items()}


def _flat(states: dict[int, AbstractMovable]) -> Tensor:
    """All parts of all layers in one row a sample."""
    return torch.cat([part.flatten(1) for state in states.values() for part in state.parts()], 1)
