"""Lifted regression/reconstruction networks (paper A): every two layers next to each other are an autoencoder.

    E(z; x) = sum_k gamma^(k-L) [ kappa/2 |z_k - W_k z_{k-1} - b_k|^2  +  rho_k/2 |z_{k-1} - V_k z_k - c_k|^2 ]

over `z_0 = x` and `z_k` in the range of the activation of layer k: not negative for ReLU, a box for the hard sigmoid.
It is strictly convex, a sum of squares, and its least point is the network's answer, `output_gain * z_L`. A layer
between two others takes part in two autoencoders; divided by `gamma^(k-L)`, it minimises `1/2 <z, H z> - <z, r>` with

    H = H_upper of autoencoder k + gamma H_lower of autoencoder k+1
    r = U_k z_{k-1} + r_upper    + gamma (U_{k+1}^T z_{k+1} + r_lower)

Tied weights, `V_k = W_k^T`, make `z_k` Lipschitz-1 in `z_{k-1}` for `kappa = rho_k` and any W: see `audit.lipschitz`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NoReturn, final

import torch
from torch import Tensor, nn

from dyadnet.bounds import bounded, positive
from dyadnet.network.autoencoder import Autoencoder
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.boxed import boxed_linear
from dyadnet.network.implicit import AbstractQuadratic, LeastPoint
from dyadnet.network.layered import Layered
from dyadnet.network.linearisation import Gradients, merge
from dyadnet.network.quadratic import Block, QuadraticWiring, block
from dyadnet.network.state import AbstractState, States
from dyadnet.network.wiring import over
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.solver import Accelerated
from dyadnet.relax.stopping import Count


@final
@dataclass(frozen=True)
class Terms:
    """What the energy of a lifted network consists of.

    Args:
        gamma: the discount, in (0, 1]: how much a layer counts against the one below it. Small values weaken feedback.
        regression: `kappa`, the weight of each layer's regression on the one below.
        reconstruction: `rho`, the weight of each layer's reconstruction from the one above; 0 for regression alone.
        tied: whether layers are reconstructed through the transposed weights; else through weights of their own, which
            start there. Only tied networks are Lipschitz-1.
        biases: whether reconstructions have biases, which start at zero.
        output_reconstructs: whether the output layer reconstructs the one below it, too. It is then Lipschitz-1 as the
            others are; if not, it is `W z + b`.

    Raises:
        ValueError: for a value out of range, or a setting of reconstructions where there are none.
    """

    gamma: float = 0.1
    regression: float = 1.0
    reconstruction: float = 1.0
    tied: bool = True
    biases: bool = False
    output_reconstructs: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.gamma <= 1:
            raise ValueError(
                f"gamma must lie in (0, 1], not {self.gamma}: a layer counts no more than the one below it"
            )
        positive(regression=self.regression)
        bounded(reconstruction=self.reconstruction)
        if self.reconstruction == 0 and (self.biases or not self.tied or self.output_reconstructs):
            raise ValueError(
                "with reconstruction=0 nothing is reconstructed: leave tied, biases and output_reconstructs alone"
            )


@final
class Lifted(AbstractQuadratic):
    """A chain whose layers regress on the layer below and reconstruct it; it learns by `LRRN`.

    The modules of the chain are shared, under their names. Its prediction is the energy's least point, not the
    feedforward pass of the chain.

    Args:
        chain: a feedforward `Layered` of linear maps, with ReLU, `Hardtanh` or no activation.
        terms: of the energy.
        output_gain: what the output layer is multiplied with; a network that is Lipschitz-1 becomes Lipschitz-K.
        relaxation: how states reach the least point; None stands for odd-even passes with Nesterov's acceleration.
        units: how a layer moves: `together` by a projected gradient step, or `in turn` by coordinate descent, which is
            exact for every unit and slow to compute; units that are not perfect move together.

    Raises:
        TypeError: naming the stage, if its map is not one `nn.Linear`, or its activation no projection.
        ValueError: for a recurrent chain, one with a feedback path, or an output gain that is not positive.

    >>> model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU(), nn.Linear(1, 1, bias=False))
    >>> _ = [nn.init.constant_(model[i].weight, 2.0) for i in (0, 2)]
    >>> net = Lifted(Layered.from_sequential(model))
    >>> with torch.no_grad():
    ...     net(torch.tensor([[1.0]])), model(torch.tensor([[1.0]]))        # 2 (2 + 2) / (1 + 2^2) against 2 * 2
    (tensor([[1.6000]]), tensor([[4.]]))
    >>> net.reconstruct(torch.tensor([[1.0]]))
    tensor([[1.6000]])
    """

    def __init__(
        self,
        chain: Layered,
        terms: Terms | None = None,
        *,
        output_gain: float = 1.0,
        relaxation: Relaxation | None = None,
        units: Literal["together", "in turn"] = "together",
    ) -> None:
        super().__init__()
        if chain.gain != 0:
            raise ValueError(f"a lifted network is made from a feedforward chain, not one of lam={chain.lam:g}")
        if chain.feedback is not None:
            raise ValueError(
                "a lifted network sends everything through the weights themselves: take net.with_feedback(None)"
            )
        if not chain.activations[-1].linear:
            raise TypeError(f"the outputs of a lifted network are linear, not {chain.activations[-1].name}")
        positive(output_gain=output_gain)
        if units not in ("together", "in turn"):
            raise ValueError(f"units move together or in turn, not {units!r}")
        self.names = [name for name, _ in chain.named_children()]
        for name, module in chain.named_children():
            self.add_module(name, module)
        self.stages, self.activations, self.depth = chain.stages, chain.activations, len(chain.stages)
        self.maps = tuple(boxed_linear(stage, "lifted network") for stage in chain.stages)
        self.terms = terms or Terms()
        self.output_gain, self.units = output_gain, units
        self.relaxation = relaxation or Relaxation(solver=Accelerated())
        decoded = [map_ for k, map_ in enumerate(self.maps, 1) if self.rho(k)]
        self.V = nn.ParameterList([] if self.terms.tied else [map_.weight.detach().T.clone() for map_ in decoded])
        self.c = nn.ParameterList([map_.weight.new_zeros(map_.in_features) for map_ in decoded if self.terms.biases])

    def chain(self) -> Layered:
        """Return the feedforward chain of the same modules, which are shared."""
        return Layered({name: self.get_submodule(name) for name in self.names}, self.stages)

    def rho(self, k: int) -> float:
        """Return the weight of the reconstruction from layer k."""
        return self.terms.reconstruction if k < self.depth or self.terms.output_reconstructs else 0.0

    def discount(self, k: int) -> float:
        """Return the weight of layer k in the energy, `gamma^(k - L)`."""
        return self.terms.gamma ** (k - self.depth)

    def autoencoder(self, k: int) -> Autoencoder:
        """Return the energy between layers k - 1 and k, which holds the parameters themselves."""
        map_, rho = self.maps[k - 1], self.rho(k)
        V = map_.weight.T if self.terms.tied or not rho else self.V[k - 1]
        c = self.c[k - 1] if self.terms.biases and rho else None
        return Autoencoder(map_.weight, map_.bias, V, c, self.terms.regression, rho)

    def energy(self, z: Sequence[Tensor]) -> Tensor:
        """Return `E` for every row of the states, as a differentiable function of them and of the parameters.

        Args:
            z: the inputs `(batch, inputs)` and the states of all layers; these may hold copies of the batch, one after
                another.
        """
        layers = range(1, self.depth + 1)
        return torch.stack([self.discount(k) * self.autoencoder(k).energy(z[k - 1], z[k]) for k in layers]).sum(0)

    def learn(self, k: int, below: Tensor, z: Tensor, weights: Tensor) -> Gradients:
        """Return the derivatives of the energy between layers k - 1 and k, without its discount, in the parameters.

        Args:
            k: the upper layer.
            below, z: the states of both, as for `Autoencoder.energy`.
            weights: one a row of `z`; what is differentiated is the weighted sum.
        """
        pair, map_ = self.autoencoder(k), self.maps[k - 1]
        dW, db = pair.regression_slopes(below, z, weights)
        grads: Gradients = {map_.weight: dW}
        if map_.bias is not None:
            grads[map_.bias] = db
        if pair.rho:
            dV, dc = pair.reconstruction_slopes(below, z, weights)
            merge(grads, {map_.weight: dV.T} if self.terms.tied else {self.V[k - 1]: dV})
            merge(grads, {self.c[k - 1]: dc} if self.terms.biases else {})
        return {parameter: grad for parameter, grad in grads.items() if parameter.requires_grad}

    def forward(self, x: Tensor) -> Tensor:
        """Return the output at the energy's least point, `(batch, outputs)`; it can be differentiated, once."""
        return self.output_gain * LeastPoint.apply(self, x, *self.parameters())

    def prediction(self, states: Sequence[AbstractState]) -> Tensor:
        """Return the states of the output, multiplied with the gain."""
        return self.output_gain * super().prediction(states)

    @property
    def differentiable(self) -> bool:
        """It is, implicitly."""
        return True

    @torch.no_grad()
    def reconstruct(self, x: Tensor, *, layer: int = 1) -> Tensor:
        """Return what a layer knows of the inputs: its state decoded layer by layer, in the shape of `x`.

        Of noisy inputs that is a denoised version, if the network has learned from clean ones.

        Raises:
            ValueError: if the layer is not reconstructed from.
        """
        if not 1 <= layer <= self.depth or not self.rho(layer):
            raise ValueError(f"nothing is reconstructed from layer {layer} of this network")
        z = self.relax(x).states[layer - 1].mean()
        for k in range(layer, 0, -1):
            z = self.autoencoder(k).decode(z)
            z = self.activations[k - 2].f(z) if k > 1 else z
        return z.view_as(x)

    @torch.no_grad()
    def wire(self, x: Tensor, states: States | None = None, copies: int = 1) -> QuadraticWiring:
        """Return the wiring for one batch."""
        self.check_inputs(x, states, copies)
        x, lowest = x.flatten(1), self.maps[0]
        if x.shape[1] != lowest.in_features:
            raise ValueError(f"{self.stages[0].name} takes {lowest.in_features} inputs, but x has {x.shape[1]}")
        blocks = self._blocks(in_turn=self.units == "in turn" and self.substrate is None)
        sent = torch.addmm(blocks[0].sent, x, blocks[0].up).repeat(copies, 1)
        held = dict(enumerate(states or (), 1))
        return over(self.substrate, QuadraticWiring(blocks, self.activations, x, sent, held))

    @torch.no_grad()
    def linear(self, batch: int) -> QuadraticWiring:
        """Return the wiring of the same quadratics without inputs, biases and boxes."""
        blocks = [replace(b, sent=torch.zeros_like(b.sent)) for b in self._blocks(in_turn=False)]
        x, sent = blocks[0].up.new_zeros(batch, len(blocks[0].up)), blocks[0].sent.expand(batch, -1)
        return QuadraticWiring(blocks, self.activations, x, sent, {})

    def inside(self, k: int, s: Tensor) -> Tensor:
        """Return which states of layer k lie inside the range of its activation."""
        activation = self.activations[k - 1]
        return (s > activation.lower) & (s < activation.upper)

    def _blocks(self, *, in_turn: bool) -> list[Block]:
        """The quadratics of all layers; units of the output always move together."""
        pairs, blocks = [self.autoencoder(k) for k in range(1, self.depth + 1)], []
        for pair, above in zip(pairs, [*pairs[1:], None], strict=True):
            (hessian, sent), down = pair.upper(), None
            if above is not None:
                part, down = above.lower(), self.terms.gamma * above.coupling()
                hessian, sent = hessian + self.terms.gamma * part[0], sent + self.terms.gamma * part[1]
            blocks.append(block(hessian, pair.coupling().T, down, sent, in_turn=in_turn and above is not None))
        return blocks

    def respond(self, k: int, drive: Tensor) -> Tensor:
        """Return the projection of the drive."""
        return self.activations[k - 1].f(drive)

    def tilted(self, drive: Tensor, tilt: Tensor) -> NoReturn:
        """Refuse: the layers have an energy in common, and no neuron has one of its own.

        Raises:
            TypeError: always.
        """
        raise TypeError(self.energy_missing())

    def changing(self) -> list[str]:
        """Nothing changes between visits."""
        return []

    def groups(self) -> list[tuple[str, list[nn.Parameter]]]:
        """Return the parameters of every autoencoder, in the order of the layers."""
        own = [[*self.V[k : k + 1], *self.c[k : k + 1]] for k in range(self.depth)]
        return [
            (stage.name, [*stage.parameters(), *(p for p in parameters if p.requires_grad)])
            for stage, parameters in zip(self.stages, own, strict=True)
        ]

    def energy_missing(self) -> str:
        """Its energy is another one."""
        return "a lifted network has an energy of its own, no Hopfield energy: use LRRN"


def lifted(net: AbstractNetwork) -> Lifted:
    """Return a lifted network itself, or a feedforward chain as one with the default terms, which shares its modules.

    Raises:
        TypeError: if the network is neither, or cannot be lifted.
    """
    if isinstance(net, Lifted):
        return net
    if isinstance(net, Layered):
        found = Lifted(net)
        found.substrate = net.substrate
        if isinstance(net.relaxation.stop, Count):  # somebody has decided how long states may take
            found.relaxation = replace(found.relaxation, stop=net.relaxation.stop)
        return found
    raise TypeError(f"LRRN trains a Lifted network or a feedforward Layered, not a {type(net).__name__}")
