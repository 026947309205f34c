"""Time of a step of every optimiser of binary weights over one of the fused Adam that it wraps.

    python -m benchmarks.binary

Four matrices of 1024 x 1024, about four million weights, all binary. Gradients are random, and written anew before
every step, which is not timed. All take turns in one process; on one thread the time is that of the processor. AdaSTE
is `annealed` once weights are binary, and `annealing` before.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.markdown import Markdown
from torch import nn

from benchmarks.step import Row, spread
from benchmarks.tables import markdown
from dyadnet.binary.adaste import AdaSTE
from dyadnet.binary.course import Course
from dyadnet.binary.method import AbstractMethod
from dyadnet.binary.optimizer import BinaryOptimizer
from dyadnet.names import BINARY
from dyadnet.train.environment import environment
from dyadnet.train.folder import write_json

ADAM = "fused adam"
METHODS: dict[str, AbstractMethod] = {
    "adaste, annealed": AdaSTE(anneal=0.0),
    "adaste, annealing": AdaSTE(anneal=1.0),
} | {name: made() for name, made in BINARY.items() if name != "adaste"}
"""What is timed; `published-adaste` and `bayes-binn` around Adam, too."""


@dataclass(frozen=True)
class Settings:
    """Measure, store the numbers, and print them."""

    out: Path = Path(__file__).parent / "results" / "binary.json"
    """The JSON file to write."""
    width: int = 1024
    """Of four square matrices."""
    threads: int = 1
    """Threads on the CPU."""
    rounds: int = 31
    """How often every optimiser takes its turn."""


def main(settings: Settings, console: Console) -> None:
    """Measure all and store their rows."""
    torch.set_num_threads(settings.threads)
    clock = time.process_time if settings.threads == 1 else time.perf_counter
    times = in_turn(steps_of(settings.width), settings.rounds, clock)
    network = f"4 matrices of {settings.width} x {settings.width}"
    rows: list[Row] = [
        {
            "section": "binary",
            "network": network,
            "reference": ADAM,
            "rule": name,
            "ms": spread([1e3 * value for value in found]),
            "ratio": spread([ours / theirs for ours, theirs in zip(found, times[ADAM], strict=True)]),
        }
        for name, found in times.items()
    ]
    settings.out.parent.mkdir(parents=True, exist_ok=True)
    shown = dataclasses.asdict(settings) | {"out": settings.out.name}
    write_json(settings.out, {"settings": shown, "environment": environment(), "rows": rows})
    console.print(Markdown(markdown(settings.out)))
    console.print(f"results: {settings.out}")


Prepared = tuple[Callable[[], object], Callable[[], object]]
"""What writes gradients, and the step that is timed."""


def steps_of(width: int) -> Mapping[str, Prepared]:
    """Return a step of plain Adam, and of every method around it."""
    return {ADAM: step_of(width, None)} | {name: step_of(width, method) for name, method in METHODS.items()}


def step_of(width: int, method: AbstractMethod | None) -> Prepared:
    """Return a step on matrices of its own; the annealing stands at its middle."""
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(width, width)) for _ in range(4)]
    grads = [1e-2 * torch.randn(width, width) for _ in weights]
    base = torch.optim.Adam([{"params": weights, "binary": True}], lr=1e-3, fused=True)
    optimizer = base if method is None else BinaryOptimizer(base, method, Course(1000, done=500))

    def write() -> None:
        for p, grad in zip(weights, grads, strict=True):
            p.grad = grad.clone() if p.grad is None else p.grad.copy_(grad)

    return write, optimizer.step


def in_turn(
    steps: Mapping[str, Prepared], rounds: int, clock: Callable[[], float], warmup: int = 3
) -> dict[str, list[float]]:
    """Let all take a step a round, in an order that turns around; return their times in seconds."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(warmup + rounds):
        for name in list(steps)[:: 1 if turn % 2 else -1]:
            write, step = steps[name]
            write()
            start = clock()
            step()
            if turn >= warmup:
                times[name].append(clock() - start)
    return times


if __name__ == "__main__":
    main(tyro.cli(Settings), Console())
