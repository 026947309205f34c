"""What can be promised of a recurrent network before it runs: existence, uniqueness, robustness and speed of settling.

For nondecreasing activations with slopes up to `L_f`, two equilibria for input drives `b` and `b'` satisfy

    (1/L_f) |s - s'|^2  <=  <s - s', sym(W)(s - s')> + <s - s', b - b'>

so that with the margin `m = 1/L_f - lambda_max(sym W) > 0` the equilibrium exists, is unique, and
`|s - s'| <= |b - b'| / m` (the condition of monotone equilibrium networks, Winston and Kolter 2020). A skew W has
`m = 1/L_f` for any size of its weights: Lipschitz-1 for `L_f = 1` (thesis section 4.2). The network from inputs to
states has the constant `|theta_0| / m`.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from dyadnet.network.base import AbstractHopfield
from dyadnet.network.layered import Layered
from dyadnet.relax.relaxation import step_factor
from dyadnet.relax.schedule import Parallel

Vectors = dict[int, Tensor]


@dataclass(frozen=True)
class Certificate:
    """What is certain, and how fast states settle.

    Attributes:
        margin: `m = 1/L_f - lambda_max(sym W)`.
        unique: whether the equilibrium exists and is unique for every input (certain where `m > 0` or without loops).
        lipschitz_states: of the map from the input drive to the states (the output among them), `1/m`; None where
            `m <= 0`.
        rate: by which the chosen solver shrinks the distance to the equilibrium in a pass, on the linear network with
            every slope at `L_f`; below 1 it settles.
        energy_decreases: whether every update of the chosen schedule and solver lowers an energy.
    """

    margin: float
    unique: bool
    lipschitz_states: float | None
    rate: float
    energy_decreases: bool

    @property
    def settles(self) -> bool:
        """Whether the chosen solver reaches the equilibrium."""
        return self.rate < 1


def certify(net: AbstractHopfield, x: Tensor) -> Certificate:
    """Return the certificate of a network.

    Args:
        net: the network; maps with pooling are taken at their switches for `x`.
        x: one input or more, of which the first gives the shapes.

    Raises:
        ValueError: naming the activation, if one is not monotone: nothing is certain then.

    >>> from dyadnet.network.dense import Dense
    >>> found = certify(Dense(3, 8, 2, structure="skew", scale=5.0), torch.zeros(1, 3))
    >>> found.margin, found.unique, found.lipschitz_states
    (1.0, True, 1.0)
    """
    for activation in net.activations:
        if not activation.monotone:
            raise ValueError(
                f"{activation.name} is not monotone: no certificate exists; take relu, tanh or hard-sigmoid"
            )
    slope = max(activation.slope for activation in net.activations)
    margin = 1 / slope - largest_eigenvalue(net, x[:1])
    factor = step_factor(net.relaxation.solver, net.wire(x[:1]))
    return Certificate(
        margin=margin,
        unique=margin > 0 or (isinstance(net, Layered) and net.gain == 0),
        lipschitz_states=1 / margin if margin > 0 else None,
        rate=settling_rate(net, x[:1], slope),
        energy_decreases=net.energy_missing() is None
        and factor == 1
        and not isinstance(net.relaxation.schedule, Parallel),
    )


@torch.no_grad()
def largest_eigenvalue(net: AbstractHopfield, x: Tensor) -> float:
    """Return the largest eigenvalue of `sym(W) = (1 + c)/2 (theta + theta^T)`, by Lanczos iteration."""
    share = (1 + net.gain) / 2
    if share == 0:
        return 0.0
    wiring = net.wire(x).probe()
    shapes = {k: wiring.state(k).mean() for k in range(1, wiring.depth + 1)}
    size = sum(like.numel() for like in shapes.values())

    def apply(flat: np.ndarray) -> np.ndarray:
        vectors = _unflat(flat, shapes)
        sent = [wiring.couple(k, vectors, share, share) for k in shapes]
        return np.concatenate([_numbers(part, like) for part, like in zip(sent, shapes.values(), strict=True)])

    if size < 3:  # too small for Lanczos iteration
        matrix = np.stack([apply(row) for row in np.eye(size)])
        return float(np.linalg.eigvalsh(matrix)[-1])
    operator = LinearOperator((size, size), matvec=apply, dtype=np.float64)  # pyright: ignore
    start = np.random.default_rng(0).standard_normal(size)
    return float(eigsh(operator, k=1, which="LA", v0=start, return_eigenvectors=False)[0])


@torch.no_grad()
def settling_rate(net: AbstractHopfield, x: Tensor, slope: float, passes: int = 60) -> float:
    """Return the factor by which the chosen solver shrinks a distance in a pass, all slopes being `slope`.

    Acceleration is not counted: it is measured as the damped iteration under it.
    """
    wiring = net.wire(x).probe()
    factor = step_factor(net.relaxation.solver, wiring)
    order, noise = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)
    v: Vectors = {k: torch.randn_like(wiring.state(k).mean(), generator=noise) for k in range(1, wiring.depth + 1)}
    sizes = []
    for _ in range(passes):
        for group in net.relaxation.schedule.one_pass(wiring.depth, order):
            sent = {k: wiring.couple(k, v, 1.0, net.gain) for k in group}
            for k, part in sent.items():
                v[k] = torch.lerp(v[k], torch.zeros_like(v[k]) if part is None else slope * part, factor)
        size = sum(float(part.square().sum()) for part in v.values()) ** 0.5
        if size == 0:
            return 0.0
        sizes.append(size)
        v = {k: part / size for k, part in v.items()}
    half = sizes[passes // 2 :]
    return float(np.exp(np.mean(np.log(half))))


def _unflat(flat: np.ndarray, shapes: Vectors) -> Vectors:
    """One vector of all units as one tensor a layer."""
    vectors, start = {}, 0
    for k, like in shapes.items():
        vectors[k] = torch.from_numpy(flat[start : start + like.numel()].copy()).to(like).view(like.shape)
        start += like.numel()
    return vectors


def _numbers(part: Tensor | None, like: Tensor) -> np.ndarray:
    return (torch.zeros_like(like) if part is None else part).flatten().double().cpu().numpy()
