"""What the modules of a map are: sequences, modules with hooks, and those whose weight another can stand in for."""

from collections.abc import Iterator
from typing import TypeGuard

from torch import nn


def hooked(module: nn.Module) -> bool:
    """Return whether hooks may change what a module computes."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def in_sequence(module: nn.Module) -> TypeGuard[nn.Sequential]:
    """Return whether a module does nothing but run its modules one after another."""
    return type(module) is nn.Sequential and not hooked(module)


def modules_of(map_: nn.Module) -> Iterator[nn.Module]:
    """Return the modules that a map runs one after another."""
    if not in_sequence(map_):
        yield map_
        return
    for module in map_:
        yield from modules_of(module)


def zero_padded(conv: nn.Conv2d) -> bool:
    """Return whether a convolution is padded with a number of zeros."""
    return conv.padding_mode == "zeros" and not isinstance(conv.padding, str)


def detourable(module: nn.Module) -> TypeGuard[nn.Linear | nn.Conv2d]:
    """Return whether other weights can stand in for those of a module on the way down."""
    return isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and zero_padded(module))
