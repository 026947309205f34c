"""Where the neurons of a network are, and which of them every weight connects.

A place is a population of neurons: 0 the inputs, then one for every map with weights, the output last. The units of a
densely connected network are one place. Every axis of a parameter belongs to a place, or (a kernel's) to none.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

from torch import Tensor, nn

from dyadnet.network.base import AbstractNetwork
from dyadnet.network.dense import Dense
from dyadnet.network.feedback import AbstractFeedback, Straight
from dyadnet.network.layered import Layered
from dyadnet.network.lifted import Lifted
from dyadnet.network.modules import modules_of

Axes = tuple[int | None, ...]


@final
@dataclass(frozen=True, eq=False)
class Weight:
    """A parameter, or a fixed feedback weight.

    Attributes:
        name: in the network.
        tensor: itself.
        axes: the place of every axis.
        own: whether it is one of the network's own connections, and no feedback path.
    """

    name: str
    tensor: Tensor
    axes: Axes
    own: bool = True

    @property
    def connects(self) -> bool:
        """Whether it leads from neurons to neurons; a bias does not."""
        return len(self.axes) > 1


@final
@dataclass(frozen=True, eq=False)
class Places:
    """The neurons of a network.

    Attributes:
        weights: all that is known of.
        names: of the places.
        unknown: parameters of which it is not known what they connect.
    """

    weights: tuple[Weight, ...]
    names: tuple[str, ...]
    unknown: tuple[str, ...] = ()

    @property
    def output(self) -> int:
        """The last place."""
        return len(self.names) - 1

    def joined(self, one: int, other: int) -> bool:
        """Return whether a synapse of the network leads from one place to the other, either way."""
        return any({one, other} == set(w.axes) - {None} for w in self.weights if w.own and w.connects)


def places(net: AbstractNetwork) -> Places:
    """Return where the neurons of a network are.

    >>> net = Layered.from_sequential(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
    >>> [(weight.name, weight.axes) for weight in places(net).weights]
    [('0.weight', (1, 0)), ('0.bias', (1,)), ('2.weight', (2, 1)), ('2.bias', (2,))]
    """
    names = {tensor: name for name, tensor in [*net.named_parameters(), *net.named_buffers()]}
    if isinstance(net, Dense):
        axes: dict[Tensor, Axes] = {net.theta: (1, 1), net.theta_0: (1, 0), net.bias: (1,)}
        return Places(tuple(Weight(names[t], t, a) for t, a in axes.items()), ("inputs", "units"))
    if not isinstance(net, Layered | Lifted):
        return Places((), ("inputs",), tuple(name for name, _ in net.named_parameters()))
    axes, above, titles, layers = {}, {}, ["inputs"], [0]
    for stage in net.stages:
        for module in modules_of(stage.map):
            if any(p.dim() > 1 for p in module.parameters()):
                titles.append(f"{names[next(module.parameters())].rpartition('.')[0]} {type(module).__name__}")
            above[module] = len(titles) - 1
            axes |= dict(_of_module(module, len(titles) - 1))
        layers.append(len(titles) - 1)
    own = tuple(Weight(names.get(t, ""), t, a) for t, a in axes.items())
    path = net.feedback if isinstance(net, Layered) else None
    others = _of_lifted(net) if isinstance(net, Lifted) else _of_path(path, above, layers)
    rest = tuple(Weight(names.get(t, ""), t, a, own=path is None) for t, a in others.items())
    unknown = tuple(name for t, name in names.items() if isinstance(t, nn.Parameter) and t not in {**axes, **others})
    return Places(own + rest, tuple(titles), unknown)


def _of_module(module: nn.Module, above: int) -> Iterator[tuple[Tensor, Axes]]:
    """The axes of a module's parameters: `(above, below, of the kernel, ...)`."""
    if any(True for _ in module.children()):
        return  # whatever its parameters connect, it is inside
    for parameter in module.parameters():
        yield parameter, (above, above - 1, *[None] * (parameter.dim() - 2))[: parameter.dim()]


def _of_lifted(net: Lifted) -> dict[Tensor, Axes]:
    """The axes of the weights that reconstruct."""
    decoders: dict[Tensor, Axes] = {V: (k, k + 1) for k, V in enumerate(net.V)}
    return decoders | {c: (k,) for k, c in enumerate(net.c)}


def _of_path(
    path: AbstractFeedback | None, above: Mapping[nn.Module, int], layers: Sequence[int]
) -> dict[Tensor, Axes]:
    """The axes of feedback weights, which have the shapes of those that they stand in for."""
    if path is None:
        return {}
    if isinstance(path, Straight):
        return {t: (layers[-1], layers[int(n[1:])], *[None] * (t.dim() - 2)) for n, t in path.named_buffers()}
    stored = {*path.buffers(), *path.parameters()}  # others are computed from the weights
    detours = {t: above[module] for module, t in path.detours().items() if t in stored}
    return {t: (k, k - 1, *[None] * (t.dim() - 2)) for t, k in detours.items()}
