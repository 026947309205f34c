"""Networks whose binary weights are packed."""

import copy
from collections.abc import Callable

import torch
from torch import nn

from dyadnet.binary.architecture import arguments
from dyadnet.binary.packed import AbstractPacked, PackedConv2d, PackedLinear
from dyadnet.binary.packing import binary_scale
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.layered import Layered
from dyadnet.network.modules import hooked

_PACKED: dict[type[nn.Module], type[AbstractPacked]] = {nn.Linear: PackedLinear, nn.Conv2d: PackedConv2d}
_FLOAT = nn.Linear | nn.Conv2d


def pack(model: nn.Module) -> nn.Module:
    """Return a copy of the model for inference, with packed layers in the place of those with binary weights.

    A weight is binary if its values are exactly +-scale, with one scale for all or one for every output, whoever
    trained it. Layers with other weights stay as they are.

    Args:
        model: any module that calls its `nn.Linear` and `nn.Conv2d` layers as modules; of a feedforward `Layered`,
            its modules in a row.

    Raises:
        TypeError: for a network whose states have to relax, or hooks on a layer with binary weights.
        ValueError: if no weight is binary.

    >>> model = nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> _ = model[0].weight.data.sign_()
    >>> [type(layer).__name__ for layer in pack(model)]
    ['PackedLinear', 'ReLU', 'Linear']
    """
    found = swapped(as_sequential(model) if isinstance(model, AbstractNetwork) else model, _packed)
    if not any(isinstance(module, AbstractPacked) for module in found.modules()):
        raise ValueError("no layer of the model has binary weights (+-1 times a scale): there is nothing to pack")
    return found.eval().requires_grad_(False)


def swapped(model: nn.Module, swap: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """Return a copy of a model with every module in it replaced by what `swap` makes of it."""
    found = swap(copy.deepcopy(model))
    for module in list(found.modules()):
        for name, child in module._modules.items():
            module._modules[name] = child if child is None else swap(child)
    return found


def unpacked_layers(model: nn.Module) -> list[str]:
    """Return the names of the linear maps and convolutions of a packed network that have float weights."""
    held = {id(module.form) for module in model.modules() if isinstance(module, AbstractPacked)}
    return [name for name, module in model.named_modules() if isinstance(module, _FLOAT) and id(module) not in held]


@torch.no_grad()
def _packed(layer: nn.Module) -> nn.Module:
    """Return the packed form of a layer with binary weights, and any other as it is."""
    if not isinstance(layer, _FLOAT) or type(layer) not in _PACKED or layer.weight is None:
        return layer
    scale = binary_scale(layer.weight)
    if scale is None:
        return layer
    if hooked(layer):
        raise TypeError(f"a {type(layer).__name__} with binary weights has hooks, which a packed layer cannot keep")
    packed = _PACKED[type(layer)](**arguments(layer), per_output=len(scale) > 1)
    packed.fill(layer.weight, scale, layer.bias)
    return packed


def as_sequential(net: AbstractNetwork) -> nn.Sequential:
    """Return the modules of a feedforward network as an `nn.Sequential`, shared and not copied.

    Raises:
        TypeError: for a network whose states have to relax, which no chain of layers computes.
    """
    if isinstance(net, Layered) and net.gain == 0:
        chain = nn.Sequential()
        for name, module in net._modules.items():
            if name != "feedback":
                chain.add_module(name, module)
        return chain.train(net.training)
    raise TypeError(f"only feedforward networks can be exported, not a {type(net).__name__} whose states relax")
