"""Time of one training step of a resistive network, over that of a direct implementation.

    python -m benchmarks.resistive

A step is a batch of centred equilibrium propagation with 4 iterations a phase, an update of Adam, and the projection of
the conductances. Both take the same steps in the same order from the same weights, in turn in one process. On one
thread the time is that of the processor, without what others had of it.
"""

import copy
import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.markdown import Markdown
from torch import Tensor, nn

from benchmarks.direct_resistive import DirectResistive
from benchmarks.equilibrium import distance, spread
from benchmarks.tables import markdown
from dyadnet import EquilibriumPropagation, squared_error
from dyadnet.hardware.circuit import Circuit
from dyadnet.hardware.resistive import ResistiveNetwork
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.solver import Plain
from dyadnet.relax.stopping import Count
from dyadnet.train.environment import environment
from dyadnet.train.folder import write_json
from dyadnet.train.timing import interleaved

Row = dict[str, Any]
TOLERANCE = 1e-9
"""How far the two gradients may lie apart in double precision, relative to their length."""


@dataclass(frozen=True)
class Settings:
    """Measure, store the numbers, and print them."""

    out: Path = Path(__file__).parent / "results" / "resistive.json"
    """The JSON file to write."""
    iterations: int = 4
    """Of every phase."""
    beta: float = 1.0
    """The nudging strength."""
    threads: int = 1
    """Threads on the CPU."""
    rounds: int = 15
    """How often both take a step."""
    quick: bool = False
    """Tiny networks and few rounds: to see that everything runs, not to learn from the numbers."""


@dataclass(frozen=True)
class Pair:
    """The two ways to learn from one batch of random data, each with conductances of its own, equal to the other's."""

    net: ResistiveNetwork
    other: ResistiveNetwork
    direct: DirectResistive
    x: Tensor
    y: Tensor
    rule: EquilibriumPropagation

    def ours(self) -> None:
        """Fill the gradients with this library."""
        self.net.zero_grad()
        self.rule.backward(self.net, squared_error, self.x, self.y, keep_states=False)

    def theirs(self) -> None:
        """Fill the gradients with the direct loop."""
        self.direct.backward(self.x, self.y)

    def apart(self) -> float:
        """Return how far the gradients of both lie apart, relative to their length."""
        self.ours()
        self.theirs()
        both = [[p.grad for p in net.parameters() if p.grad is not None] for net in (self.net, self.other)]
        return distance(*both)


def pair(widths: tuple[int, ...], batch: int, settings: Settings, dtype: torch.dtype = torch.float32) -> Pair:
    """Make the network and the data, from a fixed seed."""
    torch.manual_seed(0)
    how = Relaxation(solver=Plain(), stop=Count(settings.iterations))
    net = ResistiveNetwork(widths, Circuit(input_gain=200.0), how).to(dtype)
    other = copy.deepcopy(net)
    x, classes = torch.rand(batch, widths[0]).to(dtype), torch.randint(widths[-1], (batch,))
    y = nn.functional.one_hot(classes, widths[-1]).to(dtype)
    direct = DirectResistive(list(other.conductances), list(other.currents), 200.0, settings.beta, settings.iterations)
    return Pair(net, other, direct, x, y, EquilibriumPropagation(settings.beta))


def steps(both: Pair) -> dict[str, Callable[[], None]]:
    """Return a training step of each; the learning rate is so small that the circuit stays what it is."""

    def step(net: ResistiveNetwork, fill: Callable[[], None]) -> Callable[[], None]:
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-9, fused=True)

        def taken() -> None:
            fill()
            optimizer.step()
            net.project_()

        return taken

    return {"ours": step(both.net, both.ours), "direct": step(both.other, both.theirs)}


def measure(widths: tuple[int, ...], batch: int, settings: Settings) -> Row:
    """Time both, after a look at whether they compute the same.

    Raises:
        ArithmeticError: if they do not in double precision. In single, the direct differences of squares lose digits.
    """
    both, apart = pair(widths, batch, settings), pair(widths, 4, settings, torch.float64).apart()
    if not apart <= TOLERANCE:
        raise ArithmeticError(f"the gradients differ by {apart:.1e}, so there is nothing to compare")
    clock = time.process_time if settings.threads == 1 else time.perf_counter
    times = interleaved(steps(both), 3 if settings.quick else settings.rounds, clock=clock)
    return {
        "section": "resistive",
        "network": f"{'-'.join(map(str, (2 * widths[0], *widths[1:])))}, batch {batch}",
        "iterations": settings.iterations,
        "samples": settings.rounds,
        "ms": {name: spread([1e3 * took for took in values]) for name, values in times.items()},
        "speedup": spread([theirs / ours for ours, theirs in zip(times["ours"], times["direct"], strict=True)]),
        "difference": apart,
        "rounding": both.apart(),
    }


def main(settings: Settings, console: Console) -> None:
    """Measure all cases and store their rows."""
    torch.set_num_threads(settings.threads)
    inputs, wide = (20, 12) if settings.quick else (784, 512)
    cases = [((inputs, wide, 10), batch) for batch in (4, 16, 64)] + [((inputs, wide, wide, 10), 16)]
    rows = [measure(widths, batch, settings) for widths, batch in cases]
    settings.out.parent.mkdir(parents=True, exist_ok=True)
    shown = dataclasses.asdict(settings) | {"out": settings.out.name}
    write_json(settings.out, {"settings": shown, "environment": environment(), "rows": rows})
    console.print(Markdown(markdown(settings.out)))
    console.print(f"results: {settings.out}")


if __name__ == "__main__":
    main(tyro.cli(Settings), Console())
