"""How the layers of a lifted energy hear one another: predictions go up and gaps go down, both at the states of now."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from dyadnet.energy.base import weighted
from dyadnet.energy.potential import AbstractPotential
from dyadnet.energy.unknown import Unknown
from dyadnet.network.linearisation import Gradients
from dyadnet.network.state import AbstractMovable, AbstractState, States
from dyadnet.network.wiring import AbstractWiring, ChainWiring
from dyadnet.relax.schedule import AbstractSchedule, Parallel


@final
class LiftedWiring(AbstractWiring):
    """The messages of one batch.

    Args:
        chain: the maps, and the states of the layers; without any, all are put where a forward pass leaves them.
        potentials: one a layer.
        gamma: the discount of what comes from above.
        steps: how far the hidden layers go, once it is known: the phases of a batch share it.
    """

    def __init__(
        self,
        chain: ChainWiring,
        potentials: Sequence[AbstractPotential],
        gamma: float,
        steps: Sequence[float] | None = None,
    ) -> None:
        self.steps, self.substrate = steps, chain.substrate
        self.chain, self.potentials, self.gamma, self.depth = chain, potentials, gamma, chain.depth
        for k, potential in enumerate(potentials, 1):
            state = chain.states.get(k)
            if state is None:
                start = potential.allowed(potential.rest(self.received(k)))
            else:
                assert isinstance(state, AbstractMovable)
                start = state.parts()[0]
            resting = state is None and potential.vanishes
            chain.states[k] = Unknown(start, potential.allowed, potential.shown, resting=resting)

    @property
    def states(self) -> dict[int, AbstractState]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The states of the layers."""
        return self.chain.states

    def again(self, states: States, copies: int = 1) -> "LiftedWiring":
        """Return the wiring of the same inputs and other states."""
        return LiftedWiring(self.chain.again(states, copies), self.potentials, self.gamma, self.steps)

    def state(self, k: int) -> Unknown:
        """Return the state of layer k."""
        state = self.chain.states[k]
        assert isinstance(state, Unknown)
        return state

    def drive(self, k: int) -> Tensor:
        """Return `a_k`."""
        return self.chain.sent(k)

    def feedback(self, k: int) -> Tensor | None:
        """Return `gamma J_{k+1}^T sent_{k+1}`; None where the layers above still rest."""
        if k == self.depth or self.state(k + 1).resting:
            return None
        return self.gamma * self.heard(k, self.sent(k + 1))

    def sent(self, k: int) -> Tensor:
        """Return what layer k sends down, `-dE_k/da_k`."""
        return self.potentials[k - 1].sent(self.state(k).s, self.received(k))

    def heard(self, k: int, sent: Tensor) -> Tensor:
        """Return `J_{k+1}^T sent`."""
        down = self.chain.couple(k, {k + 1: sent}, 0.0, 1.0)
        assert down is not None
        return down

    def value(self) -> Tensor:
        """Return the energy of every sample, `(batch,)`."""
        terms = [p.value(self.state(k).s, self.received(k)) for k, p in enumerate(self.potentials, 1)]
        return torch.stack([self.gamma**k * term.flatten(1).sum(1) for k, term in enumerate(terms)]).sum(0)

    def learn(self, weights: Sequence[complex]) -> Gradients:
        """Return `sum_i weights_i dE/dtheta(s^i)` of the copies in every parameter."""
        layers = range(1, self.depth + 1)
        scaled = {k: [-weight * self.gamma ** (k - 1) for weight in weights] for k in layers}
        return self.chain.learn({k: weighted(self.sent(k), scaled[k]) for k in layers})

    def gradients(self) -> Gradients:
        """Return `dE/dtheta`, summed over the batch."""
        return self.learn([1.0] * self.chain.copies)

    def best_factor(self, schedule: AbstractSchedule, iterations: int, margin: float) -> float:
        """Return 1: steps are fitted to the layers. Neighbours that move at once have to go a little less far."""
        return 0.9 if isinstance(schedule, Parallel) else 1.0
