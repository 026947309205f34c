"""The weights between the units of a network as a matrix on one long vector, and the extreme eigenvalues of such ones.

Small matrices are written out and solved densely. Large ones are known only by what they do to a vector: Lanczos and
Arnoldi iteration (ARPACK) find their extreme eigenvalues.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from math import nan, sqrt

import numpy as np
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigs, eigsh
from torch import Tensor

from dyadnet.network.base import AbstractHopfield
from dyadnet.network.dense import Dense
from dyadnet.network.linearisation import AbstractLinearisation
from dyadnet.network.wiring import AbstractCoupling

Vector = np.ndarray
Apply = Callable[[Vector], Vector]

DENSE_UP_TO = 200
"""The size from which iteration is faster than a dense solver."""


@dataclass(frozen=True)
class Connections:
    """The connections `theta` between all units of a network, layer after layer in one vector.

    Attributes:
        rows: where the units of every layer stand.
        hear: `(k, v, up, down) -> ((up theta + down theta^T) v)_k`.
    """

    rows: dict[int, slice]
    hear: Callable[[int, Vector, float, float], Vector]

    @property
    def size(self) -> int:
        """The number of units."""
        return self.rows[len(self.rows)].stop

    def apply(self, v: Vector, up: float, down: float) -> Vector:
        """Return `(up theta + down theta^T) v`."""
        return np.concatenate([self.hear(k, v, up, down) for k in self.rows])

    @cached_property
    def eigenvalue(self) -> float:
        """The largest eigenvalue of `theta + theta^T`; in a chain, the norm of `theta` between odd and even layers."""
        return largest_eigenvalue(lambda v: self.apply(v, 1.0, 1.0), self.size)


def connections(net: AbstractHopfield, x: Tensor) -> Connections:
    """Return the connections of a network; maps that are not affine are taken at the feedforward activities of `x`."""
    return _of_matrix(net) if isinstance(net, Dense) else _of_wiring(net.wire(x).probe())


def _of_matrix(net: Dense) -> Connections:
    theta = _numbers(net.masked()).reshape(net.theta.shape)
    hidden = len(theta) - net.outputs
    rows = {1: slice(0, hidden), 2: slice(hidden, len(theta))}
    return Connections(rows, lambda k, v, up, down: up * (theta[rows[k]] @ v) + down * (v @ theta[:, rows[k]]))


def _of_wiring(wiring: AbstractCoupling) -> Connections:
    like = {k: wiring.state(k).mean() for k in range(1, wiring.depth + 1)}
    ends = list(accumulate(state.numel() for state in like.values()))
    rows = {k: slice(end - like[k].numel(), end) for k, end in enumerate(ends, 1)}

    def hear(k: int, v: Vector, up: float, down: float) -> Vector:
        vectors = {j: _tensor(v[rows[j]], like[j]) for j in rows}
        sent = wiring.couple(k, vectors, up, down)
        return np.zeros(like[k].numel()) if sent is None else _numbers(sent)

    return Connections(rows, hear)


def map_norm(at: AbstractLinearisation, below: Tensor) -> float:
    """Return the spectral norm of a map's derivative.

    Args:
        at: the map at a point.
        below: a state of the shape of that point, of one sample.

    >>> from dyadnet.network.linearise import linearise
    >>> layer = torch.nn.Linear(2, 3, bias=False)
    >>> _ = layer.weight.data.copy_(torch.tensor([[3.0, 0.0], [4.0, 0.0], [0.0, 2.0]]))
    >>> map_norm(linearise(layer, lambda: torch.zeros(1, 2)), torch.zeros(1, 2))
    5.0
    """

    def gram(v: Vector) -> Vector:
        return _numbers(at.feedback(at.push(_tensor(v, below))))

    return sqrt(max(0.0, largest_eigenvalue(gram, below.numel())))


def largest_eigenvalue(apply: Apply, size: int) -> float:
    """Return the largest eigenvalue of a symmetric matrix.

    >>> largest_eigenvalue(lambda v: v[::-1], 2)
    1.0
    """
    if size <= DENSE_UP_TO:
        return float(np.linalg.eigvalsh(_matrix(apply, size))[-1])
    start = _start(size)
    if not apply(start).any():
        return 0.0
    operator = LinearOperator((size, size), matvec=apply, dtype=np.float64)  # pyright: ignore
    return float(eigsh(operator, k=1, which="LA", v0=start, return_eigenvectors=False)[0])


def spectral_radius(apply: Apply, size: int) -> float:
    """Return the largest modulus of the eigenvalues of a matrix.

    It is nan where iteration does not find it, which happens if very many eigenvalues have the same modulus.

    >>> round(spectral_radius(lambda v: np.array([-3 * v[1], 3 * v[0]]), 2), 9)
    3.0
    """
    if size <= DENSE_UP_TO:
        return float(abs(np.linalg.eigvals(_matrix(apply, size))).max())
    start = _start(size)
    if not apply(start).any():
        return 0.0
    operator = LinearOperator((size, size), matvec=apply, dtype=np.float64)  # pyright: ignore
    try:
        found = eigs(operator, k=1, v0=start, ncv=60, maxiter=100, return_eigenvectors=False)
    except ArpackNoConvergence:
        return nan
    return float(np.abs(found).max())


def _matrix(apply: Apply, size: int) -> np.ndarray:
    """What a matrix makes of the unit vectors, as its columns."""
    return np.stack([apply(unit) for unit in np.eye(size)], axis=1)


def _start(size: int) -> Vector:
    return np.random.default_rng(0).standard_normal(size)


def _tensor(v: Vector, like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(v)).to(like).view_as(like)


def _numbers(part: Tensor) -> Vector:
    return part.detach().flatten().double().cpu().numpy()
