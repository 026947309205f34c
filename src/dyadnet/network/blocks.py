"""The linear maps of a chain as blocks of one matrix: `theta[layer k, layer k - 1]` is the weight of map k."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from dyadnet.activation import Activation
from dyadnet.network.layered import Layered
from dyadnet.network.modules import modules_of
from dyadnet.network.stage import Stage


@dataclass(frozen=True, eq=False)
class Blocks:
    """A chain in one vector of units, the lowest layer first.

    Attributes:
        theta: `(units, units)`.
        theta_0: `(units, inputs)`; only the lowest layer has any.
        bias: `(units,)`.
        mask: the entries of `theta` that the chain has.
        outputs: how many units are outputs.
        activations: of the hidden units and of the outputs.
    """

    theta: Tensor
    theta_0: Tensor
    bias: Tensor
    mask: Tensor
    outputs: int
    activations: tuple[Activation, Activation]


@torch.no_grad()
def as_blocks(net: Layered) -> Blocks:
    """Return copies of the weights of a chain.

    Raises:
        TypeError: naming the stage, if its map is not linear or its activation is not that of the other hidden layers;
            if errors do not travel through the transpose.

    >>> model = nn.Sequential(nn.Linear(1, 1), nn.Tanh(), nn.Linear(1, 1))
    >>> _ = nn.init.constant_(model[2].weight, 7.0)
    >>> as_blocks(Layered.from_sequential(model)).theta
    tensor([[0., 0.],
            [7., 0.]])
    """
    if net.feedback is not None:
        raise TypeError("a densely connected network has no feedback path: take net.with_feedback(None)")
    maps, hidden = [_linear(stage) for stage in net.stages], _hidden(net)
    first, units = maps[0].weight, sum(map_.out_features for map_ in maps)
    theta, mask = first.new_zeros(units, units), torch.zeros(units, units, dtype=torch.bool)
    theta_0, bias = first.new_zeros(units, maps[0].in_features), first.new_zeros(units)
    theta_0[: len(first)] = first
    start, below = 0, slice(0)
    for k, map_ in enumerate(maps):
        here = slice(start, start + map_.out_features)
        if k > 0:
            theta[here, below], mask[here, below] = map_.weight, True
        if map_.bias is not None:
            bias[here] = map_.bias
        start, below = here.stop, here
    return Blocks(theta, theta_0, bias, mask, maps[-1].out_features, (hidden, net.activations[-1]))


def _linear(stage: Stage) -> nn.Linear:
    """The only map of a stage, apart from flattening."""
    maps = [module for module in modules_of(stage.map) if not isinstance(module, nn.Flatten)]
    if len(maps) == 1 and isinstance(maps[0], nn.Linear):
        return maps[0]
    names = ", ".join(type(module).__name__ for module in maps) or "nothing"
    raise TypeError(f"{stage.name} is not one nn.Linear but {names}: only linear maps become a matrix of connections")


def _hidden(net: Layered) -> Activation:
    """The activation of the hidden layers."""
    for one, other in pairwise(net.stages[:-1]):
        if one.activation.name != other.activation.name:
            raise TypeError(
                f"{other.name} has the activation {other.activation.name} and {one.name} has {one.activation.name}: "
                "a densely connected network has one for all its hidden units"
            )
    return net.activations[0]
