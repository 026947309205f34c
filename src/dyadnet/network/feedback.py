"""Feedback paths: how errors travel down a chain, with the transpose of its weights or without (thesis section 2.3).

Layer l hears of the errors above it

    the transpose     W_l^T e_{l+1}                     where there is no path
    RandomFeedback    B_l e_{l+1}                       B_l random and fixed                      Lillicrap et al. 2016
    SignSymmetric     scale sign(W_l)^T e_{l+1}                                                   Liao et al. 2016
    KolenPollack      B_l e_{l+1}                       B_l learns what W_l^T learns              Kolen & Pollack 1994
    DirectFeedback    B_l e_L                           B_l random and fixed, e_L the output's    Nokland 2016
    Mismatched        scale (W_l (1 + eps_l))^T e_{l+1}  eps_l random and fixed: devices meant as transposes

`B_l` takes the place of the weight of every linear map and convolution through which the error passes on its way to
layer l; pooling, flattening and normalisation keep their own transposes. In a network with loops the means that travel
down take the path as well: `B` then stands for `theta^T` in `W = theta + c theta^T`, and errors travel through `theta`
and `B`, not through their transposes: `B_l e_{l+1} + c W_{l-1} e_{l-1}`. Weights learn what they would if `B` were
their transpose.
"""

import abc
import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod, sqrt
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from dyadnet.bounds import bounded, positive
from dyadnet.network.linearisation import Detours
from dyadnet.network.modules import detourable, modules_of
from dyadnet.network.stage import Stage

Weighted = nn.Linear | nn.Conv2d
_ELEMENTWISE = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
"""Modules with parameters and no weights between units: they keep their own transposes."""


# --- the feedback weights of a network ---


class AbstractFeedback(nn.Module, abc.ABC):
    """The feedback weights of one network; they are saved, restored and moved with it.

    `B0`, `B1`, ... lead down to the layer of that number, and have the shapes of what they stand in for: that of `W_l`,
    or `(outputs, *layer)`.

    Attributes:
        nominal: whether they are meant to be the transposes, and differ from them by errors of devices alone.
    """

    nominal: ClassVar[bool] = False

    @abc.abstractmethod
    def detours(self) -> Detours:
        """Return the weights that take the place of those of linear maps and convolutions."""


@final
class Stored(AbstractFeedback):
    """Feedback weights from layer to layer: buffers if they are fixed, parameters if they are learned."""

    def __init__(self, places: Mapping[Weighted, str], weights: dict[str, Tensor], *, learned: bool) -> None:
        super().__init__()
        self.places = places
        for name, weight in weights.items():
            if learned:
                self.register_parameter(name, nn.Parameter(weight))
            else:
                self.register_buffer(name, weight)

    def detours(self) -> Detours:
        """Return `B_l^T` for every map."""
        return {module: getattr(self, name) for module, name in self.places.items()}


@final
class Signs(AbstractFeedback):
    """Feedback weights of which only the signs follow the weights."""

    def __init__(self, modules: Sequence[Weighted], scale: float) -> None:
        super().__init__()
        self.modules_below, self.scale = tuple(modules), scale

    def detours(self) -> Detours:
        """Return `scale sign(W_l)` for every map."""
        return {m: m.weight.detach().sign() * _bound(m.weight.shape, self.scale) for m in self.modules_below}


@final
class Errors(AbstractFeedback):
    """Feedback weights that follow the weights but for fixed factors, one each."""

    nominal: ClassVar[bool] = True

    def __init__(self, places: Mapping[Weighted, str], factors: dict[str, Tensor]) -> None:
        super().__init__()
        self.places = places
        for name, factor in factors.items():
            self.register_buffer(name, factor)

    def detours(self) -> Detours:
        """Return the weight of every map times its factors."""
        return {module: module.weight.detach() * getattr(self, name) for module, name in self.places.items()}


@final
class Straight(AbstractFeedback):
    """Feedback weights from the output straight to every hidden layer."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        for name, weight in weights.items():
            self.register_buffer(name, weight)

    def detours(self) -> Detours:
        """No error passes through a map."""
        return {}

    def send(self, k: int, error: Tensor) -> Tensor:
        """Return `B_k e_L` for the output's error, in the shape of layer k."""
        return torch.tensordot(error.flatten(1), getattr(self, f"B{k}"), 1).to(error.dtype)


# --- paths, before they are laid into a network ---


@dataclass(frozen=True)
class FeedbackPath(abc.ABC):
    """How errors travel down; a network lays the path through its own stages.

    Entries of random weights are uniform in `+-scale / sqrt(n)`, with n the inputs of a unit above: as those of the
    linear maps and convolutions of torch for a scale of 1. Signs have that size.

    Args:
        scale: how large the feedback weights are, positive.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        positive("feedback", scale=self.scale)

    @abc.abstractmethod
    def lay(self, stages: Sequence[Stage]) -> AbstractFeedback:
        """Return the feedback weights of a chain.

        Raises:
            TypeError: naming the stage, if its map has weights for which no others can stand in.
        """


@final
@dataclass(frozen=True)
class RandomFeedback(FeedbackPath):
    """Feedback alignment: fixed random weights in the place of the transposes.

    Args:
        scale: how large they are.
        seed: what they are drawn from; the global random state has no part in them.
    """

    seed: int = 0

    def lay(self, stages: Sequence[Stage]) -> Stored:
        """Draw one weight for every map."""
        return _stored(stages, self.scale, self.seed, learned=False)


@final
@dataclass(frozen=True)
class KolenPollack(FeedbackPath):
    """Random weights that learn what the weights of the maps learn: `dB_l = (dW_l)^T`.

    They are parameters of the network: optimise `net.parameters()`, with weight decay. The difference `B_l - W_l^T`
    then decays with every step, and errors come to travel through the transpose that nobody transported.

    Args:
        scale: how large they are at first.
        seed: what they are drawn from.
    """

    seed: int = 0

    def lay(self, stages: Sequence[Stage]) -> Stored:
        """Draw one weight for every map.

        Raises:
            TypeError: also if a weight is computed, by a parametrisation: there is no parameter to learn like.
        """
        for crossing in _crossings(stages):
            if not isinstance(crossing.module.weight, nn.Parameter):
                raise TypeError(f"{crossing.name} computes its weight: what it learns cannot be learned a second time")
        return _stored(stages, self.scale, self.seed, learned=True)


@final
@dataclass(frozen=True)
class SignSymmetric(FeedbackPath):
    """The signs of the weights, without their sizes."""

    def lay(self, stages: Sequence[Stage]) -> Signs:
        """Remember the maps."""
        return Signs([crossing.module for crossing in _crossings(stages)], self.scale)


@final
@dataclass(frozen=True)
class Mismatched(FeedbackPath):
    """The transposes as a device makes them: every weight is off by a factor `scale (1 + relative normal)` of its own.

    The factors stay as the weights learn, like the spread of transistors in gyrators, or of the two ways through an
    optical matrix. A symmetric network remains so in name: rules that need an energy take the one that was meant.

    Args:
        scale: what all weights are off by.
        relative: the standard deviation of the error of single weights.
        seed: what the errors are drawn from.

    >>> from dyadnet import Layered
    >>> net = Layered.from_sequential(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)), 1.0)
    >>> net.with_feedback(Mismatched(relative=0.1)).energy_missing() is None
    True
    """

    relative: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        bounded("feedback", relative=self.relative)

    def lay(self, stages: Sequence[Stage]) -> Errors:
        """Draw one factor for every weight."""
        generator = torch.Generator().manual_seed(self.seed)
        places = _places(stages)
        shapes = {name: module.weight for module, name in places.items()}
        return Errors(places, {name: self._factor(like, generator) for name, like in shapes.items()})

    def _factor(self, like: Tensor, generator: torch.Generator) -> Tensor:
        normal = torch.randn(*like.shape, generator=generator, dtype=torch.float64, device="cpu")
        return (self.scale * (1 + self.relative * normal)).to(like.device, like.dtype)


@final
@dataclass(frozen=True)
class DirectFeedback(FeedbackPath):
    """Direct feedback alignment: the output's error reaches every hidden layer through fixed random weights.

    Only for feedforward chains, `lam = 1/2`.

    Args:
        scale: how large they are.
        seed: what they are drawn from.
        inputs: the shape of one input, `(channels, height, width)`; a chain that starts with a linear map knows it.
    """

    seed: int = 0
    inputs: tuple[int, ...] | None = None

    def lay(self, stages: Sequence[Stage]) -> Straight:
        """Draw one weight for every hidden layer.

        Raises:
            TypeError: also if errors would have to pass through a weight within a map.
            ValueError: if the inputs' shape is not known, or does not suit the network.
        """
        for crossing in _crossings(stages):
            if crossing.within:
                raise TypeError(
                    f"{crossing.name} learns below a weight of its own map: direct feedback reaches layers only; put "
                    "an activation between"
                )
        *hidden, output = _shapes(stages, self.inputs)
        generator = torch.Generator().manual_seed(self.seed)
        like = next(stages[-1].map.parameters())
        shapes = {f"B{k}": (output.numel(), *shape) for k, shape in enumerate(hidden, 1)}
        return Straight({name: _drawn(shape, self.scale, generator, like) for name, shape in shapes.items()})


def _stored(stages: Sequence[Stage], scale: float, seed: int, *, learned: bool) -> Stored:
    """Random weights from layer to layer."""
    generator = torch.Generator().manual_seed(seed)
    places = _places(stages)
    likes = {name: module.weight for module, name in places.items()}
    weights = {name: _drawn(like.shape, scale, generator, like) for name, like in likes.items()}
    return Stored(places, weights, learned=learned)


def _places(stages: Sequence[Stage]) -> dict[Weighted, str]:
    """Name what stands in for the weight of every map; maps that share a weight share that on the way down.

    So does a lowest map, which no error leaves: what its weight learns there, weights that learn the same have to.
    """
    places: dict[Weighted, str] = {}
    shared: dict[object, str] = {}
    for crossing in _crossings(stages):
        weight = crossing.module.weight
        key = weight if isinstance(weight, nn.Parameter) else crossing.module
        if key not in shared:
            names = [f"B{crossing.below}", *(f"B{crossing.below}_{i}" for i in range(1, len(shared) + 1))]
            shared[key] = next(name for name in names if name not in shared.values())
        places[crossing.module] = shared[key]
    for module in (module for stage in stages for module in modules_of(stage.map)):
        if detourable(module) and isinstance(module.weight, nn.Parameter) and module.weight in shared:
            places[module] = shared[module.weight]
    return places


def _drawn(shape: Sequence[int], scale: float, generator: torch.Generator, like: Tensor) -> Tensor:
    """Random weights, the same for every dtype and device but for rounding."""
    unit = torch.rand(*shape, generator=generator, dtype=torch.float64, device="cpu") * 2 - 1
    return (unit * _bound(shape, scale)).to(like.device, like.dtype)


def _bound(shape: Sequence[int], scale: float) -> float:
    return scale / sqrt(prod(shape[1:]))


@final
@dataclass(frozen=True, eq=False)
class _Crossing:
    """A weight that an error would pass on its way down to layer `below`, or `within` the map of a stage."""

    module: Weighted
    below: int
    within: bool
    name: str


def _crossings(stages: Sequence[Stage]) -> Iterator[_Crossing]:
    """Find the weights through whose transposes errors would travel: all below which something learns."""
    for below, stage in enumerate(stages):
        within = False
        for module in modules_of(stage.map):
            learns = any(True for _ in module.parameters())
            if detourable(module):
                if below or within:
                    yield _Crossing(module, below, within, stage.name)
            elif learns and not isinstance(module, _ELEMENTWISE):
                raise TypeError(
                    f"{stage.name}: no feedback weights can stand in for those of {type(module).__name__}, only for "
                    "those of nn.Linear and of nn.Conv2d padded with a number of zeros"
                )
            within = within or learns


@torch.no_grad()
def _shapes(stages: Sequence[Stage], inputs: tuple[int, ...] | None) -> list[torch.Size]:
    """The shapes of all layers of one sample, found on copies of the maps."""
    first = next((m for m in modules_of(stages[0].map) if any(True for _ in m.parameters())), None)
    if inputs is None and not isinstance(first, nn.Linear):
        raise ValueError("direct feedback needs the shape of an input here: inputs=(channels, height, width)")
    like = next(stages[-1].map.parameters())
    s = like.new_zeros(1, *(inputs or (first.in_features if isinstance(first, nn.Linear) else 0,)))
    shapes = []
    for stage in stages:
        twin = Stage(copy.deepcopy(stage.map).eval(), stage.activation, stage.name)
        s = twin.activation.f(twin.linearise(lambda s=s: s).value)
        shapes.append(s.shape[1:])
    return shapes
