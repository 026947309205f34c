"""A step of Adam on latents of double wells, in one pass over memory: `wells.c`, where there is a compiler for it.

    g     <- c g,                  c = 1 where w g > 0, else `ahead` where |theta| < edge, else 0
    theta <- clip( Adam(theta, g), -most, most )
    w     <- clip( (theta + lift sign theta) pull, -1, 1 )

Adam's numbers stay where Adam keeps them, so that a step may be made here or there.
"""

import ctypes
from collections.abc import Callable
from functools import cache, partial
from math import inf, sqrt
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dyadnet.binary.kernel import library


class Wells(NamedTuple):
    """The numbers of a step; by default those of the straight-through estimator.

    Attributes:
        ahead: what multiplies gradients that do not lead towards zero.
        edge: the latents from which on these are lost.
        lift: how far a well draws a latent; infinite where weights are binary.
        pull: what shrinks it after that.
        most: the largest latent.
    """

    ahead: float = 1.0
    edge: float = inf
    lift: float = inf
    pull: float = 1.0
    most: float = inf


@cache
def compiled() -> Callable[..., None] | None:
    """Return the function of `wells.c`, or None without a compiler that takes it."""
    made = library("wells.c")
    if made is None:
        return None
    floats = [ctypes.c_float] * 10
    made.wells.argtypes = [*[ctypes.c_void_p] * 5, ctypes.c_int64, ctypes.c_int, *floats]
    made.wells.restype = None
    return made.wells


def prepared(
    wells: Wells, theta: Tensor, weight: Tensor, grad: Tensor, state: dict[str, Any], group: dict[str, Any]
) -> Callable[[], None] | None:
    """Return what makes a step in place, of latents, weights and Adam's averages; None if Adam has to do it.

    A step can be made here on the CPU, in single precision and one piece, for a fused Adam that has made its first.
    Who makes it counts it in the state.

    Args:
        wells: the numbers of the step.
        theta: the latents.
        weight: the weights of the forward pass.
        grad: the gradient of the loss in these.
        state: what Adam knows of the parameter.
        group: Adam's settings for it.
    """
    if not state or not _plain(group):
        return None
    tensors = (theta, weight, grad, state["exp_avg"], state["exp_avg_sq"])
    kernel = compiled() if all(map(_flat, tensors)) else None
    if kernel is None:
        return None
    done, (b1, b2) = float(state["step"]) + 1, group["betas"]
    adam = (b1, b2, float(group["lr"]) / (1 - b1**done), sqrt(1 - b2**done), group["eps"])
    return partial(kernel, *(t.data_ptr() for t in tensors), theta.numel(), torch.get_num_threads(), *wells, *adam)


def _plain(group: dict[str, Any]) -> bool:
    return bool(group["fused"]) and not (group["amsgrad"] or group["maximize"] or group["weight_decay"])


def _flat(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.dtype == torch.float32 and tensor.is_contiguous()
