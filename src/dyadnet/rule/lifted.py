"""What the rules of lifted networks share (thesis eq. 3.12):

    min_s  l(s_L) + (1/beta) E(s)           g = (1/beta) dE/dtheta at the minimum

Without a nudge the least energy is zero, at the forward pass: one phase is enough. States start there, the output where
the loss puts it, and what it pulls at descends one layer a step.
"""

from math import inf

import torch
from torch import Tensor

from dyadnet.energy.base import Output
from dyadnet.energy.gaps import LiftedWiring
from dyadnet.energy.lifted import LiftedEnergy
from dyadnet.energy.unknown import Unknown
from dyadnet.loss import AbstractLoss, Loss, as_loss, fitted
from dyadnet.network.state import States
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.schedule import OddEven, Parallel
from dyadnet.relax.solver import Accelerated, Plain
from dyadnet.relax.stopping import AbstractStop, Count, Residual
from dyadnet.rule.base import Estimate
from dyadnet.rule.nudge import clamped


def one_phase(
    energy: LiftedEnergy,
    loss: Loss,
    x: Tensor,
    y: Tensor,
    relaxation: Relaxation | None,
    *,
    beta: float = inf,
    states: States | None = None,
    keep_states: bool = True,
) -> Estimate:
    """Return what a rule of one phase estimates.

    Args:
        energy: of the network.
        loss, x, y: of the batch.
        relaxation: how states descend; None stands for the energy's own.
        beta: the strength of the nudge; infinite clamps the output.
        states: where to start; None stands for the forward pass.
        keep_states: whether to return the states.
    """
    loss, wiring = as_loss(loss), energy.wire(x)
    prediction = wiring.state(wiring.depth).s
    wiring = wiring if states is None else wiring.again(states)
    output = pulled(loss, prediction, y, beta)
    start(wiring, output)
    solution = energy.minimise(wiring, output, relaxation)
    scale = (1 if beta == inf else beta) * energy.gamma ** (wiring.depth - 1)
    grads = energy.gradients(wiring.read(), [1 / (scale * len(x))])
    kept = solution.states if keep_states else None
    return Estimate(loss(prediction, y).mean(), prediction, grads, kept, solution.iterations, solution)


def pulled(loss: AbstractLoss, prediction: Tensor, y: Tensor, beta: float) -> Output:
    """Return the boundary condition of an output of `1/2 |s - drive|^2 + beta l(s)`.

    The squared error is minimised; of other losses, whose curvature should not exceed 1, the output takes a gradient
    step. An infinite `beta` clamps it to `prediction - l'(prediction)`: for the squared error, to the target.
    """
    if beta == inf:
        return clamped(target(loss, prediction, y))
    y = fitted(loss, y, prediction)  # once, not at every step
    beta = float(loss.applied(beta))
    if loss.quadratic:
        nudge = loss.nudge(y, beta)
        return lambda drive, before: nudge(drive)

    def descended(drive: Tensor, before: Tensor | None) -> Tensor:
        s = drive if before is None else before
        return torch.lerp(s, drive - beta * loss.gradient(s, y), 1 / (1 + beta))

    return descended


def target(loss: AbstractLoss, output: Tensor, y: Tensor) -> Tensor:
    """Return `output - l'(output)`: where a full step of the loss leads; for the squared error that is `y`."""
    return output - loss.gradient(output, y)


def start(wiring: LiftedWiring, output: Output) -> None:
    """Put the output where its boundary condition wants it."""
    last = wiring.state(wiring.depth)
    s = output(wiring.received(wiring.depth), last.s)
    wiring.states[wiring.depth] = Unknown(s, last.allowed, last.shows)


def gradient_steps(steps: int, momentum: float, tolerance: float | None, step: float | None) -> Relaxation:
    """Return simultaneous gradient steps: exactly so many, or until settled within a tolerance.

    Under momentum m a quadratic bears steps of `2 (1 + m) / (1 + 2 m)` over its curvature, not of 2, and layers that
    move at once may double the curvature: where nobody has chosen a step, it is shortened by both.
    """
    factor = 1.0 if step is not None else (1 + momentum) / (2 + 4 * momentum)
    solver = Accelerated(momentum, factor) if momentum else Plain()
    return Relaxation(Parallel(), solver, stopping(steps, tolerance))


def accelerated(steps: int | None, tolerance: float | None) -> Relaxation:
    """Return projected steps of odd, then even layers, each as far as is safe, with growing momentum."""
    return Relaxation(OddEven(), Accelerated(), stopping(steps, tolerance))


def stopping(steps: int | None, tolerance: float | None) -> AbstractStop:
    """Return the rule to stop after so many steps, or where a tolerance is reached (with the library's own if none)."""
    if steps is not None and tolerance is None:
        return Count(steps)
    return Residual(tolerance) if steps is None else Residual(tolerance, steps)


def check_reach(steps: int, depth: int) -> None:
    """Refuse too few steps for the pull of the output to reach the lowest layer.

    Raises:
        ValueError: saying how many are needed.
    """
    if steps < depth - 1:
        raise ValueError(
            f"in {steps} steps the error descends {steps} layers, so the lowest {depth - 1 - steps} of {depth} would "
            f"get no signal: take at least {depth - 1} steps"
        )
