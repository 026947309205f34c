"""A chip: one specimen of a device that carries one network; and a rule that learns on it."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from dyadnet.hardware.device import Device
from dyadnet.hardware.synapses import Synapses
from dyadnet.hardware.teaching import Taught, Teaching
from dyadnet.hardware.units import Reading, RealUnits, Units
from dyadnet.hardware.updates import PulsedOptimizer
from dyadnet.loss import Loss, as_loss
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.linearisation import Gradients
from dyadnet.network.state import States
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.stopping import Count
from dyadnet.rule.backprop import Backprop
from dyadnet.rule.base import AbstractRule, Estimate


@final
class Chip:
    """One specimen of a device, made for one network.

    Weights are all parameters with more than one dimension; biases are digital and exact.

    Args:
        device: the imperfections.
        net: the network; its weights of now set the units of full scales and pulses.
        seed: of what differs from specimen to specimen, and of the chip's own generator.
        grads: an estimate of the gradient, from which offsets of updates take their size.

    Attributes:
        generator: of what differs from reading to reading, where a rule on the chip is handed none; it goes on from
            estimate to estimate.

    Raises:
        ValueError: for offsets of updates without an estimate.

    >>> from dyadnet import Layered
    >>> net = Layered.from_sequential(torch.nn.Sequential(torch.nn.Linear(2, 1, bias=False)))
    >>> _ = net.stages[0].map.weight.data.copy_(torch.tensor([[1.0, 0.2]]))
    >>> chip = Chip(Device(synapses=Synapses(bits=2)), net)
    >>> chip.predict(net, torch.ones(1, 2)), net(torch.ones(1, 2)).detach()
    (tensor([[1.]]), tensor([[1.2000]]))
    """

    def __init__(self, device: Device, net: AbstractNetwork, seed: int = 0, grads: Gradients | None = None) -> None:
        self.device = device
        weights = [p for p in net.parameters() if p.dim() > 1]
        drawn = torch.randint(2**62, (2 * len(weights) + 4,), generator=torch.Generator().manual_seed(seed)).tolist()
        self.of_units, self.of_teaching, self.of_pulses, self.of_reading, *rest = drawn
        self.generator = torch.Generator().manual_seed(self.of_reading)
        seeds = rest[: len(weights)], rest[len(weights) :]
        self.stored = {p: device.synapses.made(p, s) for p, s in zip(weights, seeds[0], strict=True)}
        self.changed = {p: device.updates.made(p, s) for p, s in zip(weights, seeds[1], strict=True)}
        self.made: dict[int, tuple[Tensor, Tensor]] = {}
        self.offsets: dict[Tensor, Tensor] = {}
        if device.updates.offset:
            if grads is None:
                raise ValueError("offsets of updates are in units of a gradient: hand in an estimate of it")
            sizes = {p: grads[p].square().mean().sqrt() for p in weights if p in grads}
            self.offsets = {p: size * self.changed[p].offset for p, size in sizes.items()}

    @contextmanager
    def written(self, generator: torch.Generator | None = None) -> Iterator[None]:
        """Put the weights as the chip has them in the place of those that are wanted, and these back afterwards.

        Args:
            generator: of errors of writing.
        """
        wanted = {p: p.data for p in self.stored} if self.device.synapses != Synapses() else {}
        try:
            for p in wanted:
                p.data = self.stored[p](p.detach(), generator)
            yield
        finally:
            for p, data in wanted.items():
                p.data = data

    def circuit(self, net: AbstractNetwork, generator: torch.Generator) -> AbstractNetwork:
        """Return the network as its units are on the chip; its parameters are the same.

        Args:
            net: the network that the chip was made for, or one that shares its weights.
            generator: of what differs from visit to visit.

        Raises:
            ValueError: for a network with other weights.
        """
        if any(p.dim() > 1 and p not in self.stored for p in net.parameters()):
            raise ValueError("the chip holds the weights of another network: make one for this network")
        units, reading = self.device.units, self.device.reading
        beside = self.beside if self.device.synapses.twin else None
        if units == Units() and reading == Reading() and beside is None:
            return net
        how = cut_off(net.relaxation, units.passes)
        return net.on(RealUnits(units, reading, self.of_units, generator, self.made, beside), how)

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Put the weights of the second of two circuits in the place of those of the first, for a while."""
        first = {p: p.data for p in self.stored}
        try:
            for p, stored in self.stored.items():
                p.data = p.data * stored.unlike
            yield
        finally:
            for p, data in first.items():
                p.data = data

    @torch.no_grad()
    def predict(self, net: AbstractNetwork, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return what the network answers on the chip; the answer itself is not read, and has no noise of reading.

        Args:
            net: the network that the chip was made for.
            x: inputs `(batch, ...)`.
            generator: of what differs from reading to reading; None stands for a fixed seed.
        """
        generator = generator or torch.Generator().manual_seed(0)
        with self.written(generator):
            return self.circuit(net, generator)(x)

    def optimizer(self, base: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """Return an optimiser whose changes the chip's devices make; the base itself where these are exact.

        Args:
            base: asks for changes.
        """
        return base if self.device.updates.exact else PulsedOptimizer(base, self.changed, self.of_pulses)

    def saturated(self) -> float:
        """Return the share of weights that are stuck or would have to be larger than what can be stored."""
        total = sum(p.numel() for p in self.stored)
        return sum(stored.saturated(p) * p.numel() for p, stored in self.stored.items()) / max(total, 1)


@final
@dataclass(frozen=True, eq=False)
class OnChip(AbstractRule):
    """A rule at work on a chip: it sees the weights that the chip has and reads states as the chip lets it.

    What it estimates for the weights as they are is the gradient for the weights as they are wanted. Every estimate has
    noise of its own, as training needs it; with a seed it is a function of its arguments, for those who compare some.

    Args:
        rule: any rule. Backpropagation through autograd meets the weights of the chip alone; `Lagrangian`, the same in
            messages, meets units and readings too.
        chip: made for the network that is trained.
        seed: of noise and of the rule's randomness in estimates that are handed no generator, the same in each of them;
            None stands for the chip's generator.

    Raises:
        ValueError: for backpropagation where units or readings are not perfect; in `estimate`, for a network that the
            chip was not made for.

    >>> from dyadnet import EquilibriumPropagation, Layered, squared_error
    >>> net = Layered.from_sequential(torch.nn.Sequential(torch.nn.Linear(2, 2)), lam=1)
    >>> chip = Chip(Device(reading=Reading(noise=0.1)), net)
    >>> for seed in (None, 0):
    ...     rule, (x, y) = OnChip(EquilibriumPropagation(), chip, seed), torch.ones(2, 1, 2)
    ...     first, second = (rule.estimate(net, squared_error, x, y).grads for _ in range(2))
    ...     print(all(torch.equal(first[p], second[p]) for p in first))
    False
    True
    """

    rule: AbstractRule
    chip: Chip
    seed: int | None = None

    def __post_init__(self) -> None:
        device = self.chip.device
        met = (device.units, device.reading, device.teaching)
        if isinstance(self.rule, Backprop) and met != (Units(), Reading(), Teaching()):
            raise ValueError("backprop meets no units, readings or nudges, only weights: take lagrangian")

    def estimate(
        self,
        net: AbstractNetwork,
        loss: Loss,
        x: Tensor,
        y: Tensor,
        *,
        states: States | None = None,
        generator: torch.Generator | None = None,
        keep_states: bool = True,
    ) -> Estimate:
        """Estimate on the chip; the rule's own randomness and the chip's come from the same generator."""
        chip, generator = self.chip, generator or self._generator()
        teaching = chip.device.teaching
        if teaching != Teaching():
            loss = Taught(as_loss(loss), teaching, chip.of_teaching, generator)
        rule = _cut_off(self.rule, chip.device.units.passes)
        with chip.written(generator):
            step = rule.estimate(
                chip.circuit(net, generator), loss, x, y, states=states, generator=generator, keep_states=keep_states
            )
        return dataclasses.replace(step, grads=self._offset(step.grads)) if chip.offsets else step

    def _generator(self) -> torch.Generator:
        return self.chip.generator if self.seed is None else torch.Generator().manual_seed(self.seed)

    def _offset(self, grads: Gradients) -> Gradients:
        return grads | {p: grads[p] + offset for p, offset in self.chip.offsets.items() if p in grads}


def _cut_off(rule: AbstractRule, passes: int | None) -> AbstractRule:
    """Return a rule whose own relaxations, if it has some, end after so many passes."""
    if passes is None:
        return rule
    own = [name for name in ("relaxation", "nudged_relaxation") if isinstance(getattr(rule, name, None), Relaxation)]
    assert dataclasses.is_dataclass(rule)
    return dataclasses.replace(rule, **{name: cut_off(getattr(rule, name), passes) for name in own}) if own else rule


def cut_off(relaxation: Relaxation, passes: int | None) -> Relaxation:
    """Return a relaxation that ends after so many passes; as it is for None."""
    return relaxation if passes is None else dataclasses.replace(relaxation, stop=Count(passes))
