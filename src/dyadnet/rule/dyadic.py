"""Dyadic learning: two-state neurons in a network of any connectivity (paper E; thesis chapter 4).

    min_{s+} max_{s-}  1/2 l(s+) + 1/2 l(s-) + (1/beta) [ G(s+) - G(s-) - <s+ - s-, W mean + b> ]          (4.7)

Stationary states, with `mean = (s^+ + s^-) / 2` and `d = s^+ - s^-`:

    s^+ = f( W mean + b + 1/2 W^T d - beta/2 l'(s^+) )
    s^- = f( W mean + b - 1/2 W^T d + beta/2 l'(s^-) )

and the weights learn from `dL/dW = -(1/beta) d mean^T`. Means travel through W, differences through its transpose. For
`W = theta + c theta^T` this is `dL/dtheta = -(1/beta) (d mean^T + c mean d^T)`, restricted to `theta`'s entries.

    symmetric W (c = 1)         the states decouple: each is the network nudged by +-beta/2 (equilibrium propagation)
    layered skew W (c = -1)     the states decouple into two copies of the free network, outputs nudged by +-beta/2:
                                s^+ of the output's parity and s^- of the other one belong to the first
    lower-triangular W (c = 0)  dual propagation
"""

from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from dyadnet.bounds import positive
from dyadnet.loss import AbstractLoss, Loss, as_loss
from dyadnet.network.base import AbstractHopfield, AbstractNetwork
from dyadnet.network.layered import Layered
from dyadnet.network.state import AbstractState, Activity, Pair, States
from dyadnet.network.wiring import AbstractWiring
from dyadnet.relax.relaxation import Relaxation, Solution, settle
from dyadnet.rule.base import AbstractRule, Estimate
from dyadnet.rule.nudge import both, nudged


@final
@dataclass(frozen=True)
class Dyadic(AbstractRule):
    """Gradients from dyadic neurons in a network of any symmetry.

    The error of the estimate falls as `beta^2`.

    Args:
        beta: nudging strength a sample; each state is nudged by half of it.
        form: `joint` infers both states together; `two-phase` runs the free network twice with opposite nudges, where
            that is exact (symmetric networks, layered skew ones); `auto` takes the latter where it is exact.
        relaxation: how states reach equilibrium; None stands for the network's own.

    Raises:
        ValueError: for a `beta` that is not positive, or beyond the bound of the loss; `two-phase` where it is not
            exact; in `estimate`, for a network with loops through maps that are not affine.
    """

    beta: float = 0.5
    form: Literal["auto", "joint", "two-phase"] = "auto"
    relaxation: Relaxation | None = None

    def __post_init__(self) -> None:
        positive(beta=self.beta)
        if self.form not in ("auto", "joint", "two-phase"):
            raise ValueError(f"form must be auto, joint or two-phase, not {self.form!r}")

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
        """Relax dyads; the states are `Pair`s, and the output is what their means would have it be without a nudge."""
        net.check_steady()
        net.check_straight("Dyadic")
        loss, relaxation = as_loss(loss), self.relaxation or net.relaxation
        exact = decouples(net)
        if self.form == "two-phase" and not exact:
            raise ValueError("this network's dyads do not decouple into two phases: use form='joint'")
        reach = self._two_phases if exact and self.form != "joint" else self._joint
        wiring, solution = reach(net, loss, x, y, states, relaxation, generator)
        with torch.no_grad():
            grads = wiring.read().gradients()
            output = net.respond(wiring.depth, wiring.received(wiring.depth))
        pairs = [wiring.state(k) for k in range(1, wiring.depth + 1)]
        kept = pairs if keep_states else None
        return Estimate(loss(output, y).mean(), output, grads, kept, solution.iterations, solution)

    def _joint(
        self,
        net: AbstractNetwork,
        loss: AbstractLoss,
        x: Tensor,
        y: Tensor,
        states: States | None,
        how: Relaxation,
        generator: torch.Generator | None,
    ) -> tuple[AbstractWiring, Solution]:
        """Infer both states together."""
        wiring, scale = net.wire(x, states), self.beta * len(x)
        nudged_plus = nudged(net, loss, y, self.beta / 2, wiring.depth)
        nudged_minus = nudged(net, loss, y, -self.beta / 2, wiring.depth)

        def neuron(k: int, drive: Tensor, feedback: Tensor | None, before: AbstractState | None) -> AbstractState:
            plus = minus = drive
            if feedback is not None:
                half = feedback * (scale / 2)
                plus, minus = net.tilted(drive, -half), net.tilted(drive, half)
            if k < wiring.depth:
                return Pair(net.respond(k, plus), net.respond(k, minus), scale)
            old = before if isinstance(before, Pair) else None
            return Pair(nudged_plus(plus, old and old.s_plus), nudged_minus(minus, old and old.s_minus), scale)

        return wiring, settle(wiring, neuron, how, generator=generator)

    def _two_phases(
        self,
        net: AbstractNetwork,
        loss: AbstractLoss,
        x: Tensor,
        y: Tensor,
        states: States | None,
        how: Relaxation,
        generator: torch.Generator | None,
    ) -> tuple[AbstractWiring, Solution]:
        """Relax two copies of the free network with opposite nudges, and sort them into dyads."""
        skew = isinstance(net, AbstractHopfield) and net.gain < 0
        wiring = net.wire(x, None if states is None else _copies(states, skew=skew), copies=2)
        scale, last = self.beta * len(x), wiring.depth
        strengths = torch.tensor([self.beta / 2, -self.beta / 2], dtype=x.dtype, device=x.device)
        output = both(net, loss, y, strengths, last)

        def neuron(k: int, drive: Tensor, feedback: Tensor | None, before: AbstractState | None) -> AbstractState:
            if k == last:
                return Activity(output(drive, None if before is None else before.mean()))
            return net.free(k, drive, feedback, before)

        solution = settle(wiring, neuron, how, generator=generator)
        pairs = [
            Pair(*_in_order(state.mean().chunk(2), swap=skew and (last - k) % 2 == 1), scale)
            for k, state in enumerate(solution.states, 1)
        ]
        return wiring.again(pairs), solution


def decouples(net: AbstractNetwork) -> bool:
    """Return whether the dyads of a network fall apart into two copies of the free network, exactly.

    They do for symmetric connections and for layered skew ones, if the maps between layers are affine.
    """
    if isinstance(net, Layered):
        return net.gain in (-1, 1) and net.affine()
    return isinstance(net, AbstractHopfield) and net.gain == 1


def contrastive_matrix(connectivity: Tensor) -> Tensor:
    """Return the symmetric matrix of thesis eq. 4.8, through which `(s^+, s^-)` interact, for a given `W`.

    >>> contrastive_matrix(torch.tensor([[0, 1], [1, 0]]))      # symmetric: s^+ and s^- do not interact
    tensor([[ 0,  2,  0,  0],
            [ 2,  0,  0,  0],
            [ 0,  0,  0, -2],
            [ 0,  0, -2,  0]])
    """
    both_ways, difference = connectivity + connectivity.T, connectivity - connectivity.T
    return torch.cat([torch.cat([both_ways, difference], 1), torch.cat([-difference, -both_ways], 1)])


def _in_order(states: tuple[Tensor, ...], *, swap: bool) -> tuple[Tensor, Tensor]:
    return (states[1], states[0]) if swap else (states[0], states[1])


def _copies(states: States, *, skew: bool) -> States:
    """Dyads sorted back into the two copies of the network that they came from."""
    sorted_back = []
    for k, state in enumerate(states, 1):
        parts = state.parts() if isinstance(state, Pair) else (state.mean(), state.mean())
        swap = skew and (len(states) - k) % 2 == 1
        sorted_back.append(Activity(torch.cat(_in_order(parts, swap=swap))))
    return sorted_back
