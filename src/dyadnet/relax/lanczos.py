"""Norms from a few products with a matrix, by Lanczos iteration: as many as power iteration takes, and far closer."""

from collections.abc import Callable
from math import nan, sqrt

import torch
from torch import Tensor


@torch.no_grad()
def norm_from_below(gram: Callable[[Tensor], Tensor], start: Tensor, iterations: int) -> float:
    """Return the square root of the largest Ritz value of `A^T A`, from below the norm of `A`; NaN if it overflows.

    On the span of `v, A^T A v, ...`, kept orthonormal, `A^T A` is tridiagonal; its largest eigenvalue there tells top
    singular values apart that power iteration mixes for long.

    Args:
        gram: multiplies a vector by `A^T A`.
        start: a vector `(n,)`, not zero.
        iterations: products made, at most n.

    >>> A = torch.diag(torch.tensor([3.0, 2.9, 1.0]))
    >>> round(norm_from_below(lambda v: A @ (A @ v), torch.ones(3), 3), 4)
    3.0
    """
    v, basis, diagonal, beside = _unit(start)[0], start.new_empty(0, len(start)), [], []
    for _ in range(min(iterations, len(start))):
        basis = torch.cat([basis, v[None]])
        w = gram(v)
        diagonal.append(w @ v)
        for _ in range(2):  # once leaves what rounding made of large components
            w = w - basis.T @ (basis @ w)
        v, size = _unit(w)
        spent = size <= len(w) * torch.finfo(w.dtype).eps * torch.stack(diagonal).amax()  # what is left is rounding
        v, size = v.where(~spent, 0), size.where(~spent, 0)
        beside.append(size)
    T = torch.diag(torch.stack(diagonal)) + torch.diag(torch.stack(beside)[:-1], -1)  # eigvalsh reads what is below
    if not T.isfinite().all():
        return nan  # of a network that has left the numbers: those who train it say so
    return sqrt(max(0.0, float(torch.linalg.eigvalsh(T.cpu().double())[-1])))


def _unit(w: Tensor) -> tuple[Tensor, Tensor]:
    size = torch.linalg.vector_norm(w)
    return w / size.clamp(min=torch.finfo(w.dtype).tiny), size
