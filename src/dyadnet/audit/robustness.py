"""What is left of a trained network's accuracy under attacks on its inputs, and under noise on inputs, weights, units.

Noise is Gaussian. On inputs its size is the standard deviation, in the box's unit; on weights it is relative to the
root mean square of the tensor they belong to; on units it is an offset of the drive of every unit below the output,
relative to the root mean square of the states of those units:

    received     u_k + n_k,    n_k ~ N(0, (size rms(s_1, ..., s_{L-1}))^2)    for k < L

with `u_k` what a unit hears from others and from the inputs. Noise on weights and units is drawn once a batch and held
while states settle: the accuracy expected is that of noise drawn for every sample.
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
from dyadnet.network.state import AbstractState
from dyadnet.network.substrate import AbstractSubstrate

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
        ValueError: for a size that is negative, or noise on units of a network with none below the output.
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


def _noisy_units(net: AbstractNetwork, x: Tensor, y: Tensor, size: float, generator: torch.Generator) -> float:
    return accuracy(with_noisy_units(net, x, size, generator), x, y)


@torch.no_grad()
def with_noisy_units(net: AbstractNetwork, x: Tensor, size: float, generator: torch.Generator) -> AbstractNetwork:
    """Return the same network with noise, drawn once, on the drive of every unit below the output.

    Args:
        net: the network.
        x: inputs `(batch, ...)`, at whose equilibrium the size of states is measured.
        size: the standard deviation, relative to the root mean square of those states.
        generator: of the noise.

    Raises:
        ValueError: if there are no such units.
    """
    states = net.relax(x).states
    hidden, wiring = [state.mean() for state in states[:-1]], net.wire(x, states)
    if not hidden:
        raise ValueError("noise on units is that of units below the output, and there are none")
    amplitude = size * _rms(hidden)
    by = {k: amplitude * _normal(wiring.drive(k)[0], generator) for k in range(1, len(states))}
    return net.on(ShiftedUnits(net.substrate, by))


@final
class ShiftedUnits(AbstractSubstrate):
    """Units whose drive is shifted by the same amount at every visit.

    Args:
        substrate: what they are made of besides; None stands for what is perfect.
        by: how far, `(...)` without the batch, of every layer that is shifted.
    """

    def __init__(self, substrate: AbstractSubstrate | None, by: Mapping[int, Tensor]) -> None:
        self.substrate, self.by = substrate, by

    def received(self, k: int, drive: Tensor) -> Tensor:
        """Return the drive and the shift."""
        made = drive if self.substrate is None else self.substrate.received(k, drive)
        return made + self.by[k] if k in self.by else made

    def moved(self, k: int, state: AbstractState, factor: float) -> AbstractState:
        """Return the state, as it is without shifts."""
        return state if self.substrate is None else self.substrate.moved(k, state, factor)

    def read(self, k: int, state: AbstractState) -> AbstractState:
        """Return what is read without shifts."""
        return state if self.substrate is None else self.substrate.read(k, state)


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
