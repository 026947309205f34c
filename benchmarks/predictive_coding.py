"""Time of one training step of the rules of lifted networks over one of backpropagation.

    python -m benchmarks.predictive_coding

A step clears the gradients, computes them, and moves the weights by Adam; all take turns in one process, as in
`benchmarks.step`. On one thread the time is that of the processor, without what others had of it. Predictive coding
makes T gradient steps of all its states, from the forward pass.

What it costs is bounded from below by arithmetic: the products with the weights between hidden layers are needed up and
down in every step that has reached them, and no product saves another. How many multiply-adds a rule makes, relative to
backpropagation, is counted and stored next to the time. Compiled (`dyadnet.rule.compiled`), what is elementwise in a
step becomes one pass over memory; backpropagation is compiled as well there, and stands beside it eager.
"""

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.markdown import Markdown
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.cases import BACKPROP, Bench, Case, Step, bench
from benchmarks.compiled import compiled_steps
from benchmarks.step import Row, compiles, in_turn
from benchmarks.tables import markdown
from dyadnet import LPOM, AuxiliaryCoordinates, Backprop, LiftedProximal, PredictiveCoding, cross_entropy
from dyadnet.rule.base import AbstractRule
from dyadnet.train.environment import environment
from dyadnet.train.folder import write_json

RULES: dict[str, AbstractRule] = {
    "backprop as a rule": Backprop(),
    "predictive coding, T=8, clamped": PredictiveCoding(inf, steps=8, step=0.1),
    "predictive coding, T=20, clamped": PredictiveCoding(inf, steps=20, step=0.1),
    "predictive coding, T=8, nudged": PredictiveCoding(0.1, steps=8, step=0.1),
    "predictive coding, T=20, nudged": PredictiveCoding(0.1, steps=20, step=0.1),
    "predictive coding, fixed predictions": PredictiveCoding(variant="fixed-prediction"),
    "predictive coding, Z-IL": PredictiveCoding(variant="z-il"),
    "auxiliary coordinates, T=20": AuxiliaryCoordinates(steps=20, step=0.1),
    "lpom, settled": LPOM(),
    "lifted proximal, settled": LiftedProximal(),
}


FIXED = {name: rule for name, rule in RULES.items() if "T=" in name}
"""Those that make a fixed number of passes."""


@dataclass(frozen=True)
class Settings:
    """Measure, store the numbers, and print them."""

    out: Path = Path(__file__).parent / "results" / "predictive_coding.json"
    """The JSON file to write."""
    batch: int = 128
    """Samples a batch."""
    threads: int = 1
    """Threads on the CPU."""
    seconds: float = 20.0
    """How long to repeat; at least seven rounds are measured."""
    quick: bool = False
    """A tiny network and few rounds: to see that everything runs, not to learn from the numbers."""


def main(settings: Settings, console: Console) -> None:
    """Measure all rules and store their rows."""
    torch.set_num_threads(settings.threads)
    case = Case(settings.batch, (16, 16) if settings.quick else (256, 256))
    steps = steps_of(case)
    counts = {name: products(step) for name, step in steps.items()}
    limits, clock = (
        (3, 5) if settings.quick else (7, 1000),
        time.process_time if settings.threads == 1 else time.perf_counter,
    )
    rows: list[Row] = [
        row | {"products": round(counts[row["rule"]] / counts[BACKPROP], 2)}
        for row in in_turn("lifted", case, steps, settings.seconds, limits, clock=clock)
    ]
    if compiles(torch.device("cpu")) and not settings.quick:
        rows += in_turn(
            "lifted, compiled", case, compiled_steps(shared_by(case), FIXED), settings.seconds, limits, clock=clock
        )
    settings.out.parent.mkdir(parents=True, exist_ok=True)
    shown = dataclasses.asdict(settings) | {"out": settings.out.name}
    write_json(settings.out, {"settings": shown, "environment": environment(), "rows": rows})
    console.print(Markdown(markdown(settings.out)))
    console.print(f"results: {settings.out}")


def steps_of(case: Case) -> Mapping[str, Step]:
    """Return a training step of backpropagation, as one would write it without this library, and of every rule."""
    shared = shared_by(case)
    return {BACKPROP: shared.step(BACKPROP)} | {name: step_of(shared, rule) for name, rule in RULES.items()}


def shared_by(case: Case) -> Bench:
    """Return a network and a batch, and Adam that barely moves: weights that know the batch would settle faster."""
    shared = bench(case, torch.device("cpu"))
    return dataclasses.replace(shared, optimizer=torch.optim.Adam(shared.model.parameters(), lr=1e-7))


def step_of(shared: Bench, rule: AbstractRule) -> Step:
    """Return a training step of one rule."""
    return shared.update(lambda: rule.backward(shared.net, cross_entropy, shared.x, shared.y))


def products(step: Step) -> int:
    """Return how many multiply-adds the matrix products of a step make."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() // 2


if __name__ == "__main__":
    main(tyro.cli(Settings), Console())
