"""Names on the command line become objects here, and nowhere else.

A specification is a name in kebab case with its settings behind a colon: `dual-propagation:alpha=0,beta=0.1`.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch
from torch import nn

from dyadnet.loss import AbstractLoss, cross_entropy, squared_error
from dyadnet.relax.schedule import AbstractSchedule, BottomUp, OddEven, Parallel, RandomOrder, Sweeps
from dyadnet.rule.backprop import Backprop
from dyadnet.rule.base import AbstractRule
from dyadnet.rule.dual_propagation import DualPropagation
from dyadnet.rule.lagrangian import Lagrangian


class RequestError(ValueError):
    """What was asked for cannot be done; the message is one line that says what can."""


RULES: dict[str, type[AbstractRule]] = {
    "backprop": Backprop,
    "lagrangian": Lagrangian,
    "dual-propagation": DualPropagation,
}
SCHEDULES: dict[str, Callable[..., AbstractSchedule]] = {
    "sweeps": Sweeps,
    "bottom-up": BottomUp,
    "odd-even": OddEven,
    "parallel": Parallel,
    "random-order": RandomOrder,
}
LOSSES: dict[str, AbstractLoss] = {"cross-entropy": cross_entropy, "squared-error": squared_error}


def rule(specification: str) -> AbstractRule:
    """Return the rule that a specification names.

    `schedule` takes the name of a schedule and `passes` its number of passes.

    >>> rule("dual-propagation:alpha=0,schedule=random-order,passes=8").schedule
    RandomOrder(passes=8)

    Raises:
        RequestError: for an unknown rule or setting, or a value out of range.
    """
    name, settings = _split(specification)
    made = _pick(RULES, name, "rule")
    hints = get_type_hints(made)
    settings = _schedule_from(settings, accepted="schedule" in hints, of=name)
    unknown = sorted(set(settings) - set(hints))
    if unknown:
        raise RequestError(f"{name} has no setting {unknown[0]!r}; it has {_list(rule_settings(name)) or 'none'}")
    return _made(made, name, {key: _value(key, value, hints[key]) for key, value in settings.items()})


def rule_settings(name: str) -> list[str]:
    """Return the settings that a rule takes on the command line.

    >>> rule_settings("lagrangian")
    ['schedule', 'passes']
    """
    fields = [field.name for field in dataclasses.fields(RULES[name])]  # pyright: ignore[reportArgumentType]
    return [*fields, "passes"] if "schedule" in fields else fields


def loss(name: str) -> AbstractLoss:
    """Return the loss of that name."""
    return _pick(LOSSES, name, "loss")


def optimizer(specification: str, parameters: Iterable[nn.Parameter], learning_rate: float) -> torch.optim.Optimizer:
    """Return any optimiser of `torch.optim`, as in `sgd:momentum=0.9,weight_decay=5e-4`.

    >>> optimizer("adamw:weight_decay=0.1", [nn.Parameter(torch.zeros(1))], 0.5).defaults["weight_decay"]
    0.1
    """
    name, settings = _split(specification)
    known = {
        key.lower(): value
        for key, value in vars(torch.optim).items()
        if inspect.isclass(value) and issubclass(value, torch.optim.Optimizer) and value is not torch.optim.Optimizer
    }
    made = _pick(known, name.replace("-", "").lower(), "optimizer")
    accepted = set(inspect.signature(made).parameters) - {"self", "params", "lr"}
    unknown = sorted(set(settings) - accepted)
    if unknown:
        raise RequestError(f"{name} has no setting {unknown[0]!r}; it has {_list(sorted(accepted))}")
    return _made(
        made, name, {key: _literal(value) for key, value in settings.items()}, list(parameters), lr=learning_rate
    )


def _split(specification: str) -> tuple[str, dict[str, Any]]:
    """`name:key=value,key=value` -> name and settings."""
    name, _, rest = specification.partition(":")
    settings: dict[str, Any] = {}
    for item in filter(None, rest.split(",")):
        key, equals, value = item.partition("=")
        if not equals or not key or not value:
            raise RequestError(f"{item!r} in {specification!r} is not of the form setting=value")
        key = key.strip().replace("-", "_")
        if key in settings:
            raise RequestError(f"{specification!r} sets {key} twice")
        settings[key] = value.strip()
    return name.strip(), settings


def _schedule_from(settings: dict[str, Any], *, accepted: bool, of: str) -> dict[str, Any]:
    """Replace the keys `schedule` and `passes` by one schedule object."""
    if not accepted or not {"schedule", "passes"} & set(settings):
        return settings
    name = settings.get("schedule", "sweeps")
    passes = {"passes": _value("passes", settings["passes"], int)} if "passes" in settings else {}
    rest = {key: value for key, value in settings.items() if key not in ("schedule", "passes")}
    return rest | {"schedule": _made(_pick(SCHEDULES, name, "schedule"), of, passes)}


def _value(key: str, value: Any, kind: Any) -> Any:
    """Read a setting as its field's type."""
    if not isinstance(value, str):
        return value
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise RequestError(f"{key} must be one of {_list(get_args(kind))}, not {value!r}")
        return value
    try:
        return kind(value)
    except ValueError:
        raise RequestError(f"{key} must be a {'whole number' if kind is int else 'number'}, not {value!r}") from None


def _literal(value: str) -> bool | float | str:
    """Read an optimiser's setting: a truth value, a number, or a word."""
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    try:
        return float(value)
    except ValueError:
        return value


def _pick(known: dict[str, Any], name: str, kind: str) -> Any:
    if name not in known:
        raise RequestError(f"there is no {kind} {name!r}; there are {_list(sorted(known))}")
    return known[name]


def _made(make: Callable[..., Any], name: str, settings: dict[str, Any], *args: Any, **fixed: Any) -> Any:
    """Make an object, its own complaint turned into a request error."""
    try:
        return make(*args, **settings, **fixed)
    except (ValueError, TypeError) as error:
        raise RequestError(f"{name}: {error}") from error


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
