"""Equilibrium propagation and its relatives: contrasts of energies at nudged outputs (thesis eqs 3.9-3.11).

    s_nu = argmin_s  E(s) + nu l(s),          g = sum_i w_i  dE/dtheta(s_{nu_i})

    positive       nu = beta, 0                        w = 1/beta, -1/beta                     error O(beta)
    negative       nu = 0, -beta                       w = 1/beta, -1/beta                     O(beta)
    centred        nu = beta, -beta                    w = 1/(2 beta), -1/(2 beta)             O(beta^2)
    continual      positive, with weights that move during the nudged phase: see `continual.py`
    random-sign    positive or negative, drawn for every batch                                 O(beta)
    holomorphic    nu_j = beta exp(2 pi i j / N)       w_j = exp(-2 pi i j / N) / (N beta)     O(beta^N)

The free state is found first; nudged phases start from it, all of them stacked into one batch. With N complex nudges
only those in the upper half plane are run: the others are their conjugates. N = 2 is the centred form.
"""

import cmath
from dataclasses import dataclass
from typing import Literal, final, get_args

import torch
from torch import Tensor

from dyadnet.bounds import positive
from dyadnet.energy.lifted import LiftedEnergy
from dyadnet.loss import AbstractLoss, Loss, as_loss
from dyadnet.network.base import AbstractNetwork, hopfield
from dyadnet.network.state import States
from dyadnet.relax.relaxation import Relaxation
from dyadnet.rule.base import AbstractRule, Estimate
from dyadnet.rule.continual import continual_gradients
from dyadnet.rule.contrast import Phases, contrast, energy_of, real_phases, two_phase_estimate
from dyadnet.rule.nudge import both

Variant = Literal["centred", "positive", "negative", "random-sign", "holomorphic", "continual"]


@final
@dataclass(frozen=True)
class EquilibriumPropagation(AbstractRule):
    """Gradients from the difference of nudged equilibria of a network with an energy.

    Args:
        beta: nudging strength a sample. A dyadic `beta` is twice that of the centred form.
        variant: as at the head of this file. `random-sign` takes its sign from the generator: without one that goes on
            from batch to batch, it is the same sign always.
        nudges: the number N of complex nudges of the holomorphic variant, even; the loss must be the squared error and
            the activations holomorphic (tanh, sigmoid, identity).
        step: how far the weights of the continual variant move along each of its estimates.
        relaxation: how the free states reach equilibrium; None stands for the network's own.
        nudged_relaxation: the same for the nudged states; None stands for `relaxation`.

    Raises:
        ValueError: for settings out of range; in `estimate`, where the network has no energy or `beta` exceeds the
            bound of the loss.
    """

    beta: float = 0.25
    variant: Variant = "centred"
    nudges: int = 4
    step: float = 1e-3
    relaxation: Relaxation | None = None
    nudged_relaxation: Relaxation | None = None

    def __post_init__(self) -> None:
        positive(beta=self.beta, step=self.step)
        if self.variant not in get_args(Variant):
            raise ValueError(f"there is no variant {self.variant!r}")
        if self.nudges < 2 or self.nudges % 2:
            raise ValueError(f"the number of nudges must be even, not {self.nudges}")

    def estimate(
        self,
        net: AbstractNetwork,
        loss: Loss,
        x: Tensor,
        y: Tensor,
        *,
        states: States | None = None,
        generator: torch.Generator | None = None,
        keep_states: bool = True,
    ) -> Estimate:
        """Relax freely, then nudged; the states are the free ones."""
        energy, loss = energy_of(net), as_loss(loss)
        if self.variant == "holomorphic":
            check_holomorphic(net, loss)
        wiring = energy.wire(x, states)
        free = energy.minimise(wiring, relaxation=self.relaxation, generator=generator)
        how = self.nudged_relaxation or self.relaxation
        if self.variant == "continual":
            grads, others = continual_gradients(
                net, loss, x, y, free, beta=self.beta, step=self.step, relaxation=how, generator=generator
            )
        else:
            nudges, weights, free_weight = self.phases(generator)
            kind = torch.promote_types(x.dtype, torch.tensor(nudges).dtype)  # complex for complex nudges
            strengths = torch.tensor(nudges, dtype=kind, device=x.device)
            output = both(net, loss, y, strengths, wiring.depth)
            grads, others = contrast(
                energy, wiring, free, output, weights, free_weight=free_weight, relaxation=how, generator=generator
            )
        return two_phase_estimate(loss, y, free, others, grads, keep_states=keep_states)

    def phases(self, generator: torch.Generator | None = None) -> Phases:
        """Return the nudges, their weights, and the weight of the free phase."""
        beta, variant = self.beta, self.variant
        if variant == "random-sign":
            generator = generator or torch.Generator().manual_seed(0)
            variant = "positive" if torch.rand((), generator=generator) < 0.5 else "negative"
        if variant in ("positive", "negative", "centred"):
            return real_phases(beta, variant)
        half = self.nudges // 2
        turns = [cmath.exp(1j * cmath.pi * j / half) for j in range(half + 1)]
        share = [1.0 if j in (0, half) else 2.0 for j in range(half + 1)]  # a nudge and its conjugate in one
        return (
            [beta * turn for turn in turns],
            [part / (self.nudges * beta * turn) for part, turn in zip(share, turns, strict=True)],
            0.0,
        )


def check_holomorphic(net: AbstractNetwork, loss: AbstractLoss) -> None:
    """Refuse complex nudges where the equilibrium is no holomorphic function of them.

    Raises:
        ValueError: naming what is not holomorphic.
    """
    if not loss.quadratic:
        raise ValueError(f"holomorphic nudges need the squared error, not {type(loss).__name__}")
    if isinstance(energy_of(net), LiftedEnergy):
        raise ValueError("holomorphic nudges need a network with feedback: take lam above 1/2")
    if net.curved():
        raise ValueError(f"holomorphic nudges need affine maps or pooling between layers, not {net.curved()[0]}")
    for activation in hopfield(net, "equilibrium propagation").activations:
        if not activation.holomorphic:
            raise ValueError(f"{activation.name} is not holomorphic: take tanh, sigmoid or unit-sigmoid")
