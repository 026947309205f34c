"""Lifted energies as the thesis states them (eqs 3.13-3.15), by autograd through the user's own modules."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from dyadnet import Layered
from dyadnet.energy.potential import AbstractPotential, Auxiliary, Fenchel, Predictive, Proximal

POTENTIALS: dict[str, type[AbstractPotential]] = {
    "auxiliary": Auxiliary,
    "predictive": Predictive,
    "proximal": Proximal,
    "fenchel": Fenchel,
}
PROJECTING = ("proximal", "fenchel")


@dataclass(frozen=True, eq=False)
class Chain:
    """A network, and its layers as pairs of a map and an activation."""

    model: nn.Sequential
    layers: list[tuple[nn.Module, nn.Module]]
    x: Tensor

    @property
    def net(self) -> Layered:
        return Layered.from_sequential(self.model)

    @property
    def parameters(self) -> list[nn.Parameter]:
        return list(self.model.parameters())

    def somewhere(self, *, inside: bool) -> list[Tensor]:
        """States that are no equilibrium, in the range of the activations if asked."""
        states, below = [], self.x
        for map_, f in self.layers:
            below = f(map_(below)).detach()
            s = below + 0.5 * torch.randn_like(below)
            states.append(f(s) if inside else s)
        return states


def mlp(activation: Callable[[], nn.Module], *, widths: Sequence[int] = (5, 7, 6, 4), batch: int = 3) -> Chain:
    maps = [nn.Linear(below, above) for below, above in pairwise(widths)]
    fs = [*(activation() for _ in maps[1:]), nn.Identity()]
    for map_ in maps:
        nn.init.normal_(map_.weight, std=1.2 / map_.in_features**0.5)
        nn.init.normal_(map_.bias, std=0.3)
    model = nn.Sequential(*[module for pair in zip(maps, fs, strict=True) for module in pair])
    return Chain(model, list(zip(maps, fs, strict=True)), torch.randn(batch, widths[0]))


def conv(activation: Callable[[], nn.Module], pool: nn.Module) -> Chain:
    first, second = nn.Conv2d(2, 3, 3, padding=1), nn.Sequential(pool, nn.Conv2d(3, 4, 3, stride=2))
    third = nn.Sequential(nn.Flatten(), nn.Linear(4, 4))
    layers = [(first, activation()), (second, activation()), (third, nn.Identity())]
    model = nn.Sequential(*[module for pair in layers for module in pair])
    return Chain(model, layers, torch.randn(3, 2, 6, 6))


def energy(kind: str, chain: Chain, states: Sequence[Tensor], gamma: float = 1.0) -> Tensor:
    """`E`, `(batch,)`, differentiable in the states and the parameters."""
    total, below = torch.zeros(len(chain.x)), chain.x
    for k, ((map_, f), s) in enumerate(zip(chain.layers, states, strict=True)):
        a = map_(below)
        match kind:
            case "auxiliary":
                term, below = (s - f(a)).square() / 2, s
            case "predictive":
                term, below = (s - a).square() / 2, f(s)
            case "proximal":
                term, below = (s - a).square() / 2, s
            case _:
                term, below = (s - a).square() / 2 - (f(a) - a).square() / 2, s
        total = total + gamma**k * term.flatten(1).sum(1)
    return total


def gradients(value: Tensor, of: Sequence[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(value, list(of), materialize_grads=True))
