"""Names on the command line become objects here, and nowhere else.

A specification is a name in kebab case with its settings behind a colon: `dual-propagation:alpha=0,beta=0.1`.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch
from torch import nn

from dyadnet.binary.adaste import AdaSTE
from dyadnet.binary.authors import PublishedAdaSTE
from dyadnet.binary.bayes import BayesBiNN
from dyadnet.binary.bop import Bop
from dyadnet.binary.mean_field import PMF
from dyadnet.binary.method import AbstractMethod
from dyadnet.binary.mirror_descent import MDTanh, MDTanhStable
from dyadnet.binary.momentum import CorrectedMomentum
from dyadnet.binary.prox_quant import ProxQuant
from dyadnet.binary.straight_through import STE, BinaryConnect
from dyadnet.hardware import presets
from dyadnet.hardware.circuit import Circuit
from dyadnet.hardware.device import Device
from dyadnet.loss import AbstractLoss, cross_entropy, squared_error
from dyadnet.network.feedback import (
    DirectFeedback,
    FeedbackPath,
    KolenPollack,
    Mismatched,
    RandomFeedback,
    SignSymmetric,
)
from dyadnet.network.lifted import Terms
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.schedule import AbstractSchedule, BottomUp, OddEven, Parallel, RandomOrder, Sweeps
from dyadnet.relax.solver import AbstractSolver, Accelerated, Anderson, Damped, OverRelaxed, Plain
from dyadnet.rule.auxiliary_coordinates import AuxiliaryCoordinates
from dyadnet.rule.backprop import Backprop
from dyadnet.rule.base import AbstractRule
from dyadnet.rule.contrastive_hebbian import ContrastiveHebbian, CoupledLearning
from dyadnet.rule.dual_propagation import DualPropagation
from dyadnet.rule.dyadic import Dyadic
from dyadnet.rule.equilibrium_propagation import EquilibriumPropagation
from dyadnet.rule.feedback_alignment import DirectFeedbackAlignment, FeedbackAlignment
from dyadnet.rule.lagrangian import Lagrangian
from dyadnet.rule.lifted_proximal import LiftedProximal
from dyadnet.rule.lpom import LPOM
from dyadnet.rule.lrrn import LRRN
from dyadnet.rule.predictive_coding import PredictiveCoding
from dyadnet.rule.random_feedback_chl import RandomFeedbackCHL
from dyadnet.rule.recurrent_backprop import RecurrentBackprop
from dyadnet.suggest import meant


class RequestError(ValueError):
    """What was asked for cannot be done; the message is one line that says what can."""


RULES: dict[str, type[AbstractRule]] = {
    "backprop": Backprop,
    "lagrangian": Lagrangian,
    "dual-propagation": DualPropagation,
    "dyadic": Dyadic,
    "recurrent-backprop": RecurrentBackprop,
    "equilibrium-propagation": EquilibriumPropagation,
    "contrastive-hebbian": ContrastiveHebbian,
    "coupled-learning": CoupledLearning,
    "feedback-alignment": FeedbackAlignment,
    "direct-feedback-alignment": DirectFeedbackAlignment,
    "random-feedback-chl": RandomFeedbackCHL,
    "auxiliary-coordinates": AuxiliaryCoordinates,
    "predictive-coding": PredictiveCoding,
    "lifted-proximal": LiftedProximal,
    "lpom": LPOM,
    "lrrn": LRRN,
}
SCHEDULES: dict[str, Callable[..., AbstractSchedule]] = {
    "sweeps": Sweeps,
    "bottom-up": BottomUp,
    "odd-even": OddEven,
    "parallel": Parallel,
    "random-order": RandomOrder,
}
SOLVERS: dict[str, type[AbstractSolver]] = {
    "plain": Plain,
    "damped": Damped,
    "over-relaxed": OverRelaxed,
    "anderson": Anderson,
    "accelerated": Accelerated,
}
PATHS: dict[str, type[FeedbackPath]] = {
    "random": RandomFeedback,
    "sign-symmetric": SignSymmetric,
    "kolen-pollack": KolenPollack,
    "direct": DirectFeedback,
    "mismatched": Mismatched,
}
BINARY: dict[str, type[AbstractMethod]] = {
    "adaste": AdaSTE,
    "published-adaste": PublishedAdaSTE,
    "ste": STE,
    "binary-connect": BinaryConnect,
    "prox-quant": ProxQuant,
    "md-tanh": MDTanh,
    "md-tanh-stable": MDTanhStable,
    "pmf": PMF,
    "bayes-binn": BayesBiNN,
    "bop": Bop,
}
TERMS = {"terms": Terms}
DEVICES: dict[str, Device] = {
    "ideal": Device(),
    "reram": presets.RERAM,
    "pcm": presets.PCM,
    "capacitor": presets.CAPACITOR,
    "optical": presets.OPTICAL,
}
CIRCUIT = {"circuit": Circuit}
LOSSES: dict[str, AbstractLoss] = {"cross-entropy": cross_entropy, "squared-error": squared_error}


def rule(specification: str) -> AbstractRule:
    """Return the rule that a specification names.

    `schedule` takes the name of a schedule and `passes` its number of passes. How a rule relaxes is no setting of its
    own: it is the network's.

    >>> rule("dual-propagation:alpha=0,schedule=random-order,passes=8").schedule
    RandomOrder(passes=8)

    Raises:
        RequestError: for an unknown rule or setting, or a value out of range.
    """
    return _specified(RULES, specification, "rule")


def rule_settings(name: str) -> dict[str, str]:
    """Return the settings that a rule takes on the command line, each with its default and what else it may be.

    >>> rule_settings("lagrangian")["schedule"]
    'sweeps (or bottom-up, odd-even, parallel, random-order)'
    """
    return _settings(RULES[name])


def order(name: str) -> AbstractSchedule:
    """Return the order of a relaxation's updates of that name."""
    return _pick(SCHEDULES, name, "order")()


def solver(specification: str) -> AbstractSolver:
    """Return the solver that a specification names.

    >>> solver("anderson:memory=5")
    Anderson(memory=5, factor=None)

    Raises:
        RequestError: for an unknown solver or setting, or a value out of range.
    """
    return _specified(SOLVERS, specification, "solver")


def defaults(known: Mapping[str, type[Any]]) -> list[str]:
    """Return everything of a kind as a specification, with its defaults.

    >>> defaults(SOLVERS)[:2]
    ['plain', 'damped:factor=0.5']
    """
    return [specification(known, made()) for made in known.values()]


def feedback(specification: str) -> FeedbackPath:
    """Return the feedback path that a specification names.

    >>> feedback("random:seed=3")
    RandomFeedback(scale=1.0, seed=3)

    Raises:
        RequestError: for an unknown path or setting, or a value out of range.
    """
    return _specified(PATHS, specification, "feedback path")


def binary(specification: str) -> AbstractMethod:
    """Return the method for binary weights that a specification names.

    >>> binary("ste:clip=1")
    STE(clip=1.0)

    Raises:
        RequestError: for an unknown method or setting, or a value out of range.
    """
    return _specified(BINARY, specification, "method for binary weights")


def device(specification: str) -> Device:
    """Return the device that a technology and settings of its parts name.

    >>> device("ideal:reading.noise=0.001,synapses.bits=4").sources()
    {'synapses.bits': 4, 'reading.noise': 0.001}

    Raises:
        RequestError: for an unknown technology or setting, or a value out of range.
    """
    name, settings = _split(specification)
    found, hints = _pick(DEVICES, name, "device"), device_settings()
    unknown = sorted(set(settings) - set(hints))
    if unknown:
        raise RequestError(f"a device has no setting {unknown[0]!r}; it has {_list(hints)}")
    values = {key: _numbers(key, value, hints[key]) for key, value in settings.items()}
    return _made(found.replaced, name, values)


def device_settings() -> dict[str, Any]:
    """Return the settings that a device takes on the command line, `part.setting`, each with its type."""
    parts = get_type_hints(Device).items()
    settings = {f"{part}.{name}": hint for part, made in parts for name, hint in get_type_hints(made).items()}
    del settings["synapses.model"]  # an object, not a number
    return settings


def _numbers(key: str, value: str, hint: Any) -> Any:
    """Read a number, or several joined by slashes where a tuple is wanted."""
    if get_origin(hint) is tuple:
        return tuple(_value(key, part, float) for part in value.split("/"))
    return _value(key, value, hint)


def terms(settings: str) -> Terms:
    """Return the terms of a lifted network's energy.

    >>> terms("gamma=0.3,tied=false").gamma
    0.3

    Raises:
        RequestError: for an unknown setting, or a value out of range.
    """
    return _specified(TERMS, f"terms:{settings}", "terms")


def circuit(settings: str) -> Circuit:
    """Return the circuit of a resistive network.

    >>> circuit("input_gain=200").input_gain
    200.0

    Raises:
        RequestError: for an unknown setting, or a value out of range.
    """
    return _specified(CIRCUIT, f"circuit:{settings}", "circuit")


def specification(known: Mapping[str, Callable[..., Any]], thing: Any) -> str:
    """Return what names a thing with its settings on the command line; those that are None are left out.

    >>> specification(SOLVERS, Damped(0.25))
    'damped:factor=0.25'
    """
    settings = [f"{key}={value}" for key, value in dataclasses.asdict(thing).items() if value is not None]
    return ":".join(filter(None, (name_of(known, thing), ",".join(settings))))


def name_of(known: Mapping[str, Callable[..., Any]], thing: Any) -> str:
    """Return the name of a thing's kind on the command line."""
    return next(name for name, made in known.items() if type(thing) is made)


def loss(name: str) -> AbstractLoss:
    """Return the loss of that name."""
    return _pick(LOSSES, name, "loss")


def optimizer(
    specification: str, parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]], learning_rate: float
) -> torch.optim.Optimizer:
    """Return any optimiser of `torch.optim` that needs no closure, as in `sgd:momentum=0.9,weight_decay=5e-4`.

    Beside them there is `corrected-momentum:momentum=0.9`.

    The parts of a setting with several are joined by slashes. Parameters may come in groups, as for `torch.optim`.

    >>> optimizer("adam:betas=0.8/0.99", [nn.Parameter(torch.zeros(1))], 0.5).defaults["betas"]
    (0.8, 0.99)

    Raises:
        RequestError: for an unknown optimiser or setting, or a value of the wrong type or out of range.
    """
    name, settings = _split(specification)
    made = _pick(_optimizers(), name.replace("-", "").lower(), "optimizer")
    accepted = dict(inspect.signature(made).parameters)
    if "lr" in settings:
        raise RequestError(f"{name}: the learning rate is an option of its own, not the setting lr")
    del accepted["params"], accepted["lr"]
    unknown = sorted(set(settings) - set(accepted))
    if unknown:
        raise RequestError(f"{name} has no setting {unknown[0]!r}; it has {_list(sorted(accepted))}")
    values = {key: _like(key, value, accepted[key]) for key, value in settings.items()}
    return _made(made, name, values, list(parameters), lr=learning_rate)


def _optimizers() -> dict[str, type[torch.optim.Optimizer]]:
    """All of `torch.optim` but LBFGS, which evaluates the loss on its own terms, in a closure; and our own."""
    return {"correctedmomentum": CorrectedMomentum} | {
        key.lower(): value
        for key, value in vars(torch.optim).items()
        if inspect.isclass(value)
        and issubclass(value, torch.optim.Optimizer)
        and value not in (torch.optim.Optimizer, torch.optim.LBFGS)
    }


def _split(specification: str) -> tuple[str, dict[str, str]]:
    """`name:key=value,key=value` -> name and settings."""
    name, _, rest = specification.partition(":")
    settings: dict[str, str] = {}
    for item in filter(None, rest.split(",")):
        key, equals, value = item.partition("=")
        if not equals or not key or not value:
            raise RequestError(f"{item!r} in {specification!r} is not of the form setting=value")
        key = key.strip().replace("-", "_")
        if key in settings:
            raise RequestError(f"{specification!r} sets {key} twice")
        settings[key] = value.strip()
    return name.strip(), settings


def _specified(known: Mapping[str, type[Any]], specification: str, kind: str) -> Any:
    """Make the dataclass that a specification names."""
    name, settings = _split(specification)
    made = _pick(known, name, kind)
    accepted = _settings(made)
    unknown = sorted(set(settings) - set(accepted))
    if unknown:
        raise RequestError(f"{name} has no setting {unknown[0]!r}; it has {_list(accepted) or 'none'}")
    hints, schedule = get_type_hints(made), _schedule(settings, of=name)
    values = {key: _value(key, value, hints[key]) for key, value in settings.items() if key in hints}
    return _made(made, name, values | schedule)


def _settings(made: type[Any]) -> dict[str, str]:
    """Describe the fields that a dataclass takes on the command line."""
    settings: dict[str, str] = {}
    hints = get_type_hints(made)
    for field in dataclasses.fields(made):
        if field.name == "schedule":
            settings |= {"schedule": _choice("sweeps", SCHEDULES), "passes": "N (of the schedule; each has a default)"}
        elif Relaxation not in get_args(hints[field.name]):
            default = "?" if field.default is dataclasses.MISSING else field.default
            literal = get_origin(hints[field.name]) is Literal
            settings[field.name] = _choice(default, get_args(hints[field.name]) if literal else ())
    return settings


def _schedule(settings: dict[str, str], of: str) -> dict[str, AbstractSchedule]:
    """Take `schedule` and `passes` out of the settings, as one schedule object."""
    name, passes = settings.pop("schedule", None), settings.pop("passes", None)
    if name is None and passes is None:
        return {}
    count = {} if passes is None else {"passes": _value("passes", passes, int)}
    return {"schedule": _made(_pick(SCHEDULES, name or "sweeps", "schedule"), of, count)}


def _value(key: str, value: str, kind: Any) -> Any:
    """Read a setting as its type; one that may be None is given as what else it may be."""
    if get_origin(kind) is UnionType:
        (kind,) = set(get_args(kind)) - {NoneType}
    if get_origin(kind) is Literal or kind is bool:
        choices = {"true": True, "false": False} if kind is bool else {choice: choice for choice in get_args(kind)}
        if value not in choices:
            raise RequestError(f"{key} must be one of {_list(choices)}, not {value!r}")
        return choices[value]
    try:
        return kind(value)
    except ValueError:
        raise RequestError(f"{key} must be a {'whole number' if kind is int else 'number'}, not {value!r}") from None


def _like(key: str, value: str, parameter: inspect.Parameter) -> Any:
    """Read an optimiser's setting as its default is, or where that is None as its annotation says."""
    default = parameter.default
    if isinstance(default, tuple):
        parts = value.split("/")
        if len(parts) != len(default):
            raise RequestError(f"{key} must be {len(default)} numbers joined by slashes, not {value!r}")
        return tuple(_value(key, part, float) for part in parts)
    if isinstance(default, bool) or "bool" in str(parameter.annotation):
        return _value(key, value, bool)
    return value if isinstance(default, str) else _value(key, value, float)


def _pick(known: Mapping[str, Any], name: str, kind: str) -> Any:
    if name not in known:
        raise RequestError(f"there is no {kind} {name!r}{meant(name, known)}; there are {_list(sorted(known))}")
    return known[name]


def _made(make: Callable[..., Any], name: str, settings: dict[str, Any], *args: Any, **fixed: Any) -> Any:
    """Make an object, its own complaint turned into a request error."""
    try:
        return make(*args, **settings, **fixed)
    except (ValueError, TypeError) as error:
        raise RequestError(f"{name}: {error}") from error


def _choice(default: object, choices: Iterable[str]) -> str:
    """Say what a setting is, and what else it may be."""
    others = [choice for choice in choices if choice != default]
    return f"{default} (or {_list(others)})" if others else f"{default}"


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
