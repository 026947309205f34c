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
from dyadnet.network.linearise import Point
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
        self.potentials, self.gamma, self.depth = wiring.potentials, wiring.gamma, wiring.depth
        layers = range(1, self.depth + 1)
        self.steps = dict(zip(layers, steps, strict=False))
        self.s = {k: wiring.state(k).s for k in layers}
        self.drive = {k: wiring.drive(k) for k in layers}
        self.at = {k: wiring.chain.stage(k, renew=True) for k in layers}
        self.last: dict[int, Tensor] = {}
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
        moved, sent = [], None
        for k in range(self.depth, self.lowest - 1, -1):
            before, target = self.s[k], self._target(k, sent)
            if k > self.lowest:  # what the next layer hears is of now
                sent = self.potentials[k - 1].sent(before, self.drive[k])
            allowed = self.potentials[k - 1].allowed
            if look:
                moved.append(distance(Activity(before), Activity(allowed(target))))
            step = self.steps.get(k, 1.0)
            self.s[k] = allowed(target if step == 1 else torch.lerp(before, target, step))
        return reduce(torch.maximum, moved) if look else None

    def states(self) -> list[AbstractState]:
        """Return the layers where they are, and leave them there."""
        for k, potential in enumerate(self.potentials, 1):
            state = Unknown(self.s[k], potential.allowed, potential.shown, resting=k < self.lowest)
            self.wiring.states[k] = state
        return [self.wiring.states[k] for k in self.s]

    def _target(self, k: int, sent: Tensor | None) -> Tensor:
        """`s_k - dE/ds_k`; of the output, where its boundary condition puts it."""
        potential, drive, s = self.potentials[k - 1], self.drive[k], self.s[k]
        if k == self.depth:
            return drive if self.output is None else self.output(drive, s)
        assert sent is not None
        feedback = self.at[k + 1].feedback(sent if self.gamma == 1 else self.gamma * sent)
        return potential.rest(drive) + potential.felt(feedback, s)

    def _predict(self) -> None:
        """Let layers hear anew of those that have moved."""
        for k in range(self.changed + 1, self.depth + 1):
            shown, at = self.potentials[k - 2].shown(self.s[k - 1]), self.at[k]
            if at.affine:
                self.drive[k] = at.send(shown)
            else:
                self.at[k] = at = self.wiring.chain.stages[k - 1].linearise(_held(shown))
                self.drive[k] = at.value

    def _go_on(self) -> None:
        """Extrapolate."""
        reached, self.s = self.s, dict(self.s)
        for k, last in self.last.items():
            if reached[k] is not last:
                ahead = torch.add(reached[k], reached[k] - last, alpha=self.momentum)
                self.s[k] = self.potentials[k - 1].allowed(ahead)
        self.last = reached


def _held(value: Tensor) -> Point:
    return lambda: value
