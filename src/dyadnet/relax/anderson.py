"""Anderson acceleration of whole passes, sample by sample.

A pass maps states `x` to `g(x)`. From the last few pairs, the combination of the `g(x_i)` with weights that sum to 1
and make the combined residual `sum_i alpha_i (g(x_i) - x_i)` shortest is the next iterate (Walker and Ni 2011).

Far from the equilibrium such steps can go astray for ever. Where passes settle by themselves, acceleration is guarded:
a sample whose residual has become longer takes the plain pass and forgets what lies before it.
"""

from collections import deque
from typing import final

import torch
from torch import Tensor

from dyadnet.relax.mixing import AbstractMixer


@final
class Mixer(AbstractMixer):
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

    def combine(self, old: Tensor, reached: Tensor) -> Tensor:
        """Return the best combination."""
        self.reached.append(reached)
        self.gaps.append(reached - old)
        return self._combined()

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
