"""Time and peak memory of one training step of dual propagation over one of backpropagation.

    python -m benchmarks.step --threads 1

A step clears the gradients, computes them, and moves the weights by SGD with momentum. All rules of a case take turns
in one process, so that a busy machine slows all alike; a ratio is the median over rounds of a rule's time over that of
backpropagation in the same round.
"""

import dataclasses
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import track

from benchmarks.cases import BACKPROP, Case, Step, bench
from benchmarks.compiled import compiled_steps
from benchmarks.memory import in_a_fresh_process, measurable
from benchmarks.tables import markdown
from dyadnet import names
from dyadnet.names import RequestError
from dyadnet.train.environment import environment, pick_device
from dyadnet.train.folder import write_json
from dyadnet.train.timing import interleaved

Row = dict[str, Any]

DUAL = "dual-propagation:alpha=0.5"
RULES = (BACKPROP, "dual-propagation:alpha=0", DUAL, "dual-propagation:alpha=1")
SCHEDULES = (
    BACKPROP,
    DUAL,
    f"{DUAL},schedule=sweeps,passes=3",
    f"{DUAL},schedule=bottom-up",
    f"{DUAL},schedule=odd-even",
    f"{DUAL},schedule=parallel",
    f"{DUAL},schedule=random-order",
)
MLP = Case(100, (512, 512))
DEEP = Case(100, (1000,) * 4)
VGG_LIKE = Case(32, blocks=((64, 2), (128, 2), (256, 3), (256, 1)))
VGG16 = Case(100, (4096, 4096), ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)))
SWEEPS = {
    "batch": tuple(Case(batch, (512, 512)) for batch in (10, 32, 100, 320, 1000)),
    "width": tuple(Case(100, (width, width)) for width in (128, 256, 512, 1024, 2048)),
    "depth": tuple(Case(100, (512,) * depth) for depth in (1, 2, 4, 8)),
}


@dataclass(frozen=True)
class Settings:
    """Measure, store the numbers, and print them."""

    out: Path = Path(__file__).parent / "results" / "step.json"
    """The JSON file to write."""
    device: str = "auto"
    """auto, cpu, cuda or another of torch's devices."""
    threads: int | None = None
    """Threads on the CPU; torch's choice by default."""
    seconds: float = 3.0
    """How long to repeat a case; at least seven rounds are measured."""
    repeats: int = 3
    """Fresh processes for every peak of memory."""
    full: bool = False
    """Measure the whole VGG16 too, as is done on an accelerator anyway."""
    quick: bool = False
    """Tiny networks and few rounds: to see that everything runs, not to learn from the numbers."""


@dataclass(frozen=True)
class Job:
    """Some rules on a case: one entry of a section of the results."""

    section: str
    case: Case
    rules: tuple[str, ...]
    measure: Callable[["Job", Settings, torch.device], list[Row]]


def main(settings: Settings, console: Console) -> None:
    """Run all jobs and store their rows."""
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    device = pick_device(settings.device)
    jobs = list(plan(settings, device, console))
    rows = [
        row
        for job in track(jobs, "measuring", console=console, disable=not console.is_terminal)
        for row in job.measure(job, settings, device)
    ]
    settings.out.parent.mkdir(parents=True, exist_ok=True)
    shown = dataclasses.asdict(settings) | {"out": settings.out.name}
    write_json(settings.out, {"settings": shown, "environment": environment(device), "rows": rows})
    console.print(Markdown(markdown(settings.out)))
    console.print(f"results: {settings.out}")


def plan(settings: Settings, device: torch.device, console: Console) -> Iterator[Job]:
    """Yield the jobs; what this machine cannot measure is left out with a sentence."""
    if settings.quick:
        small = Case(10, (32, 32))
        yield from (Job("eager", case, RULES, timed) for case in (small, Case(4, blocks=((4, 1), (8, 1)))))
        yield from (Job("batch", case, RULES, timed) for case in (small, Case(20, (32, 32))))
        yield Job("schedules", small, SCHEDULES, timed)
    else:
        whole = (VGG16,) if settings.full or device.type != "cpu" else ()
        yield from (Job("eager", case, RULES, timed) for case in (MLP, DEEP, VGG_LIKE, *whole))
        yield from (Job(name, case, RULES, timed) for name, cases in SWEEPS.items() for case in cases)
        yield Job("schedules", MLP, SCHEDULES, timed)
    if settings.quick or not compiles(device):
        console.print(
            f"compiled forms: left out, {'as --quick asks' if settings.quick else 'for want of a C++ compiler'}"
        )
    else:
        yield from (Job("compiled", case, RULES, timed_compiled) for case in (MLP, VGG_LIKE))
    if not measurable(device):
        console.print("peak memory: left out, it is read on Linux and on CUDA only")
    elif settings.quick:
        yield Job("memory", Case(128, (256,)), RULES[:2], peaks)
    else:
        yield from (Job("memory", dataclasses.replace(case, batch=128), RULES, peaks) for case in (MLP, VGG_LIKE))


def timed(job: Job, settings: Settings, device: torch.device) -> list[Row]:
    """Time the steps of a job in turn."""
    shared = bench(job.case, device)
    return _in_turn(job, {rule: shared.step(rule) for rule in job.rules}, settings, device)


def timed_compiled(job: Job, settings: Settings, device: torch.device) -> list[Row]:
    """Time the compiled steps of a job in turn, and eager backpropagation with them."""
    rules = {name: names.rule(name) for name in job.rules if name != BACKPROP}
    return _in_turn(job, compiled_steps(bench(job.case, device), rules), settings, device)


def _in_turn(job: Job, steps: Mapping[str, Step], settings: Settings, device: torch.device) -> list[Row]:
    """Time the steps of a job in as many rounds as the time allows."""
    limits = (3, 5) if settings.quick else (7, 1000)
    return in_turn(job.section, job.case, steps, settings.seconds, limits, device)


def in_turn(
    section: str,
    case: Case,
    steps: Mapping[str, Step],
    seconds: float,
    limits: tuple[int, int],
    device: torch.device | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Row]:
    """Time `steps`, that of backpropagation among them, and return a row for each.

    Args:
        section: of the results.
        case: what the steps are of.
        steps: by the name of the rule.
        seconds: how long to repeat them.
        limits: the fewest and the most rounds.
        device: where they run.
        clock: in seconds.
    """
    trial = interleaved(steps, 1, device, warmup=1)
    rounds = min(max(round(seconds / sum(map(sum, trial.values()))), limits[0]), limits[1])
    times = interleaved(steps, rounds, device, warmup=0, clock=clock)
    return [
        _row(section, case, rule, "ms", [1e3 * took for took in times[rule]], [1e3 * took for took in times[BACKPROP]])
        for rule in steps
    ]


def peaks(job: Job, settings: Settings, device: torch.device) -> list[Row]:
    """Measure the peak memory of training with every rule, each time in a fresh process."""
    repeats = 1 if settings.quick else settings.repeats

    def megabytes(rule: str) -> list[float]:
        return [in_a_fresh_process(job.case, rule, device) / 1e6 for _ in range(repeats)]

    # on an accelerator one after another, since the processes share its memory
    with ThreadPoolExecutor(1 if device.type != "cpu" else os.cpu_count()) as pool:
        found = dict(zip(job.rules, pool.map(megabytes, job.rules), strict=True))
    reference = [median(found[BACKPROP])] * repeats
    return [_row(job.section, job.case, rule, "mb", values, reference) for rule, values in found.items()]


def _row(section: str, case: Case, rule: str, unit: str, values: Sequence[float], reference: Sequence[float]) -> Row:
    """Return one row of the results: what a rule takes, and its ratio to backpropagation."""
    ratios = [ours / theirs for ours, theirs in zip(values, reference, strict=True)]
    return {
        "section": section,
        "network": case.network,
        "batch": case.batch,
        "rule": rule,
        "samples": len(values),
        unit: spread(values),
        "ratio": spread(ratios),
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median and the quartiles."""
    low, middle, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return {"median": round(middle, 4), "low": round(low, 4), "high": round(high, 4)}


def compiles(device: torch.device) -> bool:
    """Whether `torch.compile` finds what it needs; on the CPU that is a C++ compiler."""
    names = (os.environ.get("CXX"), "g++", "clang++")
    return device.type != "cpu" or any(shutil.which(name) for name in names if name)


if __name__ == "__main__":
    try:
        main(tyro.cli(Settings), Console())
    except RequestError as error:
        print(f"benchmarks.step: {error}", file=sys.stderr)
        sys.exit(2)
