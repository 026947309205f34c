"""Incremental predictive coding (Salvatori et al. 2024): weights move with the states, at every step of inference.

    a      <-  a - step dE/da(a, theta)
    theta  <-  theta - weight_step (1/beta) dE/dtheta(a, theta)                                       t = 1, ..., T

The network itself is not touched: the weights of a copy move, and the total change divided by `-weight_step` is
returned as a gradient. As `weight_step -> 0` it tends to the sum of what predictive coding gives after 1, 2, ..., T
steps.
"""

import copy
from dataclasses import replace
from math import inf

import torch
from torch import Tensor

from dyadnet.energy.lifted import LiftedEnergy
from dyadnet.loss import Loss, as_loss
from dyadnet.network.linearisation import Gradients
from dyadnet.network.state import States
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.stopping import Count
from dyadnet.rule.base import Estimate
from dyadnet.rule.continual import trainable
from dyadnet.rule.lifted import pulled, start


def incremental(
    energy: LiftedEnergy,
    loss: Loss,
    x: Tensor,
    y: Tensor,
    relaxation: Relaxation,
    *,
    weight_step: float,
    beta: float = inf,
    states: States | None = None,
    keep_states: bool = True,
) -> Estimate:
    """Return the accumulated change of the weights as a gradient.

    Args:
        energy: of the network, which is copied.
        loss, x, y: of the batch.
        relaxation: of the states; its stopping rule says how many steps there are.
        weight_step: how far weights move.
        beta: the strength of the nudge; infinite clamps the output.
        states: where to start; None stands for the forward pass.
        keep_states: whether to return the states.
    """
    net, loss = energy.net, as_loss(loss)
    moving = replace(energy, net=copy.deepcopy(net.on(None)).on(net.substrate))
    pairs, weights = trainable(net, moving.net), [1 / ((1 if beta == inf else beta) * len(x))]
    wiring = moving.wire(x)
    prediction = wiring.state(wiring.depth).s
    wiring = wiring if states is None else wiring.again(states)
    output, once = pulled(loss, prediction, y, beta), replace(relaxation, stop=Count(1))
    start(wiring, output)
    totals: Gradients = {ours: torch.zeros_like(ours) for ours, _ in pairs}
    for _ in range(relaxation.stop.most):
        solution = moving.minimise(wiring, output, once)
        grads = moving.gradients(wiring.read(), weights)
        with torch.no_grad():
            for ours, theirs in pairs:
                totals[ours] += grads[theirs]
                theirs -= weight_step * grads[theirs]
        # Steps for the first weights: these move little within a batch, and the steps bear twice their curvature.
        steps, wiring = wiring.steps, moving.wire(x, solution.states)
        wiring.steps = steps
    kept = [wiring.state(k) for k in range(1, wiring.depth + 1)] if keep_states else None
    return Estimate(loss(prediction, y).mean(), prediction, totals, kept, passes=relaxation.stop.most)
