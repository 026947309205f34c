"""Equilibrium propagation with continual weight updates (Ernoult et al. 2020): weights move at every nudged step.

    theta <- theta - (step / beta) [ dE/dtheta(s_{t+1}) - dE/dtheta(s_t) ]          t = 0, 1, ... from the free state

The sum of the changes telescopes to one-sided equilibrium propagation as `step -> 0`. The network itself is not
touched: the weights of a copy move, and the total change divided by `-step` is returned as a gradient.
"""

import copy
from dataclasses import replace

import torch
from torch import Tensor

from dyadnet.energy.hopfield import HopfieldEnergy
from dyadnet.loss import AbstractLoss
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.linearise import Gradients
from dyadnet.relax.relaxation import Relaxation, Solution
from dyadnet.relax.stopping import Count
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
    relaxation: Relaxation,
) -> tuple[Gradients, Solution]:
    """Return the accumulated gradients and the end of the nudged phase.

    Args:
        net: the network; it is copied.
        loss, x, y: of the batch.
        free: the free phase.
        beta: nudging strength.
        step: how far weights move along each estimate.
        relaxation: of the nudged phase; its stopping rule bounds the number of steps.
    """
    moving = copy.deepcopy(net)
    energy, pairs = HopfieldEnergy(moving), _trainable(net, moving)
    output = both(moving, loss, y, torch.tensor([beta], dtype=x.dtype, device=x.device))
    once = replace(relaxation, stop=Count(1), strict=False)
    tolerance, states, solution = relaxation.stop.tolerance_for(x.dtype), free.states, free
    totals: Gradients = {ours: torch.zeros_like(ours) for ours, _ in pairs}
    for passes in range(1, relaxation.stop.most + 1):
        solution = energy.minimise(x, output, states, once)
        now = energy.gradients(x, solution.states, [1 / (beta * len(x))])
        before = energy.gradients(x, states, [1 / (beta * len(x))])
        with torch.no_grad():
            for ours, theirs in pairs:
                change = now[theirs] - before[theirs]
                totals[ours] += change
                theirs -= step * change
        states = solution.states
        solution = replace(solution, iterations=passes)
        if tolerance is not None and float(solution.residual.max()) <= tolerance:
            break
    return totals, solution


def _trainable(net: AbstractNetwork, twin: AbstractNetwork) -> list[tuple[Tensor, Tensor]]:
    """Pair the trainable parameters of a network with those of its copy."""
    return [pair for pair in zip(net.parameters(), twin.parameters(), strict=True) if pair[0].requires_grad]
