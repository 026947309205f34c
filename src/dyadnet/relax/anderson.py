"""Anderson acceleration of whole passes, sample by sample.

A pass maps states `x` to `g(x)`. From the last few pairs, the combination of the `g(x_i)` with weights that sum to 1
and make the combined residual `sum_i alpha_i (g(x_i) - x_i)` shortest is the next iterate (Walker and Ni 2011).
"""

from collections import deque

import torch
from torch import Tensor

from dyadnet.network.state import AbstractState


class Mixer:
    """The memory of an accelerated relaxation."""

    def __init__(self, memory: int) -> None:
        self.reached: deque[Tensor] = deque(maxlen=memory)
        self.gaps: deque[Tensor] = deque(maxlen=memory)

    def mix(self, before: dict[int, AbstractState], states: dict[int, AbstractState]) -> None:
        """Replace the states that a pass reached by their combination with those of earlier passes."""
        layers = sorted(k for k in states if k > 0)
        shapes = [[part.shape for part in states[k].parts()] for k in layers]
        if [[part.shape for part in before[k].parts()] for k in layers if k in before] != shapes:
            return
        reached = _flat(states, layers)
        self.reached.append(reached)
        self.gaps.append(reached - _flat(before, layers))
        if len(self.gaps) < 2:
            return
        combined = self._combined()
        start = 0
        for k in layers:
            parts = []
            for part in states[k].parts():
                size = part[0].numel()
                parts.append(combined[:, start : start + size].reshape(part.shape))
                start += size
            states[k] = states[k].of_parts(parts)

    def _combined(self) -> Tensor:
        """The best combination, `(batch, all parts)`."""
        gaps = torch.stack(list(self.gaps), 1)  # (batch, memory, all parts)
        gram = gaps @ gaps.mT
        scale = gram.diagonal(dim1=1, dim2=2).sum(1)[:, None, None].clamp(min=torch.finfo(gram.dtype).tiny)
        ridge = torch.finfo(gram.dtype).eps * torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
        weights = torch.linalg.solve(gram / scale + ridge, torch.ones_like(gram[:, :, :1]))
        weights = weights / weights.sum(1, keepdim=True)
        return (weights * torch.stack(list(self.reached), 1)).sum(1)


def _flat(states: dict[int, AbstractState], layers: list[int]) -> Tensor:
    """All parts of all layers in one row a sample."""
    return torch.cat([part.flatten(1) for k in layers for part in states[k].parts()], 1)
