"""What is left of a trained network's accuracy under attacks on its inputs, and under noise on inputs, weights, units.

Noise is Gaussian. On inputs its size is the standard deviation, in the box's unit; on weights it is relative to the
root mean square of the tensor they belong to; on units it is an offset of the drive of every unit below the output,
relative to the root mean square of the states of those units. Noise on weights and units is drawn once a batch and
held while states settle: the accuracy expected is that of noise drawn for every sample.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal, final

import torch
from torch import Tensor, nn

from dyadnet.audit.attack import PIXELS, Attack, Box, accuracy
from dyadnet.network.base import AbstractNetwork

Kind = Literal["fast gradient", "projected gradient", "projected gradient, euclidean", "inputs", "weights", "units"]
"""An attack or a noise."""
SIZES: Mapping[Kind, tuple[float, ...]] = {
    "fast gradient": (0.025, 0.05, 0.1),
    "projected gradient": (0.025, 0.05, 0.1),
    "projected gradient, euclidean": (0.5, 1.0, 2.0),
    "inputs": (0.1, 0.3, 0.5),
    "weights": (0.1, 0.3, 0.5),
    "units": (0.1, 0.3, 0.5),
}
"""For inputs of range 1, such as images in [0, 1]."""


@final
@dataclass(frozen=True)
class Trial:
    """What a network was exposed to, and what came of it.

    Attributes:
        kind: an attack or a noise.
        size: its radius or its standard deviation.
        accuracy: the share of samples in their class; the mean over draws of noise.
    """

    kind: Kind
    size: float
    accuracy: float


def robustness(
    net: AbstractNetwork,
    x: Tensor,
    y: Tensor,
    sizes: Mapping[Kind, tuple[float, ...]] = SIZES,
    *,
    box: Box = PIXELS,
    steps: int = 10,
    draws: int = 5,
    seed: int = 0,
) -> list[Trial]:
    """Return the accuracy of a network under attacks and noises of several sizes.

    Args:
        net: the network; as it was when this returns.
        x: inputs `(batch, ...)`, in the box.
        y: integer classes `(batch,)`.
        sizes: of every kind.
        box: of valid inputs, which attacks stay in and noise leaves; sizes on inputs are in its unit.
        steps: of the projected gradients.
        draws: how often noise is drawn.
        seed: of the noise.

    Raises:
        ValueError: for a size that is negative, or noise on units without biases.
    """
    for kind, values in sizes.items():
        if not all(value >= 0 for value in values):
            raise ValueError(f"the sizes of {kind!r} must not be negative: {values}")
    exposed: dict[Kind, Callable[[float], float]] = {
        "fast gradient": lambda size: _under(Attack(size, "max", 1, box), net, x, y),
        "projected gradient": lambda size: _under(Attack(size, "max", steps, box), net, x, y),
        "projected gradient, euclidean": lambda size: _under(Attack(size, "euclidean", steps, box), net, x, y),
        "inputs": partial(_averaged, partial(_noisy_inputs, box.unit), net, x, y, draws, seed),
        "weights": partial(_averaged, _noisy_weights, net, x, y, draws, seed),
        "units": partial(_averaged, _noisy_units, net, x, y, draws, seed),
    }
    return [Trial(kind, size, exposed[kind](size)) for kind, values in sizes.items() for size in values]


def _under(attack: Attack, net: AbstractNetwork, x: Tensor, y: Tensor) -> float:
    return accuracy(net, attack.worst(net, x, y), y)


def _averaged(
    noisy: Callable[..., float], net: AbstractNetwork, x: Tensor, y: Tensor, draws: int, seed: int, size: float
) -> float:
    """The mean accuracy over draws of noise; the same draws for every network of these shapes."""
    generator = torch.Generator().manual_seed(seed)
    return sum(noisy(net, x, y, size, generator) for _ in range(draws)) / draws


def _noisy_inputs(
    unit: Tensor | float, net: AbstractNetwork, x: Tensor, y: Tensor, size: float, generator: torch.Generator
) -> float:
    return accuracy(net, x + size * unit * _normal(x, generator), y)


def _noisy_weights(net: AbstractNetwork, x: Tensor, y: Tensor, size: float, generator: torch.Generator) -> float:
    weights = [p for p in net.parameters() if p.dim() > 1]
    with shifted({p: size * _rms([p]) * _normal(p, generator) for p in weights}):
        net.project_()
        return accuracy(net, x, y)


@torch.no_grad()
def _noisy_units(net: AbstractNetwork, x: Tensor, y: Tensor, size: float, generator: torch.Generator) -> float:
    biases = [p for name, p in net.named_parameters() if name.split(".")[-1] == "bias"]
    hidden = [state.mean() for state in net.relax(x).states[:-1]]
    inner = biases[:-1] if len(biases) > 1 else biases
    if not inner:
        raise ValueError("noise on units shifts their biases, and these have none")
    with shifted({p: size * _rms(hidden) * _normal(p, generator) for p in inner}):
        return accuracy(net, x, y)


@contextmanager
def shifted(by: Mapping[nn.Parameter, Tensor]) -> Iterator[None]:
    """Add to parameters for a while.

    >>> weight = nn.Parameter(torch.ones(2))
    >>> with shifted({weight: torch.ones(2)}):
    ...     print(weight.tolist())
    [2.0, 2.0]
    >>> weight.tolist()
    [1.0, 1.0]
    """
    before = {parameter: parameter.detach().clone() for parameter in by}
    with torch.no_grad():
        for parameter, amount in by.items():
            parameter.add_(amount)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in before.items():
                parameter.copy_(value)


def _rms(tensors: list[nn.Parameter] | list[Tensor]) -> float:
    total = sum(float(t.detach().square().sum()) for t in tensors)
    return (total / max(sum(t.numel() for t in tensors), 1)) ** 0.5


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)
