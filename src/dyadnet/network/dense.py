"""Densely connected networks: units hear one another, `s = f(W s + theta_0 x + b)`, zero diagonal (thesis eq. 4.5).

The weights are `W = theta + c theta^T`, where a mask says which entries of `theta` exist:

    free              any W                theta off the diagonal,   c = 0
    lower             feedforward          theta below the diagonal, c = 0
    symmetric         Hopfield             theta below the diagonal, c = 1
    skew              Lipschitz-1          theta below the diagonal, c = -1
    interpolated      W_lam                theta below the diagonal, c = 2 lam - 1
"""

import copy
from math import sqrt
from typing import Literal, final

import torch
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn

from dyadnet.activation import Activation, recognise
from dyadnet.network.base import AbstractHopfield
from dyadnet.network.blocks import as_blocks
from dyadnet.network.layered import Layered
from dyadnet.network.linearisation import Gradients
from dyadnet.network.state import AbstractState, Activity, States
from dyadnet.network.wiring import AbstractCoupling, over
from dyadnet.relax.lanczos import norm_from_below
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.schedule import AbstractSchedule, Parallel
from dyadnet.relax.solver import Anderson

Structure = Literal["free", "lower", "symmetric", "skew", "interpolated"]


@final
class Dense(AbstractHopfield):
    """A densely connected network; the last units are its outputs.

    Args:
        inputs: how many inputs there are; larger inputs are flattened.
        units: how many units, the outputs included.
        outputs: how many of them are outputs.
        structure: of the connectivity, as at the head of this file.
        lam: the feedback parameter of `interpolated`.
        mask: a boolean `(units, units)` instead of the structure's own: which entries of `theta` exist.
        activation: of the hidden units.
        readout: the activation of the outputs; linear by default.
        scale: the spectral norm that `W` starts with.
        relaxation: how states reach equilibrium; None stands for simultaneous updates with Anderson acceleration.

    >>> net = Dense(4, 6, 2, structure="skew")
    >>> W = net.connectivity()
    >>> bool((W == -W.T).all()), tuple(net(torch.zeros(3, 4)).shape)
    (True, (3, 2))
    """

    def __init__(
        self,
        inputs: int,
        units: int,
        outputs: int,
        structure: Structure = "free",
        *,
        lam: float = 0.5,
        mask: Tensor | None = None,
        activation: nn.Module | None = None,
        readout: nn.Module | None = None,
        scale: float = 0.9,
        relaxation: Relaxation | None = None,
    ) -> None:
        super().__init__()
        if not 0 < outputs < units:
            raise ValueError(f"{units} units cannot have {outputs} outputs and hidden units besides")
        self.outputs, self.structure = outputs, structure
        self.relaxation = relaxation or Relaxation(schedule=Parallel(), solver=Anderson())
        self.gain = _gain(structure, lam)
        self.activations = (_known(activation or nn.Hardtanh(0, 1)), _known(readout or nn.Identity()))
        self.theta = nn.Parameter(torch.empty(units, units))
        self.theta_0 = nn.Parameter(torch.empty(units, inputs))
        self.bias = nn.Parameter(torch.zeros(units))
        self.mask: Tensor
        self.register_buffer("mask", _mask(structure, units) if mask is None else _checked(mask, units))
        nn.init.kaiming_normal_(self.theta_0, nonlinearity="linear")
        nn.init.normal_(self.theta)
        with torch.no_grad():
            self.theta.mul_(self.mask)
            self.theta.mul_(scale / max(float(torch.linalg.matrix_norm(self.connectivity(), 2)), 1e-12))

    @classmethod
    def from_layered(
        cls, net: Layered, structure: Structure | None = None, *, relaxation: Relaxation | None = None
    ) -> "Dense":
        """Return a densely connected network with copies of the weights of a chain: it has the same equilibria.

        The inputs reach the lowest layer only to begin with; `theta_0` has no mask, and learning opens it to all units.

        Args:
            net: linear maps, with one activation for all hidden layers.
            structure: None keeps the blocks and the symmetry of the chain; `free` opens every connection; the others
                open those below the diagonal, and must have the feedback gain of the chain.
            relaxation: how states reach equilibrium; None stands for the default of `Dense`.

        Raises:
            TypeError: naming the stage, if its map is not linear or its activation is another.
            ValueError: if the structure has another feedback gain, or the chain has no hidden layer.

        >>> chain = Layered.from_sequential(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), lam=0.0)
        >>> [int(Dense.from_layered(chain, structure).mask.sum()) for structure in (None, "skew", "free")]
        [6, 10, 20]
        """
        blocks, kind = as_blocks(net), structure or "interpolated"
        lam = net.lam if kind == "interpolated" else 0.5
        if kind != "free" and _gain(kind, lam) != net.gain:
            raise ValueError(f"lam={net.lam:g} is not structure={kind!r}: change it by with_lam, or take 'free'")
        (units, inputs), mask = blocks.theta_0.shape, None if structure else blocks.mask
        dense = cls(inputs, units, blocks.outputs, kind, lam=lam, mask=mask, relaxation=relaxation).to(blocks.theta)
        dense.activations = blocks.activations
        with torch.no_grad():
            dense.theta.copy_(blocks.theta + net.gain * blocks.theta.T if kind == "free" else blocks.theta)
            dense.theta_0.copy_(blocks.theta_0)
            dense.bias.copy_(blocks.bias)
        return dense

    def connectivity(self) -> Tensor:
        """Return `W`, `(units, units)`; the entry in row i and column j is the connection from j to i."""
        theta = self.masked()
        return theta + self.gain * theta.T if self.gain else theta

    def masked(self) -> Tensor:
        """Return `theta` with nothing where the mask has no entry."""
        return self.theta * self.mask

    def loop_free(self) -> bool:
        """Return whether no unit hears itself along any path: only a gain of 0 and a mask without cycles give that."""
        mask = self.mask.cpu().numpy()
        return self.gain == 0 and connected_components(mask, connection="strong", return_labels=False) == len(mask)

    def bipartite(self) -> bool:
        """Return whether units of the same layer, hidden or output, do not hear one another."""
        hidden = len(self.mask) - self.outputs
        return not bool(self.mask[:hidden, :hidden].any() or self.mask[hidden:, hidden:].any())

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs at equilibrium, `(batch, outputs)`."""
        return self.relax(x).states[-1].mean()

    def wire(self, x: Tensor, states: States | None = None, copies: int = 1) -> "DenseWiring":
        """Return the wiring for one batch."""
        self.check_inputs(x, states, copies)
        return over(self.substrate, DenseWiring(self, x.flatten(1), dict(enumerate(states or (), 1)), copies))

    def changing(self) -> list[str]:
        """Nothing changes between visits."""
        return []

    def coupling(self) -> list[nn.Parameter]:
        """Return `theta`."""
        return [self.theta] if self.theta.requires_grad else []

    def energy_missing(self) -> str | None:
        """Only symmetric connections have an energy, and only monotone activations."""
        for activation in self.activations:
            if not activation.monotone:
                return f"{activation.name} is not monotone: no energy exists"
        if self.gain == 1:
            return None
        return f"a {self.structure} densely connected network has no energy: use Dyadic, or structure='symmetric'"


@final
class DenseWiring(AbstractCoupling):
    """The wiring of a densely connected network: layer 1 holds its hidden units, layer 2 its outputs."""

    depth = 2

    def __init__(self, net: Dense, x: Tensor, states: dict[int, AbstractState], copies: int) -> None:
        self.net, self.copies = net, copies
        self.theta, self.weights = net.masked().detach(), net.connectivity().detach()
        hidden = len(net.bias) - net.outputs
        self.rows = {1: slice(0, hidden), 2: slice(hidden, None)}
        drive = nn.functional.linear(x, net.theta_0, net.bias).detach()
        self.input = drive.repeat(copies, 1)
        silent = {k: Activity(torch.zeros_like(self.input[:, rows])) for k, rows in self.rows.items()}
        self.states: dict[int, AbstractState] = {0: Activity(x)} | silent | states

    def again(self, states: States, copies: int = 1) -> "DenseWiring":
        """Return the wiring of the same inputs and other states."""
        other = copy.copy(self)
        other.copies, other.input = copies, self.input[: len(self.states[0].mean())].repeat(copies, 1)
        other.states = {0: self.states[0]} | dict(enumerate(states, 1))
        return other

    def state(self, k: int) -> AbstractState:
        """Return the state of layer k."""
        return self.states[k]

    def means(self) -> Tensor:
        """Return the means of all units, `(copies * batch, units)`."""
        return torch.cat([self.states[1].mean(), self.states[2].mean()], 1)

    def errors(self) -> Tensor | None:
        """Return the errors of all units."""
        errors = [self.states[k].error() for k in (1, 2)]
        if all(error is None for error in errors):
            return None
        pairs = zip(errors, (1, 2), strict=True)
        return torch.cat([torch.zeros_like(self.states[k].mean()) if e is None else e for e, k in pairs], 1)

    def drive(self, k: int) -> Tensor:
        """Return `(W mean + theta_0 x + b)_k`."""
        rows = self.rows[k]
        return self.input[:, rows] + _times(self.means(), self.weights[rows].T)

    def feedback(self, k: int) -> Tensor | None:
        """Return `(W^T error)_k`."""
        errors = self.errors()
        if errors is None:
            return None
        return _times(errors, self.weights[:, self.rows[k]] if k else self.net.theta_0.detach())

    def couple(self, k: int, vectors: dict[int, Tensor], up: float, down: float) -> Tensor | None:
        """Return `((up theta + down theta^T) v)_k`."""
        if not vectors:
            return None
        rows = self.rows[k]
        parts = [vectors[j] if j in vectors else torch.zeros_like(self.states[j].mean()) for j in (1, 2)]
        return torch.cat(parts, 1) @ (up * self.theta[rows].T + down * self.theta[:, rows])

    def probe(self) -> "DenseWiring":
        """Return the wiring of the first sample, silent."""
        return DenseWiring(self.net, self.states[0].mean()[:1], {}, 1)

    def sent(self, k: int) -> Tensor:
        """Return `(theta mean + theta_0 x + b)_k`."""
        rows = self.rows[k]
        return self.input[:, rows] + _times(self.means(), self.theta[rows].T)

    def discount(self, k: int) -> float:
        """Return 1."""
        return 1.0

    def learn(self, deltas: dict[int, Tensor]) -> Gradients:
        """Return the gradients of `<theta mean + theta_0 x + b, delta>`."""
        delta = torch.cat([deltas[1], deltas[2]], 1)
        inputs = delta.unflatten(0, (self.copies, -1)).sum(0).real
        grads = {
            self.net.theta: (delta.T @ self.means()).real * self.net.mask,
            self.net.theta_0: inputs.T @ self.states[0].mean(),
            self.net.bias: inputs.sum(0),
        }
        return {parameter: grad for parameter, grad in grads.items() if parameter.requires_grad}

    def gradients(self) -> Gradients:
        """Return the gradients that the errors tell."""
        errors, rows = self.errors(), self.rows
        assert errors is not None
        grads = self.learn({k: errors[:, rows[k]] for k in rows})
        if self.net.theta in grads:
            grads[self.net.theta] += self.net.gain * (self.means().T @ errors) * self.net.mask
        return grads

    def best_factor(self, schedule: AbstractSchedule, iterations: int, margin: float) -> float:
        """Return the factor of simultaneous updates for the eigenvalue of W with the largest real part and modulus.

        With every eigenvalue `w` of W in `Re w <= mu < 1`, `|w| <= sigma`, the modulus of `1 - a + a w` is smallest for
        `a = (1 - mu) / ((1 - mu)^2 + sigma^2)`.
        """
        start = torch.randn(len(self.weights), generator=torch.Generator().manual_seed(0)).to(self.weights)
        sigma = margin * norm_from_below(lambda v: self.weights.T @ (self.weights @ v), start, iterations)
        mu = min(0.9, sigma * max(self.net.gain, 0.0) if self.net.gain else sigma / sqrt(2))
        return min(1.0, (1 - mu) / ((1 - mu) ** 2 + sigma**2)) if sigma else 1.0


def _times(rows: Tensor, matrix: Tensor) -> Tensor:
    """A product with a real matrix."""
    if rows.is_complex():
        return torch.complex(rows.real @ matrix, rows.imag @ matrix)
    return rows @ matrix


def _gain(structure: Structure, lam: float) -> float:
    if structure != "interpolated" and lam != 0.5:
        raise ValueError(f"lam belongs to structure='interpolated', not to {structure!r}")
    if not 0 <= lam <= 1:
        raise ValueError(f"lam must lie in [0, 1], not {lam}")
    gains = {"free": 0.0, "lower": 0.0, "symmetric": 1.0, "skew": -1.0, "interpolated": 2 * lam - 1}
    if structure not in gains:
        raise ValueError(f"structure must be one of {', '.join(gains)}, not {structure!r}")
    return gains[structure]


def _mask(structure: Structure, units: int) -> Tensor:
    everything = torch.ones(units, units, dtype=torch.bool)
    return ~torch.eye(units, dtype=torch.bool) if structure == "free" else everything.tril(-1)


def _checked(mask: Tensor, units: int) -> Tensor:
    """A user's mask, without self-connections."""
    if mask.dtype != torch.bool or mask.shape != (units, units):
        raise ValueError(f"a mask must be a boolean ({units}, {units}), not {mask.dtype} {tuple(mask.shape)}")
    if bool(mask.diagonal().any()):
        raise ValueError("a mask must not have self-connections: its diagonal must be False")
    return mask


def _known(module: nn.Module) -> Activation:
    activation = recognise(module)
    if activation is None:
        raise TypeError(f"{type(module).__name__} is not an activation that a layer can have")
    return activation
