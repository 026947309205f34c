"""Deep nonlinear resistive networks: layers of nodes, joined by resistors, held by diodes (Scellier 2024).

Kirchhoff's law at node j of layer k, with the conductances `g >= 0`, sources of the currents `b`, and amplifiers that
multiply voltages by `A` on their way up and currents by `c` on their way down (`A = 1` above the inputs):

    sum_i g^k_ij (v_j - A v^{k-1}_i)  +  c sum_l g^{k+1}_jl (A v_j - v^{k+1}_l)  =  b_j  +  current of the diode

which is where the power is stationary that the layers turn into heat, halved and discounted,

    E(v) = sum_k (c/A)^(k-L) [ 1/2 sum_ij g^k_ij (A v^{k-1}_i - v^k_j)^2 - sum_j b_j v_j ] .

Without amplifiers that is Maxwell's principle; with those of Kendall et al. (2020), `c = 1/A`, a layer counts `A^2`
times as much as the one above. Inputs are the voltages of sources, each with its negative: `v^0 = A_in [x, -x]`. Diodes
keep the first half of a hidden layer from falling below `-V_D` (excitatory), the second from rising above `V_D`
(inhibitory); outputs have none. A layer given the layers next to it is separable, and its least point exact:

    v_j = clip( ( A sum_i g^k_ij v_i + c sum_l g^{k+1}_jl v_l + b_j ) / h_j )
    h_j = sum_i g^k_ij + c A sum_l g^{k+1}_jl
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import sqrt
from typing import NoReturn, final

import torch
from torch import Tensor, nn

from dyadnet.energy.base import AbstractMinimiser
from dyadnet.hardware.circuit import Circuit
from dyadnet.hardware.passivity import check_passive
from dyadnet.hardware.power import Power
from dyadnet.loss import AbstractLoss, Strength
from dyadnet.network.implicit import AbstractQuadratic, LeastPoint
from dyadnet.network.quadratic import Block, QuadraticWiring
from dyadnet.network.state import States
from dyadnet.network.wiring import over
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.solver import Plain


@final
class ResistiveNetwork(AbstractQuadratic, AbstractMinimiser):
    """A resistive network. Conductances must not be negative: call `project_` after every step of an optimiser.

    Args:
        widths: how many inputs, hidden nodes of every layer, and outputs there are; larger inputs are flattened.
        circuit: gains and diodes; None stands for a passive circuit of ideal diodes.
        relaxation: how states reach equilibrium; None stands for exact updates of odd and even layers in turn.

    Raises:
        ValueError: for fewer than two widths, or one that is not positive.

    >>> net = ResistiveNetwork([1, 1], Circuit(input_gain=2.0))
    >>> _ = net.conductances[0].data.copy_(torch.tensor([[3.0], [1.0]]))
    >>> net(torch.tensor([[1.0]]))                         # (3 * 2 - 1 * 2) / (3 + 1)
    tensor([[1.]], grad_fn=<LeastPointBackward>)
    """

    def __init__(
        self, widths: Sequence[int], circuit: Circuit | None = None, relaxation: Relaxation | None = None
    ) -> None:
        super().__init__()
        if len(widths) < 2 or min(widths) < 1:
            raise ValueError(
                f"a circuit has inputs, outputs and perhaps layers between, at least one each: not {widths}"
            )
        self.circuit, self.depth, self.inputs = circuit or Circuit(), len(widths) - 1, widths[0]
        self.relaxation = relaxation or Relaxation(solver=Plain())
        pairs = pairwise([2 * widths[0], *widths[1:]])
        drawn = [(2 * torch.rand(below, above) - 1) * self.circuit.scale / sqrt(below) for below, above in pairs]
        self.conductances = nn.ParameterList([g.clamp(min=0) for g in drawn])
        self.currents = nn.ParameterList([torch.zeros(above) for above in widths[1:]])

    def gain(self, k: int) -> float:
        """Return the gain between layers k - 1 and k: sources need no amplifier."""
        return self.circuit.gain if k > 1 else 1.0

    def sources(self, x: Tensor) -> Tensor:
        """Return the voltages of the sources, `A_in [x, -x]`, `(batch, 2 inputs)`."""
        return self.circuit.input_gain * torch.cat([x, -x], 1)

    @torch.no_grad()
    def stiffness(self, k: int) -> Tensor:
        """Return `h_k`, the conductance between a node and all that holds it, `(units,)`; 1 for one without any."""
        h = self.conductances[k - 1].sum(0)
        if k < self.depth:
            h = torch.add(h, self.conductances[k].sum(1), alpha=self.circuit.current_gain * self.circuit.gain)
        return h.where(h > 0, 1.0)

    def energy(self, z: Sequence[Tensor]) -> Tensor:
        """Return `E` of every sample, as a differentiable function of the states and of the parameters.

        Args:
            z: the inputs `(batch, inputs)` and the voltages of all layers.
        """
        v = [self.sources(z[0]), *z[1:]]
        total = z[0].new_zeros(len(z[0]))
        for k, (g, b) in enumerate(zip(self.conductances, self.currents, strict=True), 1):
            below, here = self.gain(k) * v[k - 1], v[k]
            squares = below.square() @ g.sum(1) + here.square() @ g.sum(0)
            heat = squares / 2 - ((below @ g) * here).sum(1)
            total = total + self.circuit.discount(k - self.depth) * (heat - here @ b)
        return total

    def own_energy(self) -> Power:
        """Return the energy that the nodes descend."""
        return Power(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the voltages of the outputs, `(batch, outputs)`; they can be differentiated, once."""
        return LeastPoint.apply(self, x, *self.parameters())

    @property
    def differentiable(self) -> bool:
        """It is, implicitly."""
        return True

    @torch.no_grad()
    def wire(self, x: Tensor, states: States | None = None, copies: int = 1) -> QuadraticWiring:
        """Return the wiring for one batch.

        Raises:
            ValueError: for inputs of another width, or a negative conductance.
        """
        self.check_inputs(x, states, copies)
        x = x.flatten(1)
        if x.shape[1] != self.inputs:
            raise ValueError(f"the circuit has {self.inputs} inputs, but x has {x.shape[1]}")
        for k, g in enumerate(self.conductances, 1):
            if not float(g.min()) >= 0:
                raise ValueError(
                    f"layer {k} has a conductance of {float(g.min()):g}, but none may be negative: "
                    "call project_() after every step of an optimiser"
                )
        blocks = self._blocks()
        sent = torch.addmm(blocks[0].sent, x, blocks[0].up).repeat(copies, 1)
        held = dict(enumerate(states or (), 1))
        return over(self.substrate, QuadraticWiring(blocks, (), x, sent, held))

    @torch.no_grad()
    def linear(self, batch: int) -> QuadraticWiring:
        """Return the wiring of the same resistors without sources and diodes."""
        blocks = [replace(block, sent=torch.zeros_like(block.sent)) for block in self._blocks()]
        x, sent = blocks[0].up.new_zeros(batch, self.inputs), blocks[0].sent.expand(batch, -1)
        return QuadraticWiring(blocks, (), x, sent, {})

    def _blocks(self) -> list[Block]:
        """What every layer hears, divided by its stiffness; a source and its negative act by a difference."""
        blocks = []
        for k, (g, b) in enumerate(zip(self.conductances, self.currents, strict=True), 1):
            h, up, down = self.stiffness(k), self.gain(k) * g, None
            if k == 1:
                up = self.circuit.input_gain * (g[: self.inputs] - g[self.inputs :])
            if k < self.depth:
                down = self.circuit.current_gain * self.conductances[k].T / h
            blocks.append(Block(None, up / h, down, b / h, h, in_turn=False))
        return blocks

    def respond(self, k: int, drive: Tensor) -> Tensor:
        """Return the voltages of layer k, held by its diodes."""
        if k == self.depth:
            return drive
        excitatory, threshold = self.excitatory(k), self.circuit.threshold
        up, down = drive[:, :excitatory].clamp(min=-threshold), drive[:, excitatory:].clamp(max=threshold)
        return torch.cat([up, down], 1)

    def excitatory(self, k: int) -> int:
        """Return how many nodes of hidden layer k are excitatory: the first half."""
        return (len(self.currents[k - 1]) + 1) // 2

    def inside(self, k: int, s: Tensor) -> Tensor:
        """Return which nodes of layer k no diode holds."""
        if k == self.depth:
            return torch.ones_like(s, dtype=torch.bool)
        threshold, excitatory = self.circuit.threshold, torch.arange(s.shape[1], device=s.device) < self.excitatory(k)
        return torch.where(excitatory, s > -threshold, s < threshold)

    def tilted(self, drive: Tensor, tilt: Tensor) -> NoReturn:
        """Refuse: the nodes have an energy in common, and no node has one of its own.

        Raises:
            TypeError: always.
        """
        raise TypeError(self.energy_missing())

    def check_nudge(self, loss: AbstractLoss, strength: Strength) -> None:
        """Refuse a nudge away from the target that is a larger negative conductance than the circuit bears.

        Raises:
            ValueError: naming the bound.
        """
        if self.circuit.guarded:
            check_passive(self, loss, strength)

    @torch.no_grad()
    def project_(self) -> None:
        """Replace negative conductances by 0."""
        for g in self.conductances:
            g.clamp_(min=0)

    def changing(self) -> list[str]:
        """Nothing changes between visits."""
        return []

    def groups(self) -> list[tuple[str, list[nn.Parameter]]]:
        """Return the conductances below every layer, and its currents."""
        layers = enumerate(zip(self.conductances, self.currents, strict=True), 1)
        return [(f"layer {k}", [p for p in pair if p.requires_grad]) for k, pair in layers]

    def energy_missing(self) -> str:
        """Its energy is another one."""
        return "a resistive network has an energy of its own, no Hopfield energy: use EquilibriumPropagation"
