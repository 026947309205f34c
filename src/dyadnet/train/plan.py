"""What a run computes where its settings leave that open; `needs.py` tells which network a rule gets.

    without feedback (chains, unless lam says otherwise)         relu, cross-entropy, he
    with feedback, lam < 1/2                                                 hard-sigmoid, squared-error, lecun
    with feedback, lam > 1/2                                                 hard-sigmoid, squared-error, torch
    dense                                                                    hard-sigmoid, squared-error, its own
    lifted                                                                   relu, squared-error, orthogonal
    resistive                                                                diodes, squared-error, its own

Nothing else decides what a setting that was not given stands for.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, get_args

from dyadnet import names
from dyadnet.energy.lifted import LiftedEnergy
from dyadnet.hardware.resistive import ResistiveNetwork
from dyadnet.names import RequestError
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.dense import Dense, Structure
from dyadnet.network.feedback import DirectFeedback
from dyadnet.network.implicit import AbstractQuadratic
from dyadnet.network.layered import Layered
from dyadnet.network.lifted import Lifted
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.schedule import Parallel
from dyadnet.relax.solver import Anderson
from dyadnet.relax.stopping import Count, Residual
from dyadnet.rule.backprop import Backprop
from dyadnet.rule.base import AbstractRule
from dyadnet.rule.equilibrium_propagation import EquilibriumPropagation
from dyadnet.rule.lrrn import LRRN
from dyadnet.rule.recurrent_backprop import RecurrentBackprop
from dyadnet.train.models import ACTIVATIONS, ActivationName, ChainName, Initialisation, NetworkName, build, initialise
from dyadnet.train.needs import need
from dyadnet.train.settings import LossName, Settings

TOLERANCE, MOST_PASSES = 1e-3, 200  # the library's own 1e-5 takes about twice the passes

_SETTLING = ("lifted", "resistive")  # whatever the rule, as all they compute is a least point
_LIFTED = ("terms", "output_gain")
_FEEDFORWARD = ("batch_norm", "binary", "binary_layers", "binary_scale")
RELAXATION = ("order", "solver", "tolerance", "most_passes", "iterations")


@dataclass(frozen=True)
class Plan:
    """What a run computes.

    Attributes:
        network: the kind of network.
        lam: the feedback parameter; None for a lifted or resistive network, and a dense one whose structure has none.
        structure: of a dense network.
        activation: of the hidden units; None for a resistive network, which has diodes.
        init: how weights are drawn; None for a dense or resistive network, which draws its own.
        loss: the name of the loss.
        feedback: the path of the errors; None for the transpose.
    """

    network: NetworkName
    lam: float | None
    structure: Structure | None
    activation: ActivationName | None
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
    if settings.bf16 and need(rule).relaxes:
        raise RequestError(
            f"bf16 leaves too few digits for states to settle, which {_named(rule)} lets them: leave it out"
        )
    for name, why in unused(settings, rule).items():
        raise RequestError(f"{name.replace('_', '-')} is {why}")
    network, structure, lam = _network(settings, rule)
    if isinstance(rule, LRRN) and network != "lifted":
        raise RequestError(f"lrrn trains the lifted network, not {network}: leave network out")
    feedback = network == "dense" or lam not in (None, 0.5)
    smooth = isinstance(rule, EquilibriumPropagation) and rule.variant == "holomorphic"
    activation = settings.activation or ("tanh" if smooth else "hard-sigmoid" if feedback else "relu")
    return Plan(
        network,
        lam,
        structure,
        None if network == "resistive" else activation,
        None if network in ("dense", "resistive") else settings.init or _initialisation(lam),
        settings.loss or ("squared-error" if feedback or network in _SETTLING else "cross-entropy"),
        settings.feedback or (None if network in ("dense", *_SETTLING) else need(rule).path),
    )


def unused(settings: Settings, rule: AbstractRule) -> dict[str, str]:
    """Say of every setting given that a run of the rule would not look at what it is for.

    >>> unused(Settings(order="sweeps"), names.rule("backprop"))
    {'order': 'for rules that relax, which backprop does not'}
    """
    network, structure, lam = _network(settings, rule)
    needs, lifted, found = need(rule), network == "lifted", dict[str, str]()
    if not needs.relaxes and network not in _SETTLING:
        found |= dict.fromkeys(RELAXATION, f"for rules that relax, which {_named(rule)} does not")
        found["coupling_decay"] = f"for networks with feedback, which {_named(rule)} cannot train"
        if settings.network is None and settings.lam != 0.5:
            found["lam"] = f"for networks with feedback, which {_named(rule)} cannot train"
    if network != "dense":
        found["structure"] = f"for the dense network, not for {network}"
    elif structure != "interpolated":
        found["lam"] = f"for layered networks, and for the dense one of structure interpolated, not {structure}"
    if network in _SETTLING:
        found |= dict.fromkeys(("lam", "coupling_decay"), f"for networks with feedback, not for {network} ones")
    if not lifted:
        found |= dict.fromkeys(_LIFTED, f"for the lifted network, not for {network}")
    if network == "resistive":
        found["activation"] = "for other networks: a resistive one has diodes"
    else:
        found["circuit"] = f"for the resistive network, not for {network}"
    if isinstance(rule, Backprop | RecurrentBackprop):
        found["feedback"] = f"for other rules: the errors of {_named(rule)} travel through the transpose"
    elif network in ("dense", *_SETTLING):
        found["feedback"] = f"for chains of layers, not for {network}"
    if not isinstance(rule, LRRN) or not rule.supervised:
        found["pretrain_epochs"] = "for lrrn, to learn to reconstruct before it is supervised"
    if lam != 0.5 or network not in get_args(ChainName):
        found |= dict.fromkeys(_FEEDFORWARD, f"for feedforward networks, which {_named(rule)} does not train here")
    elif settings.binary is None:
        found |= dict.fromkeys(_FEEDFORWARD[2:], "for binary weights: name a method with binary")
    if network in ("dense", "resistive"):
        found["init"] = f"for layered networks: a {network} one draws its own weights"
    return {name: why for name, why in found.items() if getattr(settings, name) is not None}


def check_used(settings: Settings, rules: Sequence[str]) -> None:
    """Refuse a setting that none of several rules would look at.

    Raises:
        RequestError: naming it.
    """
    idle = [unused(settings, names.rule(rule)) for rule in rules]
    for name, why in idle[0].items():
        if all(name in others for others in idle):
            raise RequestError(f"{name.replace('_', '-')} is {why}")


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
    net = _made(plan, settings, shape, classes)
    if not need(rule).relaxes and not isinstance(net, AbstractQuadratic):
        return net, rule, None
    if isinstance(rule, EquilibriumPropagation) and isinstance(net, Layered) and net.gain == 0:
        how = relaxation(settings, LiftedEnergy(net).settling())
        return net, replace(rule, relaxation=how), how
    net.relaxation = relaxation(settings, net.relaxation, _settled(net))
    return net, rule, net.relaxation


def relaxation(settings: Settings, own: Relaxation, below: float = TOLERANCE) -> Relaxation:
    """Return a relaxation as the settings say, and as the network's own where they say nothing.

    Simultaneous updates are accelerated by default: the factors of the other solvers are for updates in turn.

    Args:
        settings: what was asked for.
        own: the network's own.
        below: the residual that counts as settled where nothing is said.
    """
    schedule = own.schedule if settings.order is None else names.order(settings.order)
    solver = Anderson() if isinstance(schedule, Parallel) else own.solver
    if settings.solver is not None:
        solver = names.solver(settings.solver)
    if settings.iterations is not None:
        return Relaxation(schedule, solver, Count(settings.iterations))
    return Relaxation(schedule, solver, Residual(settings.tolerance or below, settings.most_passes or MOST_PASSES))


def tolerance(settings: Settings, relaxation: Relaxation | None) -> float:
    """Return the residual that counts as settled, whether or not a relaxation stops there."""
    stop = None if relaxation is None else relaxation.stop
    return settings.tolerance or (isinstance(stop, Residual) and stop.tolerance) or TOLERANCE


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


def _initialisation(lam: float | None) -> Initialisation:
    """The larger weights may be, the faster networks learn; the more feedback, the smaller they have to be."""
    if lam is None:
        return "orthogonal"
    return "he" if lam == 0.5 else "lecun" if lam < 0.5 else "torch"


def _settled(net: AbstractNetwork) -> float:
    """The residual that counts as settled: in a lifted network far below what its lowest layer feels of the target.

    What inference leaves drives the weights astray, whatever the discount; single precision tells 1e-6 apart. In a
    resistive network a nudge moves hidden voltages by a hundredth of themselves or less.
    """
    if isinstance(net, Lifted):
        return max(1e-6, min(3e-5, 1 / (300 * net.discount(1))))
    return 1e-5 if isinstance(net, ResistiveNetwork) else TOLERANCE


def _named(rule: AbstractRule) -> str:
    return names.name_of(names.RULES, rule)


def _network(settings: Settings, rule: AbstractRule) -> tuple[NetworkName, Structure | None, float | None]:
    """Return kind, structure and feedback parameter."""
    needs = need(rule)
    network = settings.network or needs.network
    structure = settings.structure or needs.structure or "free" if network == "dense" else None
    if network in _SETTLING or (network == "dense" and structure != "interpolated"):
        return network, structure, None
    if settings.lam is not None:
        return network, structure, settings.lam
    if network in get_args(ChainName) and not needs.own_lam:
        return network, structure, 0.5
    return network, structure, needs.lam if needs.network == "hopfield" else 0.0


def _made(plan: Plan, settings: Settings, shape: Sequence[int], classes: int) -> AbstractNetwork:
    if plan.network == "resistive":
        circuit = None if settings.circuit is None else names.circuit(settings.circuit)
        return ResistiveNetwork([prod(shape), *settings.hidden, classes], circuit)
    assert plan.activation is not None
    if plan.network == "dense":
        assert plan.structure is not None
        units, lam = sum(settings.hidden) + classes, 0.5 if plan.lam is None else plan.lam
        activation = ACTIVATIONS[plan.activation]()
        return Dense(prod(shape), units, classes, plan.structure, lam=lam, activation=activation)
    assert plan.init is not None
    loops = plan.lam not in (None, 0.5)
    kind = "mlp" if plan.network in ("hopfield", "lifted") else plan.network
    model = build(
        kind, shape, classes, settings.hidden, plan.activation, feedback=loops, normed=bool(settings.batch_norm)
    )
    initialise(model, plan.init)
    if plan.lam is None:
        terms = None if settings.terms is None else names.terms(settings.terms)
        return Lifted(Layered.from_sequential(model), terms, output_gain=settings.output_gain or 1.0)
    path = None if plan.feedback is None else names.feedback(plan.feedback)
    if isinstance(path, DirectFeedback):
        path = replace(path, inputs=path.inputs or tuple(shape))
    return Layered.from_sequential(model, plan.lam, feedback=path)
