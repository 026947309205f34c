"""Networks whose neurons minimise energies of the user's own, `s_k = argmin_s E_k(s, s_rest)` (thesis eqs 4.1-4.3).

Dyadic learning needs two things of a neuron: its energy, differentiated in the means of the others and in the
parameters, and its minimiser under a tilt, `argmin_s E_k(s, mean) - tilt_k s`. The stationary states of

    min_{s+} max_{s-}  1/2 l(s+) + 1/2 l(s-) + (1/beta) sum_k [ E_k(s_k^+, mean) - E_k(s_k^-, mean) ]           (4.3)

are those minimisers for the tilts `-+(g + beta/2 l')`, with

    g = 1/2 d/dmean sum_k [ E_k(s_k^+, mean) - E_k(s_k^-, mean) ]

and the parameters learn from `(1/beta) d/dtheta sum_k [ E_k(s_k^+, mean) - E_k(s_k^-, mean) ]`.
"""

import abc
from typing import final

import torch
from torch import Tensor, nn

from dyadnet.network.base import AbstractNetwork
from dyadnet.network.linearisation import Gradients
from dyadnet.network.state import AbstractState, Activity, Pair, States
from dyadnet.network.wiring import AbstractWiring, over
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.schedule import AbstractSchedule, Parallel
from dyadnet.relax.solver import Damped


class AbstractNeuronEnergy(nn.Module, abc.ABC):
    """The energies of all units; the parameters of the module are those of the network."""

    @abc.abstractmethod
    def energies(self, s: Tensor, mean: Tensor, x: Tensor) -> Tensor:
        """Return `E_k(s_k, mean)` for every unit, `(batch, units)`; unit k does not look at `mean_k`.

        Args:
            s: states `(batch, units)`.
            mean: means of the units as the others see them, `(batch, units)`.
            x: inputs `(batch, inputs)`.
        """

    @abc.abstractmethod
    def minimiser(self, mean: Tensor, x: Tensor, tilt: Tensor) -> Tensor:
        """Return the states that minimise `E_k(s_k, mean) - tilt_k s_k`, `(batch, units)`."""


@final
class Energetic(AbstractNetwork):
    """A network of units that minimise their own energies; the last units are its outputs. It learns by `Dyadic`.

    Args:
        energy: the energies with their minimisers.
        units: how many units there are.
        outputs: how many of them are outputs.
        relaxation: how states reach equilibrium; None stands for simultaneous updates that go half of the way.

    >>> class Lifted(AbstractNeuronEnergy):       # 1/2 (s - w x)^2, of which the second unit sees the first one's mean
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.w = nn.Parameter(torch.tensor(2.0))
    ...     def predicted(self, mean, x):
    ...         return self.w * torch.cat([x, mean[:, :1]], 1)
    ...     def energies(self, s, mean, x):
    ...         return (s - self.predicted(mean, x)).square() / 2
    ...     def minimiser(self, mean, x, tilt):
    ...         return self.predicted(mean, x) + tilt
    >>> net = Energetic(Lifted(), units=2, outputs=1)
    >>> net(torch.tensor([[1.0]])).round(decimals=3)
    tensor([[4.]])
    """

    def __init__(
        self, energy: AbstractNeuronEnergy, units: int, outputs: int, relaxation: Relaxation | None = None
    ) -> None:
        super().__init__()
        if not 0 < outputs < units:
            raise ValueError(f"{units} units cannot have {outputs} outputs and hidden units besides")
        self.energy, self.units = energy, units
        self.relaxation = relaxation or Relaxation(schedule=Parallel(), solver=Damped(0.5))
        self.rows = {1: slice(0, units - outputs), 2: slice(units - outputs, units)}

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs at equilibrium, `(batch, outputs)`."""
        return self.relax(x).states[-1].mean()

    def wire(self, x: Tensor, states: States | None = None, copies: int = 1) -> "EnergyWiring":
        """Return the wiring for one batch."""
        self.check_inputs(x, states, copies)
        return over(self.substrate, EnergyWiring(self, x.flatten(1), dict(enumerate(states or (), 1)), copies))

    def respond(self, k: int, drive: Tensor) -> Tensor:
        """Return the minimisers of layer k; its drive holds all that they depend on: means, inputs and tilts."""
        rows = self.rows[k]
        width = rows.stop - rows.start
        mean, x, tilt = drive[:, : self.units], drive[:, self.units : -width], torch.zeros_like(drive[:, : self.units])
        tilt[:, rows] = drive[:, -width:]
        return self.energy.minimiser(mean, x, tilt)[:, rows]

    def tilted(self, drive: Tensor, tilt: Tensor) -> Tensor:
        """Return the drive with another tilt added to the one that it holds."""
        width = tilt.shape[1]
        return torch.cat([drive[:, :-width], drive[:, -width:] + tilt], 1)

    def changing(self) -> list[str]:
        """Nothing changes between visits."""
        return []

    def energy_missing(self) -> str:
        """The energies of single neurons do not add up to one of the network."""
        return "neurons with energies of their own need not have one in common: use Dyadic"


@final
class EnergyWiring(AbstractWiring):
    """The wiring of an energetic network: layer 1 holds its hidden units, layer 2 its outputs."""

    depth = 2

    def __init__(self, net: Energetic, x: Tensor, states: dict[int, AbstractState], copies: int) -> None:
        self.net, self.x = net, x.repeat(copies, 1)
        silent = {k: Activity(self.x.new_zeros(len(self.x), rows.stop - rows.start)) for k, rows in net.rows.items()}
        self.states: dict[int, AbstractState] = {0: Activity(x)} | silent | states

    def again(self, states: States, copies: int = 1) -> "EnergyWiring":
        """Return the wiring of the same inputs and other states."""
        held = dict(enumerate(states, 1))
        return over(self.substrate, EnergyWiring(self.net, self.states[0].mean(), held, copies))

    def state(self, k: int) -> AbstractState:
        """Return the state of layer k."""
        return self.states[k]

    def mean(self) -> Tensor:
        """Return the means of all units, `(copies * batch, units)`."""
        return torch.cat([self.states[1].mean(), self.states[2].mean()], 1)

    def drive(self, k: int) -> Tensor:
        """Return the means of all units, the inputs, and no tilt."""
        return torch.cat([self.mean(), self.x, torch.zeros_like(self.states[k].mean())], 1)

    @torch.enable_grad()
    def feedback(self, k: int) -> Tensor | None:
        """Return `2 g_k / scale`, which for bilinear energies is `(W^T error)_k`."""
        mean = self.mean().requires_grad_()
        gap = self.gap(mean)
        return None if gap is None else torch.autograd.grad(gap, mean, materialize_grads=True)[0][:, self.net.rows[k]]

    @torch.enable_grad()
    def gradients(self) -> Gradients:
        """Return `d/dtheta sum [ E(s^+) - E(s^-) ] / scale`."""
        gap, wanted = self.gap(self.mean()), [p for p in self.net.parameters() if p.requires_grad]
        assert gap is not None
        found = torch.autograd.grad(gap, wanted, materialize_grads=True) if wanted else ()
        return dict(zip(wanted, found, strict=True))

    def gap(self, mean: Tensor) -> Tensor | None:
        """Return `sum [ E(s^+, mean) - E(s^-, mean) ] / scale`, once every layer has dyads."""
        first, second = self.states[1], self.states[2]
        if not (isinstance(first, Pair) and isinstance(second, Pair)):
            return None
        plus = self.net.energy.energies(torch.cat([first.s_plus, second.s_plus], 1), mean, self.x)
        minus = self.net.energy.energies(torch.cat([first.s_minus, second.s_minus], 1), mean, self.x)
        return (plus - minus).sum() / first.scale

    def best_factor(self, schedule: AbstractSchedule, iterations: int, margin: float) -> float:
        """Return 1: nothing is known of how the units depend on one another."""
        return 1.0
