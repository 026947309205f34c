"""Spectral norms of a network's maps by power iteration on `J^T J`, at the activities of a batch."""

from functools import partial

import torch
from torch import Tensor

from dyadnet.network.layered import Layered


@torch.no_grad()
def spectral_norms(
    net: Layered, x: Tensor, *, iterations: int = 30, lowest: int = 1, generator: torch.Generator | None = None
) -> list[Tensor]:
    """Return `|J_k|_2` of the maps at the free activities, one value a sample, broadcastable to the lower state.

    Estimates from below; they grow with `iterations` towards the norm.

    Args:
        net: the network.
        x: inputs `(batch, ...)`.
        iterations: of `v <- J^T J v`.
        lowest: the first map whose norm is wanted; that of the inputs, 1, is often the largest and most costly.
        generator: draws the starting vectors; None stands for a fixed seed.

    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False))
    >>> _ = model[0].weight.data.copy_(torch.diag(torch.tensor([3.0, 1.0])))
    >>> spectral_norms(Layered.from_sequential(model), torch.zeros(1, 2))[0]
    tensor([[3.]])
    """
    generator = generator or torch.Generator().manual_seed(0)
    norms, state = [], x
    for k, stage in enumerate(net.stages, 1):
        at = stage.linearise(partial(_same, state))
        v = torch.randn(state.shape[1:], generator=generator).to(state).expand_as(state)
        for _ in range(iterations if k >= lowest else 0):
            v = v / _norm(v).clamp(min=torch.finfo(v.dtype).tiny)
            v = at.feedback(at.push(v))
        norms += [_norm(v).sqrt()] if k >= lowest else []
        state = stage.activation.f(at.value)
    return norms


def _same(state: Tensor) -> Tensor:
    return state


def _norm(v: Tensor) -> Tensor:
    """Euclidean norm of every sample, broadcastable to it."""
    return torch.linalg.vector_norm(v, dim=tuple(range(1, v.dim())), keepdim=True)
