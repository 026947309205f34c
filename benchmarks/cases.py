"""What is measured: networks at a batch size, and one training step of each with a rule."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor, nn

from dyadnet import Layered, cross_entropy
from dyadnet.names import rule as named_rule
from dyadnet.train.models import convolutional, initialise, mlp

Step = Callable[[], object]
BACKPROP = "backprop"
"""The reference: the loop that one would write without this library."""


@dataclass(frozen=True)
class Case:
    """A perceptron on 784 inputs, or convolutions on 3x32x32 with a perceptron on top; ten classes.

    Attributes:
        batch: samples a step.
        hidden: widths of the hidden linear layers.
        blocks: channels and number of convolutions between two poolings; none for a plain perceptron.
    """

    batch: int
    hidden: tuple[int, ...] = ()
    blocks: tuple[tuple[int, int], ...] = ()

    @property
    def network(self) -> str:
        """Name it by its widths: `784-512x2-10`, `conv 64x2-128x2, 10`."""
        linear = [_times(width, len(list(same))) for width, same in groupby(self.hidden)]
        below = f"conv {'-'.join(_times(*block) for block in self.blocks)}, " if self.blocks else "784-"
        return below + "-".join([*linear, "10"])

    def model(self) -> nn.Sequential:
        """Return the network."""
        if not self.blocks:
            return mlp((784,), 10, self.hidden)
        return convolutional((3, 32, 32), 10, self.blocks, self.hidden)

    def data(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return random inputs and classes."""
        shape = (3, 32, 32) if self.blocks else (784,)
        return torch.rand(self.batch, *shape, device=device), torch.randint(10, (self.batch,), device=device)


@dataclass(frozen=True)
class Bench:
    """A network with its optimiser and a batch of data: all that the steps of a case share."""

    model: nn.Sequential
    net: Layered
    optimizer: torch.optim.Optimizer
    x: Tensor
    y: Tensor

    def step(self, rule: str) -> Step:
        """Return one training step with `rule`, a name as on the command line."""
        if rule == BACKPROP:
            return self.update(lambda: nn.functional.cross_entropy(self.model(self.x), self.y).backward())
        learn = named_rule(rule)
        return self.update(lambda: learn.backward(self.net, cross_entropy, self.x, self.y))

    def update(self, fill: Step) -> Step:
        """Return what clears the gradients, lets `fill` fill them, and moves the weights."""

        def once() -> None:
            self.optimizer.zero_grad()
            fill()
            self.optimizer.step()

        return once


def bench(case: Case, device: torch.device) -> Bench:
    """Make the network, of He weights, and the data of `case`, from a fixed seed."""
    torch.manual_seed(0)
    model = case.model().to(device)
    initialise(model, "he")
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    return Bench(model, Layered.from_sequential(model), optimizer, *case.data(device))


def _times(width: int, count: int) -> str:
    return f"{width}" if count == 1 else f"{width}x{count}"
