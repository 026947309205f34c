"""A comparison: several rules, each with several seeds, on the same data, network and optimiser."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dyadnet import data, names
from dyadnet.names import RequestError
from dyadnet.train import folder
from dyadnet.train.environment import environment
from dyadnet.train.loop import Metrics, Tick, prepare
from dyadnet.train.run import Record, Request, execute, step_cost
from dyadnet.train.settings import Settings, from_dict

Begin = Callable[[Request, int, int], None]
"""Called before every run with its request, its number and the number of runs."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The rules and seeds to compare, and what they share."""

    rules: tuple[str, ...]
    seeds: tuple[int, ...]
    settings: Settings

    def __post_init__(self) -> None:
        for rule in self.rules:
            names.rule(rule)
        for what, values in (("rules", self.rules), ("seeds", self.seeds)):
            if not values:
                raise RequestError(f"a comparison needs at least one of {what}")
            if len(set(values)) < len(values):
                raise RequestError(f"{what} are named twice: {' '.join(str(value) for value in values)}")

    def config(self) -> dict[str, Any]:
        """Return what `config.json` holds."""
        return {
            "command": "compare",
            "rules": list(self.rules),
            "seeds": list(self.seeds),
            "settings": dataclasses.asdict(self.settings),
            "environment": environment(),
        }

    def runs(self) -> list[Request]:
        """Return the runs, all rules of the first seed before the next seed."""
        return [Request(rule, seed, self.settings) for seed in self.seeds for rule in self.rules]


def read_comparison(path: Path) -> Comparison:
    """Read a comparison back from its folder."""
    config = folder.read_config(path)
    try:
        return Comparison(tuple(config["rules"]), tuple(config["seeds"]), from_dict(config["settings"]))
    except (KeyError, TypeError) as error:
        raise RequestError(f"{path / folder.CONFIG} is not a comparison's configuration: {error}") from error


def compare(
    comparison: Comparison,
    path: Path,
    dataset: data.Dataset,
    *,
    begin: Begin = lambda request, number, runs: None,
    tick: Tick = lambda step, steps, loss: None,
    watch: Callable[[Metrics], None] = lambda metrics: None,
) -> list[Record]:
    """Run every rule with every seed in sub-folders of `path`, skipping finished runs; write `compare.json`."""
    costs = step_costs(comparison, dataset)
    records, runs = [], comparison.runs()
    for number, request in enumerate(runs, 1):
        begin(request, number, len(runs))
        place = path / run_name(request)
        record = finished(place)
        if record is None:
            if not (place / folder.CONFIG).exists():
                folder.create(place, request.config())
            record = execute(request, place, dataset, tick=tick, watch=watch)
        step_ms, step_ratio = costs[request.rule]
        records.append(record | {"step_ms": step_ms, "step_ratio_to_backprop": step_ratio})
    folder.write_json(path / folder.COMPARISON, records)
    return records


def step_costs(comparison: Comparison, dataset: data.Dataset) -> dict[str, tuple[float, float]]:
    """Return the time of a step in ms and its ratio to backpropagation for every rule."""
    seed = comparison.seeds[0]
    return {rule: step_cost(prepare(comparison.settings, rule, seed, dataset)) for rule in comparison.rules}


def finished(place: Path) -> Record | None:
    """Return the record of a run that has come to its end."""
    path = place / folder.RESULT
    return folder.read_json(path) if path.exists() else None


def run_name(request: Request) -> str:
    """Return the name of a run's sub-folder.

    >>> run_name(Request("dual-propagation:alpha=0,beta=0.1", 3, Settings()))
    'dual-propagation-alpha-0-beta-0.1-seed-3'
    """
    return f"{re.sub(r'[^a-z0-9.]+', '-', request.rule.lower()).strip('-')}-seed-{request.seed}"
