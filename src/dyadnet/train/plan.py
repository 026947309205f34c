"""What a run computes where its settings leave that open: every rule gets the network that it needs.

    backprop, lagrangian, dual-propagation                                   mlp
    feedback-alignment, direct-feedback-alignment                            mlp, feedback random or direct
    equilibrium-propagation, contrastive-hebbian, coupled-learning           hopfield, lam = 1; dense: symmetric
    dyadic, recurrent-backprop                                               hopfield, lam = 0; dense: free

    without feedback (mlp, cnn and vgg16, unless lam says otherwise)         relu, cross-entropy, he
    with feedback, lam < 1/2                                                 hard-sigmoid, squared-error, lecun
    with feedback, lam > 1/2                                                 hard-sigmoid, squared-error, torch
    dense                                                                    hard-sigmoid, squared-error, its own

Nothing else decides what a setting that was not given stands for.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal

from dyadnet import names
from dyadnet.energy.lifted import LiftedEnergy
from dyadnet.names import RequestError
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.dense import Dense, Structure
from dyadnet.network.layered import Layered
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.schedule import Parallel
from dyadnet.relax.solver import Anderson
from dyadnet.relax.stopping import Count, Residual
from dyadnet.rule.backprop import Backprop
from dyadnet.rule.base import AbstractRule
from dyadnet.rule.contrastive_hebbian import ContrastiveHebbian, CoupledLearning
from dyadnet.rule.dyadic import Dyadic
from dyadnet.rule.equilibrium_propagation import EquilibriumPropagation
from dyadnet.rule.feedback_alignment import DirectFeedbackAlignment, FeedbackAlignment
from dyadnet.rule.recurrent_backprop import RecurrentBackprop
from dyadnet.train.models import ACTIVATIONS, ActivationName, Initialisation, NetworkName, build, initialise
from dyadnet.train.settings import LossName, Settings

TOLERANCE, MOST_PASSES = 1e-3, 200  # the library's own 1e-5 takes about twice the passes

_RELAXATION = ("order", "solver", "tolerance", "most_passes", "iterations")


@dataclass(frozen=True)
class Plan:
    """What a run computes.

    Attributes:
        network: the kind of network.
        lam: the feedback parameter; None for a dense network whose structure has none.
        structure: of a dense network.
        activation: of the hidden units.
        init: how weights are drawn; None for a dense network, which draws its own.
        loss: the name of the loss.
        feedback: the path of the errors; None for the transpose.
    """

    network: NetworkName
    lam: float | None
    structure: Structure | None
    activation: ActivationName
    init: Initialisation | None
    loss: LossName
    feedback: str | None = None


def choose(settings: Settings, rule: AbstractRule) -> Plan:
    """Return what a run of a rule computes.

    >>> from dyadnet import Dyadic, EquilibriumPropagation
    >>> [choose(Settings(), rule).lam for rule in (EquilibriumPropagation(), Dyadic(), names.rule("backprop"))]
    [1.0, 0.0, 0.5]

    Raises:
        RequestError: for a setting that the run would not look at, or bfloat16 where states have to settle.
    """
    if settings.bf16 and _needs(rule) != "chain":
        raise RequestError(
            f"bf16 leaves too few digits for states to settle, which {_named(rule)} lets them: leave it out"
        )
    for name, why in unused(settings, rule).items():
        raise RequestError(f"{name.replace('_', '-')} is {why}")
    network, structure, lam = _network(settings, rule)
    feedback = network == "dense" or lam != 0.5
    smooth = isinstance(rule, EquilibriumPropagation) and rule.variant == "holomorphic"
    return Plan(
        network,
        lam,
        structure,
        settings.activation or ("tanh" if smooth else "hard-sigmoid" if feedback else "relu"),
        None if lam is None or network == "dense" else settings.init or _initialisation(lam),
        settings.loss or ("squared-error" if feedback else "cross-entropy"),
        settings.feedback or _path(rule),
    )


def unused(settings: Settings, rule: AbstractRule) -> dict[str, str]:
    """Say of every setting given that a run of the rule would not look at what it is for.

    >>> unused(Settings(order="sweeps"), names.rule("backprop"))
    {'order': 'for rules that relax, which backprop does not'}
    """
    network, structure, lam = _network(settings, rule)
    found: dict[str, str] = {}
    if _needs(rule) == "chain":
        found = dict.fromkeys(_RELAXATION, f"for rules that relax, which {_named(rule)} does not")
        found["coupling_decay"] = f"for networks with feedback, which {_named(rule)} cannot train"
        if settings.network is None and settings.lam != 0.5:
            found["lam"] = f"for networks with feedback, which {_named(rule)} cannot train"
    if network != "dense":
        found["structure"] = f"for the dense network, not for {network}"
    elif structure != "interpolated":
        found["lam"] = f"for layered networks, and for the dense one of structure interpolated, not {structure}"
    if isinstance(rule, Backprop):
        found["feedback"] = "for other rules: the errors of backprop travel through the transpose"
    elif network == "dense" or lam != 0.5:
        found["feedback"] = "for feedforward chains, lam 0.5"
    if network == "dense":
        found["init"] = "for layered networks: a dense one draws its own weights"
    return {name: why for name, why in found.items() if getattr(settings, name) is not None}


def fitted(settings: Settings, rule: AbstractRule) -> Settings:
    """Return the settings without those that a run of the rule would not look at: what a comparison gives each rule."""
    return replace(settings, **dict.fromkeys(unused(settings, rule)))


def make(
    plan: Plan, settings: Settings, rule: AbstractRule, shape: Sequence[int], classes: int
) -> tuple[AbstractNetwork, AbstractRule, Relaxation | None]:
    """Return the network, the rule, and how states relax if the rule lets them: both are told of that.

    Raises:
        RequestError: for an order or a solver that is not to be had.
        ValueError: if the network cannot take samples of that shape.
    """
    net = _made(plan, settings.hidden, shape, classes)
    if _needs(rule) == "chain":
        return net, rule, None
    if isinstance(rule, EquilibriumPropagation) and isinstance(net, Layered) and net.gain == 0:
        how = relaxation(settings, LiftedEnergy(net).settling())
        return net, replace(rule, relaxation=how), how
    net.relaxation = relaxation(settings, net.relaxation)
    return net, rule, net.relaxation


def relaxation(settings: Settings, own: Relaxation) -> Relaxation:
    """Return a relaxation as the settings say, and as the network's own where they say nothing.

    Simultaneous updates are accelerated by default: the factors of the other solvers are for updates in turn.
    """
    schedule = own.schedule if settings.order is None else names.order(settings.order)
    solver = Anderson() if isinstance(schedule, Parallel) else own.solver
    if settings.solver is not None:
        solver = names.solver(settings.solver)
    if settings.iterations is not None:
        return Relaxation(schedule, solver, Count(settings.iterations))
    return Relaxation(schedule, solver, Residual(tolerance(settings), settings.most_passes or MOST_PASSES))


def tolerance(settings: Settings) -> float:
    """Return the residual that counts as settled."""
    return settings.tolerance or TOLERANCE


def described(plan: Plan, relaxation: Relaxation | None) -> dict[str, Any]:
    """Return what was chosen, under the names of the settings.

    >>> described(choose(Settings(), names.rule("backprop")), None)["network"]
    'mlp'
    """
    found = dataclasses.asdict(plan)
    if relaxation is not None:
        found["order"] = names.name_of(names.SCHEDULES, relaxation.schedule)
        found["solver"] = names.specification(names.SOLVERS, relaxation.solver)
        if isinstance(relaxation.stop, Residual):
            found |= {"tolerance": relaxation.stop.tolerance, "most_passes": relaxation.stop.most}
    return {name: value for name, value in found.items() if value is not None}


def _initialisation(lam: float) -> Initialisation:
    """The larger weights may be, the faster networks learn; the more feedback, the smaller they have to be."""
    return "he" if lam == 0.5 else "lecun" if lam < 0.5 else "torch"


def _named(rule: AbstractRule) -> str:
    return names.name_of(names.RULES, rule)


def _needs(rule: AbstractRule) -> Literal["chain", "energy", "nothing"]:
    """What a rule needs of a network: no loops, an energy, or nothing."""
    if isinstance(rule, EquilibriumPropagation | ContrastiveHebbian | CoupledLearning):
        return "energy"
    return "nothing" if isinstance(rule, Dyadic | RecurrentBackprop) else "chain"


def _network(settings: Settings, rule: AbstractRule) -> tuple[NetworkName, Structure | None, float | None]:
    """Return kind, structure and feedback parameter."""
    needs = _needs(rule)
    network = settings.network or ("mlp" if needs == "chain" else "hopfield")
    structure = (settings.structure or ("symmetric" if needs == "energy" else "free")) if network == "dense" else None
    if network == "dense" and structure != "interpolated":
        return network, structure, None
    if settings.lam is not None:
        return network, structure, settings.lam
    if network in ("mlp", "cnn", "vgg16"):
        return network, structure, 0.5
    return network, structure, 1.0 if needs == "energy" else 0.0


def _made(plan: Plan, hidden: Sequence[int], shape: Sequence[int], classes: int) -> AbstractNetwork:
    if plan.network == "dense":
        assert plan.structure is not None
        units, lam = sum(hidden) + classes, 0.5 if plan.lam is None else plan.lam
        activation = ACTIVATIONS[plan.activation]()
        return Dense(prod(shape), units, classes, plan.structure, lam=lam, activation=activation)
    assert plan.lam is not None
    assert plan.init is not None
    kind = "mlp" if plan.network == "hopfield" else plan.network
    model = build(kind, shape, classes, hidden, plan.activation, feedback=plan.lam != 0.5)
    initialise(model, plan.init)
    path = None if plan.feedback is None else names.feedback(plan.feedback)
    return Layered.from_sequential(model, plan.lam, feedback=path)


def _path(rule: AbstractRule) -> str | None:
    """The feedback path that a rule needs."""
    if isinstance(rule, FeedbackAlignment):
        return "random"
    return "direct" if isinstance(rule, DirectFeedbackAlignment) else None
