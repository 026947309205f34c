"""Quadratic energies of a feedforward chain: layers are drawn to what the layer below predicts (thesis eqs 3.12-3.13).

    E(s) = sum_k 1/2 |s_k - g_k(s_{k-1})|^2,        g_k = f_k(map_k)

Its least value without teaching is 0, at the forward pass: the contrast (3.11) is then the lifted objective (3.12).
Layers descend to `s_k = g_k(s_{k-1}) + J_{k+1}^T (s_{k+1} - g_{k+1}(s_k))`; J is the derivative of `g`, `f'` included.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor, nn

from dyadnet.activation import IDENTITY
from dyadnet.energy.base import AbstractEnergy, Output, weighted
from dyadnet.network.layered import Layered
from dyadnet.network.linearise import Gradients
from dyadnet.network.stage import Stage
from dyadnet.network.state import AbstractMovable, AbstractState, Neuron, States
from dyadnet.network.wiring import AbstractCoupling, AbstractWiring, ChainWiring
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.schedule import Sweeps
from dyadnet.relax.solver import Damped


@final
@dataclass(frozen=True, eq=False)
class Displaced(AbstractMovable):
    """A layer next to what is predicted for it: its activity `s` and `error = s - prediction`."""

    s: Tensor
    prediction: Tensor

    def mean(self) -> Tensor:
        """Return `s`."""
        return self.s

    def error(self) -> Tensor:
        """Return `s - prediction`."""
        return self.s - self.prediction

    def parts(self) -> tuple[Tensor, ...]:
        """Return both."""
        return self.s, self.prediction

    def of_parts(self, parts: Sequence[Tensor]) -> "Displaced":
        """Return another layer."""
        return Displaced(parts[0], parts[1])


class _Elementwise(nn.Module):
    """An activation as a module."""

    def __init__(self, f: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.f = f

    def forward(self, a: Tensor) -> Tensor:
        return self.f(a)


@dataclass(frozen=True)
class QuadraticEnergy(AbstractEnergy):
    """The sum of the squared distances between layers and their predictions.

    Args:
        net: a feedforward `Layered`.
        relaxation: how states descend; damped sweeps by default.
    """

    net: Layered
    relaxation: Relaxation = field(default_factory=lambda: Relaxation(schedule=Sweeps(), solver=Damped(0.3)))

    def value(self, x: Tensor, states: States) -> Tensor:
        """Return `E`, `(batch,)`."""
        gaps = _gaps(self.wire(x, states))
        return torch.stack([gap.square().flatten(1).sum(1) / 2 for gap in gaps.values()]).sum(0)

    def wire(self, x: Tensor, states: States | None = None, copies: int = 1) -> ChainWiring:
        """Wire stages whose maps include their activations."""
        self.net.check_steady()
        stages = tuple(
            Stage(nn.Sequential(stage.map, _Elementwise(stage.activation.f)), IDENTITY, stage.name)
            for stage in self.net.stages
        )
        return ChainWiring(stages, 0.0, x, dict(enumerate(states or (), 1)), copies, self.net.feedback)

    def settling(self) -> Relaxation:
        """Return damped sweeps, or what was asked for."""
        return self.relaxation

    def neuron(self, last: int, output: Output | None) -> Neuron:
        """Return the step that a layer takes between its prediction and its feedback."""

        def neuron(k: int, drive: Tensor, feedback: Tensor | None, before: AbstractState | None) -> AbstractState:
            if k == last:
                return Displaced(drive if output is None else output(drive, before and before.mean()), drive)
            return Displaced(drive if feedback is None else drive + feedback, drive)

        return neuron

    @torch.no_grad()
    def gradients(self, wiring: AbstractWiring, weights: Sequence[complex]) -> Gradients:
        """Learn from `-weights (s_k - g_k(s_{k-1}))`."""
        assert isinstance(wiring, AbstractCoupling)
        return wiring.learn({k: -weighted(gap, weights) for k, gap in _gaps(wiring).items()})


@torch.no_grad()
def _gaps(wiring: AbstractCoupling) -> dict[int, Tensor]:
    """How far every layer is from what is predicted for it."""
    return {k: wiring.state(k).mean() - wiring.sent(k) for k in range(1, wiring.depth + 1)}
