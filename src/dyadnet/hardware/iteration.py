"""The loop of an optical machine in time, on pre-activations z; every turn is one pass of light.

z <- alpha_t z + beta light(W) f(z) + inputs (x + b) + gamma (z - z_before) + noise xi

fixed point    alpha = 1 - tau, beta = inputs = tau: at rest z = W f(z) + x + b, the equilibrium of the network
annealed       alpha_t falls from `alpha` to `end`: the states of a symmetric network sink into a low energy
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from dyadnet.bounds import bounded, positive
from dyadnet.hardware.optical import OpticalMachine
from dyadnet.network.state import AbstractState, Activity
from dyadnet.relax.relaxation import Relaxation, Solution, until
from dyadnet.relax.stopping import AbstractStop, Count, Residual


@final
@dataclass(frozen=True)
class Iteration:
    """One turn of the loop.

    Args:
        alpha: the share of the state that stays.
        beta: the gain of the weights.
        inputs: the gain of inputs and biases.
        gamma: momentum.
        end: what alpha goes to, linearly, over the passes of a relaxation; None leaves it where it is.

    Raises:
        ValueError: for shares outside [0, 1), for momentum alike, and for gains that are not positive.

    >>> Iteration.damped(0.25)
    Iteration(alpha=0.75, beta=0.25, inputs=0.25, gamma=0.0, end=None)
    """

    alpha: float = 0.5
    beta: float = 0.5
    inputs: float = 0.5
    gamma: float = 0.0
    end: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("alpha", self.alpha), ("gamma", self.gamma), ("end", self.end or 0.0)):
            if not 0 <= value < 1:
                raise ValueError(f"{name} must lie in [0, 1), where the loop forgets its past, not {value}")
        positive(beta=self.beta, inputs=self.inputs)

    @classmethod
    def damped(cls, tau: float, gamma: float = 0.0) -> "Iteration":
        """Return the turn that goes the share `tau`, in (0, 1], of the way to the network's equilibrium."""
        return cls(1 - tau, tau, tau, gamma)

    def share(self, turn: int, turns: int) -> float:
        """Return `alpha_t` for turn 1 to `turns`."""
        if self.end is None:
            return self.alpha
        return self.alpha + (self.end - self.alpha) * (turn - 1) / max(1, turns - 1)


@torch.no_grad()
def iterate(
    machine: OpticalMachine,
    x: Tensor,
    iteration: Iteration | None = None,
    stop: AbstractStop | None = None,
    start: Tensor | None = None,
    *,
    noise: float = 0.0,
    generator: torch.Generator | None = None,
) -> Solution:
    """Let the loop of a machine turn; return the states that it reached, `f(z)` of the hidden units and of the outputs.

    Args:
        machine: with its weights.
        x: inputs `(batch, ...)`.
        iteration: None stands for the fixed point at `tau = 1/2`.
        stop: None stands for the residual `|z' - z| / beta`; an annealed machine makes a number of turns, `Count(n)`.
        start: pre-activations `(batch, units)`; None stands for silence.
        noise: standard deviation of what light and electronics add to every pre-activation in one turn, independently
            of all else. A unit without weights then strays by `noise / sqrt(1 - alpha^2)`.
        generator: of the noise; without one a fixed seed is used.

    Raises:
        ValueError: for negative noise, and for an annealed or a noisy machine that is to stop by its residual.
    """
    iteration, stop = iteration or Iteration(), stop or Residual()
    bounded(noise=noise)
    if (noise or iteration.end is not None) and not isinstance(stop, Count):
        raise ValueError("an annealed or a noisy machine makes a number of turns: take stop=Count(n)")
    generator = generator or torch.Generator().manual_seed(0)
    wiring = machine.wire(x)
    inner, light = wiring.inner, wiring.forth
    z = torch.zeros_like(inner.input) if start is None else start.to(inner.input)
    before, turn = z, 0

    def states() -> list[AbstractState]:
        return [Activity(machine.respond(k, z[:, rows])) for k, rows in inner.rows.items()]

    def advance(look: bool) -> Tensor | None:
        nonlocal z, before, turn
        turn += 1
        s = torch.cat([state.mean() for state in states()], 1)
        new = iteration.share(turn, stop.most) * z + iteration.beta * light(s) + iteration.inputs * inner.input
        new += iteration.gamma * (z - before)
        if noise:
            new += noise * torch.randn(z.shape, generator=generator, dtype=z.dtype).to(z.device)
        z, before = new, z
        return (z - before).abs().amax(1) / iteration.beta if look else None

    return until(Relaxation(stop=stop), advance, states, z.dtype)
