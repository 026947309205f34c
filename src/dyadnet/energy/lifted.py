"""Lifted energies of a feedforward chain: layers are free to leave their predictions, at a price (thesis eq. 3.12).

    E(x, s) = sum_k gamma^(k-1) E_k(s_k, a_k),        a_k = map_k(what layer k-1 shows)

with the potentials `E_k` of `potential.py`. Layer k descends along its own part of the gradient, over `gamma^(k-1)`:

    dE/ds_k  ~  s_k - target_k,        target_k = rest(a_k) + felt( gamma J_{k+1}^T sent_{k+1} )

and the weights learn from `dE/dtheta_k = -gamma^(k-1) d/dtheta_k <map_k, sent_k>`. A discount `gamma` below 1 makes
feedback weak: layer k is moved by `O(gamma^(L-k))`, so that every layer's gradient is `O(gamma^(L-1))`.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from dyadnet.activation import half_square
from dyadnet.bounds import positive
from dyadnet.energy.base import AbstractEnergy, Output
from dyadnet.energy.descent import Descent
from dyadnet.energy.gaps import LiftedWiring
from dyadnet.energy.potential import AbstractPotential, Auxiliary
from dyadnet.energy.unknown import Unknown
from dyadnet.network.feedback import Straight
from dyadnet.network.layered import Layered
from dyadnet.network.linearisation import Gradients
from dyadnet.network.state import AbstractState, Neuron, States
from dyadnet.network.wiring import AbstractWiring
from dyadnet.relax.propagate import chain
from dyadnet.relax.relaxation import Relaxation, Solution, settle, until
from dyadnet.relax.schedule import Parallel, Sweeps
from dyadnet.relax.solver import Accelerated
from dyadnet.relax.spectral import spectral_norms


@dataclass(frozen=True)
class LiftedEnergy(AbstractEnergy):
    """The sum of the potentials of all layers.

    Args:
        net: a feedforward `Layered` with a linear output. If it has a feedback path, from layer to layer, gaps go down
            by it: no energy is then descended, and rules tend to feedback alignment.
        potential: the kind of potential.
        gamma: the discount, above 0.
        step: how far layers go along their gradients; None stands for the inverse of each layer's own curvature.
        relaxation: how states descend.

    Raises:
        ValueError: if the network is no such chain, or if its units are no projections where the potential needs them.

    >>> from torch import nn
    >>> net = Layered.from_sequential(nn.Sequential(nn.Linear(1, 1), nn.Tanh(), nn.Linear(1, 1)))
    >>> energy, x = LiftedEnergy(net), torch.ones(1, 1)
    >>> energy.value(x, energy.minimise(energy.wire(x)).states)
    tensor([0.])
    """

    net: Layered
    potential: type[AbstractPotential] = Auxiliary
    gamma: float = 1.0
    step: float | None = None
    relaxation: Relaxation = field(default_factory=lambda: Relaxation(Sweeps(), Accelerated()))

    def __post_init__(self) -> None:
        chain(self.net)
        positive(gamma=self.gamma)
        if not self.net.activations[-1].linear:
            raise ValueError(f"a lifted energy needs a linear output, not {self.net.activations[-1].name}")
        if isinstance(self.net.feedback, Straight):
            raise ValueError("gaps go down from layer to layer, not straight from the output: use RandomFeedback()")
        for stage in self.net.stages:
            if self.potential.projects and stage.activation.potential is not half_square:
                raise ValueError(
                    f"{stage.name} has the activation {stage.activation.name}, but layers that move by projection need "
                    "ReLU, hard sigmoid (Hardtanh) or linear units: use PredictiveCoding or AuxiliaryCoordinates"
                )

    @torch.no_grad()
    def value(self, x: Tensor, states: States) -> Tensor:
        """Return `E`, `(batch,)`, for states that are allowed."""
        return self.wire(x, states).value()

    @torch.no_grad()
    def wire(self, x: Tensor, states: States | None = None, copies: int = 1) -> LiftedWiring:
        """Return the wiring; without states, they start where a forward pass leaves them."""
        self.net.check_steady()
        with _full_precision(x):
            return LiftedWiring(self.net.wire(x, states, copies), self._potentials(), self.gamma)

    def settling(self) -> Relaxation:
        """Return one layer after another, each as far as is safe and with momentum, or what was asked for."""
        return self.relaxation

    @torch.no_grad()
    def minimise(
        self,
        wiring: AbstractWiring,
        output: Output | None = None,
        relaxation: Relaxation | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Solution:
        """Move the states of `wiring` to least energy; simultaneous steps take the short way of `descent.py`."""
        assert isinstance(wiring, LiftedWiring)
        how, inputs = relaxation or self.settling(), wiring.states[0].mean()
        momentum = how.solver.constant_momentum
        with _full_precision(inputs):
            wiring.steps = wiring.steps or self._steps(wiring)
            if not isinstance(how.schedule, Parallel) or momentum is None or wiring.substrate is not None:
                return settle(wiring, self.neuron(wiring, output), how, generator=generator)
            factor = how.factor_on(wiring)
            descent = Descent(wiring, output, [factor * step for step in wiring.steps], momentum)
            return until(how, descent.advance, descent.states, inputs.dtype)

    def neuron(self, wiring: AbstractWiring, output: Output | None) -> Neuron:
        """Return the projected step of a layer, and the minimiser of the output."""
        assert isinstance(wiring, LiftedWiring)
        potentials, steps, last = self._potentials(), wiring.steps or self._steps(wiring), wiring.depth

        def neuron(k: int, drive: Tensor, feedback: Tensor | None, before: AbstractState | None) -> AbstractState:
            assert isinstance(before, Unknown)
            if k == last:
                return Unknown(drive if output is None else output(drive, before.s), before.allowed, before.shows)
            if feedback is None and before.resting:
                return before
            target, potential = potentials[k - 1].rest(drive), potentials[k - 1]
            if feedback is not None:
                target = target + potential.felt(feedback, before.s, before.mean())
            return Unknown(target, before.allowed, before.shows, steps[k - 1])

        return neuron

    @torch.no_grad()
    def gradients(self, wiring: AbstractWiring, weights: Sequence[complex]) -> Gradients:
        """Learn from `-gamma^(k-1) weights sent_k`."""
        assert isinstance(wiring, LiftedWiring)
        with _full_precision(wiring.states[0].mean()):
            return wiring.learn(weights)

    def _potentials(self) -> list[AbstractPotential]:
        return [self.potential(activation) for activation in self.net.activations]

    def _steps(self, wiring: AbstractWiring) -> list[float]:
        """How far layers go: `1 / (1 + gamma |f' J_{k+1}|^2)`, the inverse curvature, or what was asked for."""
        if self.step is not None:
            return [self.step] * (wiring.depth - 1)
        norms = [float(norm) for norm in spectral_norms(self.net, wiring.states[0].mean()[:1], iterations=10, lowest=2)]
        slopes = [max(low.slope, high.slope) for low, high in pairwise(self.net.activations)]
        found = [1 / (1 + self.gamma * (1.05 * n * m) ** 2) for n, m in zip(norms, slopes, strict=True)]
        if 0 in found:
            raise ValueError(
                f"no step is short enough for {self.net.activations[found.index(0)].name}, whose slope has no bound: "
                "say how far layers go, step=..."
            )
        return found


def _full_precision(inputs: Tensor) -> AbstractContextManager[object]:
    """Autocast would swallow the small gaps between states and predictions."""
    kind = inputs.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()
