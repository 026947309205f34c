"""Weight transport: whether a weight is used both ways, from one neuron to the other and back (thesis section 2.3).

A product that contracts the second axis of a weight carries states up, one that contracts the first axis carries them
back through its transpose. A weight that is used one way only, as a feedback weight is, is transported nowhere. Beside
that stands what the network itself needs: how what layers send down is related to what they send up.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from dyadnet.audit.messages import Message
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.state import Activity, States
from dyadnet.network.wiring import AbstractWiring

Connectivity = Literal["none", "symmetric", "skew", "asymmetric"]


@final
@dataclass(frozen=True)
class Transport:
    """Which weights are used both ways.

    Attributes:
        inference: those that the network's inference uses so.
        training: those that are used so once the rule is at work.
        connectivity: of the inference.
    """

    inference: tuple[str, ...]
    training: tuple[str, ...]
    connectivity: Connectivity

    @property
    def where(self) -> Literal["inference", "training", "none"]:
        """Where weights are transported: already in inference, only in training, or not at all."""
        return "inference" if self.inference else "training" if self.training else "none"


def transport(inference: Iterable[Message], training: Iterable[Message], connectivity: Connectivity) -> Transport:
    """Return which weights are used both ways.

    Args:
        inference: the messages that the prediction depends on.
        training: those that what is learned depends on.
        connectivity: of the inference.
    """
    free = _uses(inference)
    both = {name: free.get(name, set()) | axes for name, axes in _uses(training).items()}
    return Transport(_two_ways(free), _two_ways(both), connectivity)


def _uses(messages: Iterable[Message]) -> dict[str, set[int]]:
    """Which axes of every weight are contracted."""
    uses: dict[str, set[int]] = {}
    for message in messages:
        for name, axis in message.contracted:
            uses.setdefault(name, set()).add(axis)
    return uses


def _two_ways(uses: dict[str, set[int]]) -> tuple[str, ...]:
    return tuple(sorted(name for name, axes in uses.items() if 0 in axes and len(axes) > 1))


@torch.no_grad()
def connectivity(net: AbstractNetwork, x: Tensor, states: States) -> Connectivity:
    """Return how what layers send down is related to what they send up, found by moving states.

    Args:
        net: the network.
        x: inputs.
        states: the states of its layers.

    `none` where nothing goes down, `symmetric` and `skew` where every pair of neurons answers one another alike, up to
    a factor for every two layers, and with the same or the opposite sign.
    """
    wiring = net.wire(x, states)
    generator = torch.Generator().manual_seed(0)
    ratios: dict[int, list[tuple[float, float]]] = {}
    for _ in range(3):
        v = [torch.randn(s.mean().shape, generator=generator, dtype=torch.float64).to(s.mean()) for s in states]
        for k in range(1, wiring.depth):
            up, down = _answer(wiring, states, v, k, k + 1), _answer(wiring, states, v, k + 1, k)
            ratios.setdefault(k, []).append((up, down))
    return _named(list(ratios.values()))


def _answer(wiring: AbstractWiring, states: States, v: Sequence[Tensor], moved: int, heard: int) -> float:
    """How much a layer's drive follows, along `v`, a move of another layer along `v`."""
    drives = []
    for step in (0.5, -0.5):
        s = [
            Activity(state.mean() + step * (k == moved) * d)
            for k, (state, d) in enumerate(zip(states, v, strict=True), 1)
        ]
        drives.append(wiring.again(s).drive(heard))
    return float(((drives[0] - drives[1]) * v[heard - 1]).sum())


def _named(layers: Sequence[Sequence[tuple[float, float]]]) -> Connectivity:
    if all(abs(down) <= 1e-9 * (1e-9 + abs(up)) for pairs in layers for up, down in pairs):
        return "none"
    factors = [torch.tensor([down / up for up, down in pairs]) for pairs in layers]
    if any(float(f.std()) > 1e-4 * float(f.abs().mean()) for f in factors):
        return "asymmetric"
    signs = {bool(f.mean() > 0) for f in factors}
    return "symmetric" if signs == {True} else "skew" if signs == {False} else "asymmetric"
