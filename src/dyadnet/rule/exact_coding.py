"""Two forms of predictive coding that are backpropagation. The output has the error `e_L = -l'`, as if it were clamped.

Fixed predictions (Millidge, Tschantz and Buckley 2022; Rosenbaum 2022): `f'` and what is predicted stay as the forward
pass left them, so that errors relax linearly, and all layers learn from them at the end:

    e_k  <-  (1 - step) e_k + step f'_k(a_k) * J_{k+1}^T e_{k+1}            exact for step = 1, after L - 1 steps

Z-IL (Song et al. 2020): states and predictions move as in predictive coding, but by steps of length 1, and layer k
learns after step `L - k`, in which the error has just reached it, before anything below has moved:

    a_k  =  map_k(s_{k-1}) + f'_k(a_k) * J_{k+1}^T e_{k+1}
"""

from dataclasses import replace

import torch
from torch import Tensor

from dyadnet.energy.lifted import LiftedEnergy
from dyadnet.loss import Loss, as_loss
from dyadnet.network.linearisation import Gradients, merge
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.schedule import Parallel
from dyadnet.relax.solver import Plain
from dyadnet.relax.stopping import Count
from dyadnet.rule.base import Estimate
from dyadnet.rule.lifted import start, target
from dyadnet.rule.nudge import clamped


@torch.no_grad()
def fixed_prediction(
    energy: LiftedEnergy,
    loss: Loss,
    x: Tensor,
    y: Tensor,
    *,
    step: float = 1.0,
    steps: int | None = None,
    keep_states: bool = True,
) -> Estimate:
    """Return the gradient once errors have relaxed for some steps.

    Args:
        energy: of predictive coding.
        loss, x, y: of the batch.
        step: how far errors go.
        steps: how many; None stands for as many as there are layers.
        keep_states: whether to return the states.
    """
    loss, wiring = as_loss(loss), energy.wire(x)
    depth, prediction = wiring.depth, wiring.state(wiring.depth).s
    layers = range(1, depth)
    errors = {k: torch.zeros_like(wiring.drive(k)) for k in layers} | {depth: -loss.gradient(prediction, y)}
    steps = depth if steps is None else steps
    for _ in range(steps):
        for k in layers:  # upwards: each hears of the error that the layer above had before
            heard, state = wiring.heard(k, errors[k + 1]), wiring.state(k)
            felt = wiring.potentials[k - 1].felt(heard, state.s, state.mean())
            errors[k] = torch.lerp(errors[k], felt, step)
    grads = wiring.chain.learn({k: -error / len(x) for k, error in errors.items()})
    kept = [wiring.state(k).of_parts([wiring.drive(k) + error]) for k, error in errors.items()] if keep_states else None
    return Estimate(loss(prediction, y).mean(), prediction, grads, kept, passes=steps)


@torch.no_grad()
def z_il(energy: LiftedEnergy, loss: Loss, x: Tensor, y: Tensor, *, keep_states: bool = True) -> Estimate:
    """Return what the layers learn, each when the error reaches it.

    Args:
        energy: of predictive coding.
        loss, x, y: of the batch.
        keep_states: whether to return the states.
    """
    loss, energy = as_loss(loss), replace(energy, step=1.0)
    wiring = energy.wire(x)
    depth, prediction = wiring.depth, wiring.state(wiring.depth).s
    output, once = clamped(target(loss, prediction, y)), Relaxation(Parallel(), Plain(), Count(1))
    start(wiring, output)
    grads: Gradients = {}
    for k in range(depth, 0, -1):
        merge(grads, wiring.chain.learn({k: -wiring.sent(k) / len(x)}))
        if k > 1:
            energy.minimise(wiring, output, once)
    kept = [wiring.state(k) for k in range(1, depth + 1)] if keep_states else None
    return Estimate(loss(prediction, y).mean(), prediction, grads, kept, passes=depth)
