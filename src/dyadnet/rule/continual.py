"""Equilibrium propagation with continual weight updates (Ernoult et al. 2020): weights move at every nudged step.

    theta <- theta - (step / beta) [ dE/dtheta(s_{t+1}) - dE/dtheta(s_t) ]          t = 0, 1, ... from the free state

The sum of the changes telescopes to one-sided equilibrium propagation as `step -> 0`. The network itself is not
touched: the weights of a copy move, and the total change divided by `-step` is returned as a gradient.
"""

import copy
from dataclasses import replace

import torch
from torch import Tensor

from dyadnet.loss import AbstractLoss
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.linearisation import Gradients
from dyadnet.network.state import Activity
from dyadnet.relax.relaxation import Relaxation, Solution, complain
from dyadnet.relax.stopping import Count, settled
from dyadnet.rule.contrast import energy_of
from dyadnet.rule.nudge import both


def continual_gradients(
    net: AbstractNetwork,
    loss: AbstractLoss,
    x: Tensor,
    y: Tensor,
    free: Solution,
    *,
    beta: float,
    step: float,
    relaxation: Relaxation | None,
    generator: torch.Generator | None = None,
) -> tuple[Gradients, Solution]:
    """Return the accumulated gradients and the end of the nudged phase.

    Args:
        net: the network; it is copied.
        loss, x, y: of the batch.
        free: the free phase.
        beta: nudging strength.
        step: how far weights move along each estimate.
        relaxation: of the nudged phase; its stopping rule bounds the number of steps; None stands for the energy's own.
        generator: of random orders; None stands for a fixed seed.

    Raises:
        NotSettled: if the relaxation is strict and some sample has not settled.
    """
    moving = copy.deepcopy(net.on(None)).on(net.substrate)
    energy, pairs = energy_of(moving), trainable(net, moving)
    how = relaxation or energy.settling()
    generator = generator or torch.Generator().manual_seed(0)  # one for all steps
    strength, weight = torch.tensor([beta], dtype=x.dtype, device=x.device), 1 / (beta * len(x))
    once = replace(how, stop=Count(1), strict=False)
    tolerance, solution, looked = how.stop.tolerance_for(x.dtype), free, []
    totals: Gradients = {ours: torch.zeros_like(ours) for ours, _ in pairs}
    for _ in range(how.stop.most):
        before, output = solution.states, both(moving, loss, y, strength, len(free.states))
        solution = energy.minimise(energy.wire(x, before), output, once, generator=generator)
        moved = [Activity(torch.cat([a.mean(), b.mean()])) for a, b in zip(solution.states, before, strict=True)]
        change = energy.gradients(energy.wire(x, moved, 2).read(), [weight, -weight])
        with torch.no_grad():
            for ours, theirs in pairs:
                totals[ours] += change[theirs]
                theirs -= step * change[theirs]
        moving.project_()
        looked.append(solution.residual.max())
        if tolerance is not None and not looked[-1] > tolerance:  # settled, or no longer a number
            break
    solution = replace(solution, iterations=len(looked), looked=looked, converged=settled(solution.residual, how.stop))
    complain(solution, how)
    return totals, solution


def trainable(net: AbstractNetwork, twin: AbstractNetwork) -> list[tuple[Tensor, Tensor]]:
    """Return the trainable parameters of a network with those of its copy."""
    return [pair for pair in zip(net.parameters(), twin.parameters(), strict=True) if pair[0].requires_grad]
