"""What a substrate is asked to do: a network, how it relaxes, and the phases of a learning rule."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, final

from dyadnet.rule.backprop import Backprop
from dyadnet.rule.base import AbstractRule
from dyadnet.rule.contrast import real_phases
from dyadnet.rule.contrastive_hebbian import ContrastiveHebbian, CoupledLearning
from dyadnet.rule.dual_propagation import DualPropagation
from dyadnet.rule.dyadic import Dyadic
from dyadnet.rule.equilibrium_propagation import EquilibriumPropagation

NetworkKind = Literal["mlp", "hopfield", "dense"]


@final
@dataclass(frozen=True)
class Phases:
    """What one training step of a rule relaxes.

    Attributes:
        relaxations: one after another.
        states: in each: 2 for dyads, whose means and differences travel at once.
        energy: whether the rule needs an energy, which networks of gyrators do not have.
        derivatives: whether it needs derivatives of the activations, which no analog substrate tells.
        spared: relaxations that weights do not learn from: a free phase between two nudged ones.
    """

    relaxations: int
    states: int = 1
    energy: bool = False
    derivatives: bool = False
    spared: int = 0


@final
@dataclass(frozen=True)
class Workload:
    """A network and what is done with it.

    Args:
        widths: inputs, hidden layers, outputs.
        network: mlp (no feedback), hopfield (layers with feedback) or dense (all units hear one another, with one
            weight a pair: symmetric, skew or interpolated; the structure `free` has another one for the way back).
        passes: of one relaxation, for machines that iterate; sweeps of an mlp.
        batch: samples of a training step.
        phases: of a training step.

    Raises:
        ValueError: for widths, passes or batches below 1, or no hidden layer.

    >>> work = Workload((784, 512, 10), "hopfield", 50, 16, Phases(3))
    >>> work.units, work.weights, work.products
    (522, 406528, 913408)
    """

    widths: tuple[int, ...]
    network: NetworkKind
    passes: float
    batch: int
    phases: Phases

    def __post_init__(self) -> None:
        if len(self.widths) < 3 or min(self.widths) < 1:
            raise ValueError(f"a network needs inputs, hidden layers and outputs of at least 1 unit, not {self.widths}")
        if not (self.passes >= 1 and self.batch >= 1):
            raise ValueError(f"passes and batch size must be at least 1, not {self.passes:g} and {self.batch}")

    @property
    def inputs(self) -> int:
        """How many inputs there are."""
        return self.widths[0]

    @property
    def outputs(self) -> int:
        """How many outputs there are."""
        return self.widths[-1]

    @property
    def units(self) -> int:
        """How many units there are, the outputs included."""
        return sum(self.widths[1:])

    @property
    def input_weights(self) -> int:
        """Weights of the inputs."""
        return self.inputs * (self.units if self.network == "dense" else self.widths[1])

    @property
    def couplings(self) -> int:
        """Pairs of units that hear one another, one or both ways."""
        if self.network == "dense":
            return self.units * (self.units - 1) // 2
        return sum(below * above for below, above in pairwise(self.widths[1:]))

    @property
    def weights(self) -> int:
        """Weights that learn: those of the inputs, and one a coupling."""
        return self.input_weights + self.couplings

    @property
    def products(self) -> float:
        """Multiply-accumulates of one relaxation of one sample: couplings for every state in every pass, inputs once.

        Both states of a dyad hear the same inputs, so that these add nothing to their difference.
        """
        ways = 1 if self.network == "mlp" else 2
        return self.input_weights + self.phases.states * self.passes * ways * self.couplings

    @property
    def turns(self) -> float:
        """Turns of a machine whose units all move at once: an mlp takes one a layer."""
        return self.passes * (len(self.widths) - 1 if self.network == "mlp" else 1)


def phases_of(rule: AbstractRule, network: NetworkKind) -> Phases:
    """Return what a training step of a rule relaxes.

    Dyads fall apart into two phases in layered networks; in a dense one they relax together.

    Raises:
        ValueError: for a rule that nothing is known of, or that does not train such a network.

    >>> phases_of(EquilibriumPropagation(), "hopfield").relaxations, phases_of(Dyadic(), "dense").states
    (3, 2)
    """
    match rule:
        case EquilibriumPropagation(variant="holomorphic"):
            raise ValueError("complex nudges have no estimate: take another variant of equilibrium propagation")
        case EquilibriumPropagation(variant="centred"):
            return Phases(3, energy=True, spared=1)
        case EquilibriumPropagation() | ContrastiveHebbian():
            return Phases(2, energy=True)
        case CoupledLearning():
            strengths, _, of_free = real_phases(rule.beta, rule.variant)
            return Phases(1 + len(strengths), energy=True, spared=int(of_free == 0))
        case Dyadic():
            apart = rule.form == "two-phase" or (rule.form == "auto" and network == "hopfield")
            return Phases(2) if apart else Phases(1, states=2)
        case DualPropagation() | Backprop() if network != "mlp":
            raise ValueError(f"{type(rule).__name__} is for networks without feedback, mlp, not {network}")
        case DualPropagation():
            return Phases(1, states=2)
        case Backprop():
            return Phases(1, derivatives=True)
    raise ValueError(
        f"{type(rule).__name__} has no estimate: take EquilibriumPropagation, ContrastiveHebbian, CoupledLearning, "
        "Dyadic, DualPropagation or Backprop"
    )
