"""Whether what a rule learns depends on the order of its updates (thesis section 3.1, on synchronicity).

A rule is run with all layers at once, one layer at a time in a random order, and asynchronously: any of the layers
update at once while the others are idle, so that neighbours are heard as they were some time ago.
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch

from dyadnet.network.base import AbstractNetwork
from dyadnet.network.layered import Layered
from dyadnet.network.linearisation import Gradients
from dyadnet.relax.schedule import AbstractSchedule, Group, Parallel, RandomOrder
from dyadnet.relax.solver import Anderson, OverRelaxed
from dyadnet.rule.base import AbstractRule


@final
@dataclass(frozen=True)
class Asynchronous(AbstractSchedule):
    """Every layer updates with a chance of one half, from what the others had before; 4 (2L - 1) times.

    A visit of a layer reads what its neighbours sent when they last updated, however long ago that was.
    """

    passes: int | None = None
    complete: ClassVar[bool] = False

    def one_pass(self, depth: int, generator: torch.Generator) -> Iterator[Group]:
        """Yield some of the layers."""
        chosen = (torch.rand(depth, generator=generator) < 0.5).nonzero().flatten().tolist()
        yield tuple(k + 1 for k in chosen) or (1 + int(torch.randint(depth, (), generator=generator)),)

    def needed(self, depth: int) -> int:
        """2L - 1, with luck."""
        return 2 * depth - 1

    def default(self, depth: int) -> int:
        """Eight times that."""
        return 8 * (2 * depth - 1)


ORDERS: dict[str, Callable[[int], AbstractSchedule]] = {
    "at once": lambda depth: Parallel(),
    "random": lambda depth: RandomOrder(8 * (2 * depth - 1)),
    "asynchronous": lambda depth: Asynchronous(),
}


def in_order(rule: AbstractRule, net: AbstractNetwork, order: str) -> AbstractRule | None:
    """Return a rule that updates in another order; None where it leaves no choice.

    A rule leaves one if it has a field `schedule`, or a field `relaxation`.
    """
    fields = {field.name for field in dataclasses.fields(rule)} if dataclasses.is_dataclass(rule) else set()
    schedule = ORDERS[order](depth(net))
    if "schedule" in fields:
        return replace(rule, schedule=schedule)  # pyright: ignore[reportArgumentType, reportCallIssue]
    if "relaxation" not in fields:
        return None
    how = getattr(rule, "relaxation", None) or net.relaxation
    if isinstance(how.solver, Anderson):  # it weighs whole passes, each of which has to visit all layers alike
        how = replace(how, solver=OverRelaxed())
    return replace(rule, relaxation=replace(how, schedule=schedule))  # pyright: ignore[reportArgumentType, reportCallIssue]


def depth(net: AbstractNetwork) -> int:
    """Return the number of layers that update."""
    return len(net.stages) if isinstance(net, Layered) else len(getattr(net, "activations", (1, 2)))


def change(ours: Gradients, theirs: Gradients) -> float:
    """Return the size of the difference of two gradients, relative to that of the first."""
    first = torch.cat([g.flatten().double() for g in ours.values()])
    second = torch.cat([theirs[p].flatten().double() for p in ours])
    return float((second - first).norm() / first.norm().clamp(min=torch.finfo(torch.float64).tiny))


def changes(
    estimate: Callable[[AbstractRule], Gradients], rule: AbstractRule, net: AbstractNetwork
) -> dict[str, float]:
    """Return how much what is learned changes with the order; nothing where a rule leaves no choice.

    Args:
        estimate: what a rule learns on the network.
        rule: as it is.
        net: the network.
    """
    others = {order: in_order(rule, net, order) for order in ORDERS}
    usual = estimate(rule)
    return {order: change(usual, estimate(other)) for order, other in others.items() if other is not None}
