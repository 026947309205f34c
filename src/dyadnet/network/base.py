"""What rules and energies need of a network, whatever its connectivity."""

import abc
import copy
from collections.abc import Sequence
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from dyadnet.activation import Activation, half_square
from dyadnet.loss import AbstractLoss, Strength
from dyadnet.network.state import AbstractState, Activity, States
from dyadnet.network.substrate import AbstractSubstrate
from dyadnet.network.wiring import AbstractCoupling, AbstractWiring
from dyadnet.relax.relaxation import Observer, Relaxation, Solution, settle


class AbstractNetwork(nn.Module, abc.ABC):
    """A network of layers, each of which answers to what the others send.

    Attributes:
        relaxation: how its states reach equilibrium.
        substrate: what its units are made of; None stands for what is perfect.
    """

    relaxation: Relaxation
    substrate: AbstractSubstrate | None = None
    mixed_precision: ClassVar[bool] = False
    """Whether its maps may run under autocast; states never do."""

    @property
    def differentiable(self) -> bool:
        """Whether autograd can differentiate the prediction of perfect units; others have `RecurrentBackprop`."""
        return False

    @property
    def relaxes(self) -> bool:
        """Whether its states have to relax until they agree: all but feedforward chains."""
        return True

    @abc.abstractmethod
    def wire(self, x: Tensor, states: States | None = None, copies: int = 1) -> AbstractWiring:
        """Return the wiring for one batch.

        Args:
            x: inputs `(batch, ...)`.
            states: the states of the layers; None for layers that have not been visited.
            copies: how many copies of the batch the states hold one after another, all with the same inputs.
        """

    @abc.abstractmethod
    def respond(self, k: int, drive: Tensor) -> Tensor:
        """Return the states of layer k, which minimise its neurons' energies given their drive."""

    @abc.abstractmethod
    def tilted(self, drive: Tensor, tilt: Tensor) -> Tensor:
        """Return the drive of neurons to whose energies `E_k(s)` the term `-tilt s` is added."""

    @abc.abstractmethod
    def changing(self) -> list[str]:
        """Name the modules that compute something else at every visit (dropout and batch statistics in training)."""

    def groups(self) -> list[tuple[str, list[nn.Parameter]]]:
        """Return the trainable parameters by layer, each with its name; a layer may have none."""
        return [(name, [p] if p.requires_grad else []) for name, p in self.named_parameters()]

    @abc.abstractmethod
    def energy_missing(self) -> str | None:
        """Say why the network has no Hopfield energy, or return None where it has one."""

    def stiffness(self, k: int) -> Tensor | float | None:
        """Return `h` where a neuron of layer k minimises `h/2 (s - drive)^2` over a range, so that `s_k = f_k(u_k)`.

        One value for all units or one each; None where the energy is another one.
        """
        return None

    def check_nudge(self, loss: AbstractLoss, strength: Strength) -> None:
        """Refuse a nudge away from the target under which no energy would have a minimum.

        Raises:
            ValueError: naming the bound.
        """

    def project_(self) -> None:
        """Bring the parameters back to where they may be, after a step of an optimiser."""

    def prediction(self, states: Sequence[AbstractState]) -> Tensor:
        """Return what the network answers once its layers have reached these states: those of the output."""
        return states[-1].mean()

    @final
    def on(self, substrate: AbstractSubstrate | None, relaxation: Relaxation | None = None) -> "AbstractNetwork":
        """Return the same network with units made of something; modules and parameters are shared, not copied.

        Args:
            substrate: what they are made of; None stands for what is perfect.
            relaxation: how states reach equilibrium there; None stands for this network's own.
        """
        twin = copy.copy(self)
        twin.substrate, twin.relaxation = substrate, relaxation or self.relaxation
        return twin

    @final
    def check_perfect(self, what: str) -> None:
        """Refuse units that are not perfect.

        Args:
            what: is known of perfect ones alone.

        Raises:
            ValueError: naming it.
        """
        if self.substrate is not None:
            raise ValueError(f"{what} is known of perfect units alone: take net.on(None)")

    @final
    def check_inputs(self, x: Tensor, states: States | None = None, copies: int = 1) -> None:
        """Refuse empty batches, states of another batch, and half precision, where differences of states would drown.

        Raises:
            ValueError: saying what; naming the parameter, if it is one.
        """
        if not len(x):
            raise ValueError("the batch is empty")
        if states and len(states[-1].mean()) != copies * len(x):
            raise ValueError(
                f"the states given belong to a batch of {len(states[-1].mean())}, not of {copies * len(x)}"
            )
        kind = x.device.type
        if not self.mixed_precision and torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
            raise ValueError(
                f"a {type(self).__name__} needs all digits to settle: compute it with "
                f'torch.autocast("{kind}", enabled=False)'
            )
        for name, parameter in self.named_parameters():
            if parameter.dtype in (torch.float16, torch.bfloat16):
                raise ValueError(
                    f"{name} is in half precision, which swallows small differences of states: keep weights in float32 "
                    "and compute under torch.autocast"
                )

    def curved(self) -> list[str]:
        """Name the maps in loops whose Jacobian changes with the state, or is not known not to: none."""
        return []

    @final
    def check_straight(self, rule: str) -> None:
        """Refuse maps whose Jacobian changes with the state where states travel down through its transpose.

        `v_k = (du/ds_k)^T e` then has a part from `c J(s_k)^T s_{k+1}`, which the rule leaves out.

        Raises:
            ValueError: naming the module.
        """
        curved = self.curved()
        if curved:
            raise ValueError(
                f"{rule} needs maps between layers that are affine, or averages and maxima, where there is feedback, "
                f"and {curved[0]} is not known to be one: put it below the first layer, or take EquilibriumPropagation "
                "with lam=1"
            )

    @final
    def check_steady(self) -> None:
        """Refuse to visit maps more than once that change at every visit.

        Raises:
            ValueError: naming the module.
        """
        changing = self.changing()
        if changing:
            raise ValueError(
                f"{changing[0]} gives another map at every visit while training: use a schedule of one sweep, or put "
                "the network into eval mode"
            )

    @final
    def relax(
        self,
        x: Tensor,
        *,
        states: States | None = None,
        relaxation: Relaxation | None = None,
        observe: Observer | None = None,
    ) -> Solution:
        """Return the equilibrium for inputs `x` without any teaching.

        Args:
            x: inputs `(batch, ...)`.
            states: where to start; None stands for silence.
            relaxation: how to get there; None stands for the network's own.
            observe: called after every pass with the states and how far each sample is from settled.
        """
        self.check_steady()
        return settle(self.wire(x, states), self.free, relaxation or self.relaxation, observe=observe)

    @final
    def free(self, k: int, drive: Tensor, feedback: Tensor | None, before: AbstractState | None) -> Activity:
        """Return a layer without teaching."""
        return Activity(self.respond(k, drive))


class AbstractHopfield(AbstractNetwork):
    """A network whose equilibria are `s = f(W s + b)` with `W = theta + c theta^T`.

    Attributes:
        activations: the activation of every layer, the output last.
        gain: the feedback gain `c = 2 lam - 1`: -1 skew-symmetric, 0 feedforward (or free), 1 symmetric.
    """

    activations: tuple[Activation, ...]
    gain: float

    @abc.abstractmethod
    def wire(self, x: Tensor, states: States | None = None, copies: int = 1) -> AbstractCoupling:
        """Return the wiring for one batch."""

    @abc.abstractmethod
    def coupling(self) -> list[nn.Parameter]:
        """Return the trainable weights between units, whose size decides how states settle: no biases, no inputs."""

    def loop_free(self) -> bool:
        """Return whether no unit hears itself along any path: the equilibrium is then found by substitution."""
        return False

    @final
    def respond(self, k: int, drive: Tensor) -> Tensor:
        """Return `s_k = f(u_k)`."""
        return self.activations[k - 1].f(drive)

    @final
    def stiffness(self, k: int) -> float | None:
        """Return 1 for linear and clipped neurons."""
        return 1.0 if self.activations[k - 1].potential is half_square else None

    @final
    def tilted(self, drive: Tensor, tilt: Tensor) -> Tensor:
        """Return the sum."""
        return drive + tilt


def hopfield(net: AbstractNetwork, rule: str) -> AbstractHopfield:
    """Return `net`, seen to have activations and weights.

    Raises:
        TypeError: if its neurons have energies of their own.
    """
    if not isinstance(net, AbstractHopfield):
        raise TypeError(f"{rule} needs neurons s = f(W s + b): {net.energy_missing()}")
    return net
