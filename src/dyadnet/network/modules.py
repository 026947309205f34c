"""What the modules of a map are: sequences, modules with hooks, and those whose weight another can stand in for."""

from collections.abc import Iterator
from typing import TypeGuard

from torch import nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

_WRITERS = (WeightNorm, SpectralNorm, BasePruningMethod)
"""Hooks that do nothing but write a module's weight."""


def hooked(module: nn.Module) -> bool:
    """Return whether hooks, or a `forward` of its own, may change what a module computes."""
    return bool(module._forward_hooks or module._forward_pre_hooks) or "forward" in vars(module)


def in_sequence(module: nn.Module) -> TypeGuard[nn.Sequential]:
    """Return whether a module does nothing but run its modules one after another."""
    return type(module) is nn.Sequential and not hooked(module)


def computes(module: nn.Module, kinds: tuple[type[nn.Module], ...]) -> bool:
    """Return whether a module computes what one of `kinds` does, with whatever parameters.

    One with another `forward` may compute anything, and so may one with hooks, but those that write its weight.
    """
    known = any(isinstance(module, kind) and _same_methods(type(module), kind) for kind in kinds)
    hooks = [hook for hook in module._forward_pre_hooks.values() if not isinstance(hook, _WRITERS)]
    return known and "forward" not in vars(module) and not hooks and not module._forward_hooks


def _same_methods(own: type[nn.Module], kind: type[nn.Module]) -> bool:
    return all(getattr(own, name, None) is getattr(kind, name, None) for name in ("forward", "_conv_forward"))


def modules_of(map_: nn.Module) -> Iterator[nn.Module]:
    """Return the modules that a map runs one after another."""
    if not in_sequence(map_):
        yield map_
        return
    for module in map_:
        yield from modules_of(module)


def changes(module: nn.Module) -> bool:
    """Return whether a module's map differs between two visits: by chance, by what else is in a batch, or by counting.

    Statistics of a batch are those of all phases that a rule stacks in one; spectral normalisation takes a step of
    power iteration at every visit while it trains.
    """
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return module.training or module.running_mean is None
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.training and module.p > 0
    return module.training and _iterates(module)


def _iterates(module: nn.Module) -> bool:
    """Whether a weight is divided by a norm that is estimated on the way."""
    if any(isinstance(hook, SpectralNorm) for hook in module._forward_pre_hooks.values()):
        return True
    parametrized = is_parametrized(module) and module.parametrizations
    return isinstance(parametrized, nn.Module) and any(isinstance(m, _SpectralNorm) for m in parametrized.modules())


def silent(module: nn.Module) -> bool:
    """Return whether a module is somebody's own and has nothing to learn: it might be an activation."""
    return not type(module).__module__.startswith("torch.") and not any(True for _ in module.parameters())


def zero_padded(conv: nn.Conv2d) -> bool:
    """Return whether a convolution is padded with a number of zeros."""
    return conv.padding_mode == "zeros" and not isinstance(conv.padding, str)


def detourable(module: nn.Module) -> TypeGuard[nn.Linear | nn.Conv2d]:
    """Return whether other weights can stand in for those of a module on the way down."""
    return isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and zero_padded(module))
