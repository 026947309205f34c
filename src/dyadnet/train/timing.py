"""Costs in ratios: actions timed in turn in one process, so that a busy machine disturbs all of them alike."""

import time
from collections.abc import Callable, Mapping
from statistics import median

import torch


def interleaved(
    actions: Mapping[str, Callable[[], object]],
    rounds: int,
    device: torch.device | None = None,
    warmup: int = 2,
    calls: int = 1,
    clock: Callable[[], float] | None = None,
) -> dict[str, list[float]]:
    """Run every action once a round and return its times in seconds, a list of `rounds`.

    The order of the actions turns around every round, so that none always follows the same one. With several `calls` in
    a row a time is their mean: all but the first find caches and memory as the action itself left them, as in training.
    On one thread of a CPU the clock is that of the process, which leaves out the time that others had the processor.

    >>> times = interleaved({"nothing": lambda: None, "sum": lambda: sum(range(100_000))}, rounds=5)
    >>> median(times["nothing"]) < median(times["sum"])
    True
    """
    alone = torch.get_num_threads() == 1 and (device is None or device.type == "cpu")
    clock = clock or (time.process_time if alone else time.perf_counter)
    times: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(warmup + rounds):
        for name in list(actions)[:: 1 if turn % 2 else -1]:
            _synchronise(device)
            start = clock()
            for _ in range(calls):
                actions[name]()
            _synchronise(device)
            if turn >= warmup:
                times[name].append((clock() - start) / calls)
    return times


def ratio(times: list[float], reference: list[float]) -> float:
    """Return the median over rounds of the paired ratios."""
    return median(ours / theirs for ours, theirs in zip(times, reference, strict=True))


def _synchronise(device: torch.device | None) -> None:
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
