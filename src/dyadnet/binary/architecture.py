"""Networks described as data: which layers they have with which arguments, and no code.

A layer is described by the arguments of its constructor, which PyTorch's layers keep as attributes of the same name.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from dyadnet.activation import Sign, UnitSigmoid
from dyadnet.binary.packed import AbstractPacked, PackedConv2d, PackedLinear
from dyadnet.network.modules import hooked
from dyadnet.network.residual import Residual

Description = dict[str, Any]

LAYERS: dict[str, type[nn.Module]] = {
    layer.__name__: layer
    for layer in (
        *(PackedLinear, PackedConv2d, nn.Linear, nn.Conv2d),
        *(nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm),
        *(nn.ReLU, nn.LeakyReLU, nn.Hardtanh, nn.Tanh, nn.Sigmoid, UnitSigmoid, Sign, nn.SiLU, nn.GELU, nn.Identity),
        *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d),
        *(nn.Flatten, nn.Unflatten, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.ZeroPad2d),
    )
}
"""The layers that a network in a file may consist of."""

CONTAINERS: dict[str, type[nn.Module]] = {"Sequential": nn.Sequential, "Residual": Residual}
"""What may hold them: modules that are nothing but their children."""


def describe(module: nn.Module, name: str = "the model") -> Description:
    """Return what `build` makes the module from; its weights are not part of it.

    Raises:
        TypeError: naming the first module that is not of `LAYERS` or `CONTAINERS`, or has hooks.

    >>> describe(nn.Sequential(nn.Linear(3, 2), nn.LeakyReLU(0.2)))["children"]["1"]
    {'layer': 'LeakyReLU', 'arguments': {'negative_slope': 0.2}}
    """
    kind = type(module)
    if hooked(module):
        raise TypeError(f"{name}, a {kind.__name__}, has hooks, which a file cannot hold: remove them first")
    if CONTAINERS.get(kind.__name__) is kind:
        places = module._modules.items()  # a module may stand in several, which `named_children` would give once
        children = {key: describe(child, f"layer {key}") for key, child in places if child is not None}
        return {"layer": kind.__name__, "children": children}
    if LAYERS.get(kind.__name__) is not kind:
        raise TypeError(
            f"{name} is a {kind.__name__}, which a file cannot hold: it takes {', '.join([*CONTAINERS, *LAYERS])}"
        )
    return {"layer": kind.__name__, "arguments": arguments(module)}


def arguments(module: nn.Module) -> dict[str, Any]:
    """Return the arguments that make a module like this one, without those that are as by default.

    >>> arguments(nn.Conv2d(1, 2, 3, bias=False))
    {'in_channels': 1, 'out_channels': 2, 'kernel_size': (3, 3), 'bias': False}
    """
    if isinstance(module, AbstractPacked):
        own = {"bias": module.bias is not None, "per_output": module.per_output}
        return arguments(module.form) | own
    taken = {name: p.default for name, p in inspect.signature(type(module)).parameters.items() if hasattr(module, name)}
    found = {name: getattr(module, name) if name != "bias" else module.bias is not None for name in taken}
    return {name: value for name, value in found.items() if value != taken[name] and value != _pair(taken[name])}


def build(description: Description) -> nn.Module:
    """Return the module that was described, on no device: its weights are to be loaded with `assign=True`.

    Raises:
        ValueError: naming what is unknown in the description.
    """
    with torch.device("meta"):
        return _build(description)


def _build(description: Description) -> nn.Module:
    name, given, children = (description.get(key) for key in ("layer", "arguments", "children"))
    if name in CONTAINERS and isinstance(children, Mapping):
        return _filled(CONTAINERS[name], {key: _build(child) for key, child in children.items()})
    if name not in LAYERS or not isinstance(given, Mapping):
        raise ValueError(f"it has a layer {name!r}, which is unknown here")
    try:
        return LAYERS[name](**{key: tuple(v) if isinstance(v, list) else v for key, v in given.items()})
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"its layer {name} cannot be made: {error}") from error


def _filled(kind: type[nn.Module], children: Mapping[str, nn.Module]) -> nn.Module:
    """Return a container of these children, without those that its own constructor would make."""
    container = kind.__new__(kind)
    nn.Module.__init__(container)
    for name, child in children.items():
        container.add_module(name, child)
    return container


def _pair(value: Any) -> tuple[Any, Any]:
    """Return a number as PyTorch's layers keep it where they have two dimensions."""
    return value, value
