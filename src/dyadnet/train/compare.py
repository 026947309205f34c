"""A comparison: several rules, each with several seeds, on the same data, network and optimiser."""

import dataclasses
import re
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

from dyadnet import data, names
from dyadnet.names import RequestError
from dyadnet.train import folder
from dyadnet.train.auditing import audit
from dyadnet.train.environment import environment
from dyadnet.train.exposing import exposed
from dyadnet.train.loop import Relaxed, Tick, prepare
from dyadnet.train.plan import RELAXATION, check_used, fitted, unused
from dyadnet.train.run import Record, Request, Watch, execute, read_request, step_cost
from dyadnet.train.settings import Settings, from_dict

Begin = Callable[[Request, int, int], None]
"""Called before every run with its request, its number and the number of runs."""
AUDIT_SAMPLES = 200
"""An attack takes some hundred times as long as a look at the samples."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The rules and seeds to compare, and what they share."""

    rules: tuple[str, ...]
    seeds: tuple[int, ...]
    settings: Settings
    audit: bool = False
    """Whether what every rule promises is observed, too, and what the networks that it trained withstand."""
    audit_samples: int = AUDIT_SAMPLES
    """With so many test samples."""

    def __post_init__(self) -> None:
        if not self.rules or not self.seeds:
            raise RequestError("a comparison needs at least one rule and one seed")
        if self.audit_samples < 1:
            raise RequestError(f"audit-samples must be at least 1, not {self.audit_samples}")
        if self.audit_samples != AUDIT_SAMPLES and not self.audit:
            raise RequestError("audit-samples is for an audit: add --audit")
        for (first, rule), (second, other) in combinations([(name, names.rule(name)) for name in self.rules], 2):
            if rule == other:
                raise RequestError(f"a rule is named twice: {first} and {second} are the same")
        if len(set(self.seeds)) < len(self.seeds):
            raise RequestError(f"a seed is named twice: {' '.join(map(str, self.seeds))}")
        check_used(self.settings, self.rules)
        self.runs()

    def config(self) -> dict[str, Any]:
        """Return what `config.json` holds."""
        return {
            "command": "compare",
            "rules": list(self.rules),
            "seeds": list(self.seeds),
            "audit": self.audit,
            "audit_samples": self.audit_samples,
            "settings": dataclasses.asdict(self.settings),
            "environment": environment(),
        }

    def runs(self) -> list[Request]:
        """Return the runs, all rules of the first seed before the next seed.

        A run has those of the settings that its rule makes use of.
        """
        settings = {rule: fitted(self.settings, names.rule(rule)) for rule in self.rules}
        return [Request(rule, seed, settings[rule]) for seed in self.seeds for rule in self.rules]

    def left_out(self) -> list[str]:
        """Say which settings of networks do not count for which rules, a sentence each; how to relax is no question."""
        return [
            f"{rule} runs without {name.replace('_', '-')}, which is {why}"
            for rule in self.rules
            for name, why in unused(self.settings, names.rule(rule)).items()
            if name not in RELAXATION
        ]


def read_comparison(path: Path) -> Comparison:
    """Read a comparison back from its folder."""
    config = folder.read_config(path)
    try:
        return Comparison(
            tuple(config["rules"]),
            tuple(config["seeds"]),
            from_dict(config["settings"]),
            config.get("audit", False),
            config.get("audit_samples", AUDIT_SAMPLES),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RequestError(f"{path / folder.CONFIG} is not a comparison's configuration: {error}") from error


def compare(
    comparison: Comparison,
    path: Path,
    dataset: data.Dataset,
    *,
    begin: Begin = lambda request, number, runs: None,
    tick: Tick = lambda step, steps, loss: None,
    watch: Watch = lambda metrics: None,
    relaxed: Relaxed = lambda metrics: None,
) -> list[Record]:
    """Run every rule with every seed in sub-folders of `path`, skipping finished runs; write `compare.json`.

    Raises:
        RequestError: if a sub-folder holds a run of another comparison, or another process is at work there.
        Diverged: naming the run, the epoch and the last good checkpoint.
    """
    with folder.alone(path):
        costs, audits = step_costs(comparison, dataset), audited(comparison, dataset)
        records, runs = [], comparison.runs()
        for number, request in enumerate(runs, 1):
            begin(request, number, len(runs))
            place = path / run_name(request)
            record = _finished(place, request)
            if record is None:
                record = execute(request, place, dataset, tick=tick, watch=watch, relaxed=relaxed)
            else:
                watch(record["history"][-1])
            step_ms, step_ratio = costs[request.rule]
            record |= {"step_ms": step_ms, "step_ratio_to_backprop": step_ratio} | audits.get(request.rule, {})
            if comparison.audit:
                record["exposure"] = exposed(request, place, dataset, comparison.audit_samples)
            if request.seed != comparison.seeds[0]:  # one picture a rule will do
                record |= {"connectivity": None, "pictures": None}
            records.append(record)
        folder.write_json(path / folder.COMPARISON, records)
        return records


def step_costs(comparison: Comparison, dataset: data.Dataset) -> dict[str, tuple[float, float | None]]:
    """Return the time of a step in ms and its ratio to backpropagation for every rule."""
    first = comparison.runs()[: len(comparison.rules)]
    return {run.rule: step_cost(prepare(run.settings, run.rule, run.seed, dataset)) for run in first}


def audited(comparison: Comparison, dataset: data.Dataset) -> dict[str, Record]:
    """Return what is observed of every rule, if that is asked for."""
    seed, rules = comparison.seeds[0], comparison.rules if comparison.audit else ()
    return {rule: {"audit": audit(rule, comparison.settings, seed, dataset)} for rule in rules}


def _finished(place: Path, request: Request) -> Record | None:
    """Return the record of a run that has come to its end, else make sure that the run has its folder."""
    if not (place / folder.CONFIG).exists():
        folder.create(place, request.config())
        return None
    there = read_request(place)
    moved = dataclasses.replace(there.settings, data_root=request.settings.data_root)  # data may lie elsewhere by now
    if dataclasses.replace(there, settings=moved) != request:
        raise RequestError(f"{place} holds a run with other settings; name another folder, or remove it")
    result = place / folder.RESULT
    return folder.read_json(result) if result.exists() else None


def run_name(request: Request) -> str:
    """Return the name of a run's sub-folder.

    >>> run_name(Request("dual-propagation:alpha=0,beta=0.1", 3, Settings()))
    'dual-propagation-alpha-0-beta-0.1-seed-3'
    """
    return f"{re.sub(r'[^a-z0-9.+]+', '-', request.rule.lower()).strip('-')}-seed-{request.seed}"
