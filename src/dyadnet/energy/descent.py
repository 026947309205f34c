"""All layers of a lifted energy step at once, as `settle` would let them but without its messages:

    s_k <- P( y_k + step_k (target_k(y) - y_k) ),        y = s + momentum (s - s one step ago)

Only what something has reached takes part. After a forward pass, where the output alone has a gap, layer k has nothing
to do before step `L - k`, and what the layers below it send up is not computed again.
"""

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

from dyadnet.energy.base import Output
from dyadnet.energy.gaps import LiftedWiring
from dyadnet.energy.unknown import Unknown
from dyadnet.network.linearisation import Point
from dyadnet.network.state import AbstractState, Activity, distance


class Descent:
    """The layers under way.

    Args:
        wiring: where they start; it holds the states that were reached when `states` is called.
        output: the boundary condition of the output; None leaves it free.
        steps: how far each hidden layer goes towards its target.
        momentum: the share of the last movement that is added.
    """

    def __init__(
        self, wiring: LiftedWiring, output: Output | None, steps: Sequence[float], momentum: float = 0.0
    ) -> None:
        self.wiring, self.output, self.momentum = wiring, output, momentum
        layers = range(1, wiring.depth + 1)
        self.depth, self.gamma, self.weak = wiring.depth, wiring.gamma, wiring.gamma != 1
        self.potentials = dict(enumerate(wiring.potentials, 1))
        self.steps = dict(enumerate(steps, 1))
        self.s = {k: wiring.state(k).s for k in layers}
        self.shown = {k: wiring.state(k).mean() for k in layers}
        self.drive = {k: wiring.drive(k) for k in layers}
        self.at = {k: wiring.chain.stage(k, renew=True) for k in layers}
        self.last: dict[int, Tensor] = {}
        self.owned: set[int] = set()
        """Layers that have moved, in memory of their own."""
        self.lowest = next((k for k in layers if not wiring.state(k).resting), self.depth + 1)
        """The lowest layer that has left the place where a forward pass put it."""
        self.changed = self.depth
        """The lowest layer that moved in the last step."""

    def advance(self, look: bool) -> Tensor | None:
        """Take a step; return how far each sample was from settled, `(batch,)`, if asked to look."""
        if self.momentum:
            self._go_on()
        self._predict()
        self.changed = self.lowest = max(self.lowest - 1, 1)
        sent, far = None, []
        for k in range(self.depth, self.lowest - 1, -1):
            s, heard = self.s[k], sent
            sent = self.potentials[k].sent(s, self.drive[k]) if k > self.lowest else None  # as of now, before it moves
            feedback = None if heard is None else self.at[k + 1].feedback(heard * self.gamma if self.weak else heard)
            if look:
                far.append(distance(Activity(s), Activity(self._moved(k, s.clone(), feedback, 1.0))))
            if k not in self.owned:
                s = s.clone()
                self.owned.add(k)
            self.s[k] = moved = self._moved(k, s, feedback, self.steps.get(k, 1.0))
            self.shown[k] = self.potentials[k].shown(moved)
        return reduce(torch.maximum, far) if look else None

    def _moved(self, k: int, s: Tensor, feedback: Tensor | None, step: float) -> Tensor:
        """Layer k after a step from `s`, which may be overwritten."""
        if feedback is None:
            return self.drive[k] if self.output is None else self.output(self.drive[k], s)
        return self.potentials[k].moved_(s, self.shown[k], self.drive[k], feedback, step)

    def states(self) -> list[AbstractState]:
        """Return the layers where they are, and leave them there."""
        for k, potential in self.potentials.items():
            state = Unknown(self.s[k], potential.allowed, potential.shown, resting=k < self.lowest)
            self.wiring.states[k] = state
        return [self.wiring.states[k] for k in self.s]

    def _predict(self) -> None:
        """Let layers hear anew of those that have moved."""
        for k in range(self.changed + 1, self.depth + 1):
            shown, at = self.shown[k - 1], self.at[k]
            if at.affine:
                self.drive[k] = at.send(shown)
            else:
                self.at[k] = at = self.wiring.chain.stages[k - 1].linearise(_held(shown), self.wiring.chain.detours)
                self.drive[k] = at.value

    def _go_on(self) -> None:
        """Extrapolate."""
        reached, self.s = self.s, dict(self.s)
        for k, last in self.last.items():
            if reached[k] is not last:
                potential = self.potentials[k]
                self.s[k] = s = potential.allowed(torch.lerp(last, reached[k], 1 + self.momentum))
                self.shown[k] = potential.shown(s)
        self.last = reached


def _held(value: Tensor) -> Point:
    return lambda: value
