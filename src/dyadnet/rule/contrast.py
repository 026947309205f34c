"""What contrastive rules share: a free phase, phases under other conditions, and a weighted sum of `dE/dtheta`."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from dyadnet.energy.base import AbstractEnergy, AbstractMinimiser, Output
from dyadnet.energy.hopfield import HopfieldEnergy
from dyadnet.energy.lifted import LiftedEnergy
from dyadnet.loss import Loss, as_loss
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.layered import Layered
from dyadnet.network.linearisation import Gradients, merge
from dyadnet.network.state import AbstractState, Activity, States
from dyadnet.network.wiring import AbstractWiring
from dyadnet.relax.relaxation import Relaxation, Solution
from dyadnet.rule.base import Estimate

Side = Literal["positive", "negative", "centred"]
Phases = tuple[list[complex], list[complex], float]
"""The nudges of the phases beside the free one, their weights, and the weight of the free phase."""


def real_phases(beta: float, side: Side) -> Phases:
    """Return the phases of a difference quotient in the nudge.

    >>> real_phases(0.5, "centred")
    ([0.5, -0.5], [1.0, -1.0], 0.0)
    """
    match side:
        case "positive":
            return [beta], [1 / beta], -1 / beta
        case "negative":
            return [-beta], [-1 / beta], 1 / beta
        case "centred":
            return [beta, -beta], [0.5 / beta, -0.5 / beta], 0.0


def energy_of(net: AbstractNetwork) -> AbstractEnergy:
    """Return the lifted energy of a feedforward chain, else the energy that the network descends.

    Raises:
        ValueError: if the network has neither.
    """
    return LiftedEnergy(net) if isinstance(net, Layered) and net.gain == 0 else descended(net)


def descended(net: AbstractNetwork) -> AbstractEnergy:
    """Return the energy that a network descends: its own, or else the Hopfield energy.

    Raises:
        ValueError: if the network has neither.
    """
    return net.own_energy() if isinstance(net, AbstractMinimiser) else HopfieldEnergy(net)


def contrast(
    energy: AbstractEnergy,
    wiring: AbstractWiring,
    free: Solution,
    output: Output,
    weights: Sequence[complex],
    *,
    free_weight: float = 0.0,
    relaxation: Relaxation | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Gradients, Solution]:
    """Relax the other phases from the free states, all in one batch; return the contrast of energies, and their end.

    Args:
        energy: of the network.
        wiring: of the free phase.
        free: the free phase.
        output: the boundary condition of the stacked phases.
        weights: one a phase; divided by the batch size here, so that gradients are those of the mean loss.
        free_weight: the weight of the free phase.
        relaxation: of the other phases.
        generator: of random orders; None stands for a fixed seed.
    """
    complex_ = any(isinstance(weight, complex) for weight in weights)
    start = repeated(free.states, len(weights), complex_=complex_)
    batch = len(free.residual)
    scaled, nudged = [weight / batch for weight in weights], wiring.again(start, len(weights))
    if wiring.substrate is not None and wiring.substrate.beside is not None:
        return _side_by_side(energy, nudged, start, free, output, scaled, free_weight / batch, relaxation, generator)
    others = energy.minimise(nudged, output, relaxation, generator=generator)
    if free_weight:
        pairs = zip(others.states, free.states, strict=True)
        nudged = wiring.again([Activity(torch.cat([a.mean(), b.mean()])) for a, b in pairs], len(weights) + 1)
        scaled.append(free_weight / batch)
    return energy.gradients(nudged.read(), scaled), others


def _side_by_side(
    energy: AbstractEnergy,
    wiring: AbstractWiring,
    start: States,
    free: Solution,
    output: Output,
    weights: Sequence[complex],
    free_weight: float,
    relaxation: Relaxation | None,
    generator: torch.Generator | None,
) -> tuple[Gradients, Solution]:
    """Contrast phases of two circuits, each with its own weights: the free one, or the first half, and the others."""
    x, copies, substrate = wiring.states[0].mean(), len(weights), wiring.substrate
    assert substrate is not None
    assert substrate.beside is not None
    own = 0 if free_weight else copies // 2
    there = free.states
    if own:
        first = energy.minimise(wiring, output, relaxation, generator=generator)
        there = [_phases(state, copies, 0, own) for state in first.states]
    grads = energy.gradients(wiring.again(there, own or 1).read(), weights[:own] or [free_weight])
    with substrate.beside():
        second = energy.minimise(energy.wire(x, start, copies), output, relaxation, generator=generator)
        contrasted = [_phases(state, copies, own, copies) for state in second.states]
        merge(grads, energy.gradients(energy.wire(x, contrasted, copies - own).read(), weights[own:]))
    return grads, second


def _phases(state: AbstractState, copies: int, begin: int, end: int) -> Activity:
    """Some of the copies of a batch."""
    return Activity(torch.cat(state.mean().chunk(copies)[begin:end]))


def repeated(states: States, copies: int, *, complex_: bool = False) -> States:
    """Return copies of a batch of states, one after another."""
    stacked = [torch.cat([state.mean()] * copies) for state in states]
    if complex_:
        stacked = [torch.complex(s, torch.zeros_like(s)) for s in stacked]
    return [Activity(s) for s in stacked]


def summary(free: Solution, others: Solution, batch: int) -> Solution:
    """Return both phases as one: the passes add up, and a sample has settled if it has in every phase."""
    residual = torch.maximum(free.residual, others.residual.view(-1, batch).amax(0))
    converged = free.converged & others.converged.view(-1, batch).all(0)
    return Solution(
        free.states, residual, free.iterations + others.iterations, converged, [*free.looked, *others.looked]
    )


def two_phase_estimate(
    loss: Loss, y: Tensor, free: Solution, others: Solution, grads: Gradients, *, keep_states: bool
) -> Estimate:
    """Return what a rule with a free phase and others estimates; the states and the output are the free ones."""
    prediction, solution = free.states[-1].mean(), summary(free, others, len(y))
    kept = free.states if keep_states else None
    return Estimate(as_loss(loss)(prediction, y).mean(), prediction, grads, kept, solution.iterations, solution)
