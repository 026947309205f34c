"""The optimiser that settings ask for, the parameters it moves, and how its learning rate goes over training."""

import math
from collections.abc import Callable
from typing import Any

import torch

from dyadnet import names
from dyadnet.binary.course import Course
from dyadnet.binary.groups import binary_groups
from dyadnet.binary.optimizer import BinaryOptimizer
from dyadnet.network.base import AbstractNetwork, hopfield
from dyadnet.train.settings import Settings


def make_optimizer(net: AbstractNetwork, settings: Settings, course: Course, seed: int) -> torch.optim.Optimizer:
    """Return the optimiser, wrapped where weights are to be binary.

    Raises:
        RequestError: for an optimiser or a method that is not to be had.
    """
    base = names.optimizer(settings.optimizer, parameter_groups(net, settings), settings.learning_rate)
    if settings.binary is None:
        return base
    return BinaryOptimizer(base, names.binary(settings.binary), course, scale=settings.binary_scale, seed=seed)


def parameter_groups(net: AbstractNetwork, settings: Settings) -> list[dict[str, Any]]:
    """Return the parameters for the optimiser: all in one group, or apart those that are binary or that decay.

    Raises:
        RequestError: if the optimiser knows no weight decay, or no weight is left to be binary.
    """
    if settings.binary is not None:
        layers = settings.binary_layers or "all"
        try:
            return binary_groups(net, first=layers in ("all", "not-last"), last=layers in ("all", "not-first"))
        except ValueError as error:
            raise names.RequestError(f"binary-layers {layers}: {error}") from error
    if settings.coupling_decay is None:
        return [{"params": list(net.parameters())}]
    if "weight_decay" not in names.optimizer(settings.optimizer, net.parameters(), settings.learning_rate).defaults:
        raise names.RequestError(f"{settings.optimizer} has no weight decay for coupling-decay: take adamw")
    coupling = hopfield(net, "coupling-decay").coupling()
    inside = {id(p) for p in coupling}
    others = [p for p in net.parameters() if id(p) not in inside]
    return [{"params": others}, {"params": coupling, "weight_decay": settings.coupling_decay}]


def rate_factor(settings: Settings, steps: int) -> Callable[[int], float]:
    """Return the learning rate over its highest value as a function of the step, for epochs of `steps` steps.

    >>> factor = rate_factor(Settings(epochs=10, warmup_epochs=2, decay="cosine"), steps=5)
    >>> [round(factor(step), 3) for step in (0, 5, 10, 30, 50)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    start, end = settings.warmup_start / settings.learning_rate, settings.final_learning_rate / settings.learning_rate
    rise = settings.warmup_epochs * steps
    total = (settings.decay_epochs if settings.decay_epochs is not None else settings.epochs) * steps

    def factor(step: int) -> float:
        if step < rise:
            return start + (1 - start) * step / rise
        if settings.decay == "constant":
            return 1.0
        done = min(1.0, (step - rise) / max(1.0, total - rise))
        return end + (1 - end) * (1 + math.cos(math.pi * done)) / 2

    return factor
