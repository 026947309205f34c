"""What all experiments share: run comparisons, keep their run folders, store one JSON result."""

import dataclasses
import json
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

from rich.console import Console

from dyadnet.progress import watcher
from dyadnet.report import table, write_report
from dyadnet.train import folder
from dyadnet.train.compare import Comparison, compare
from dyadnet.train.environment import environment
from dyadnet.train.run import Record, load_dataset

RESULTS = Path(__file__).parent / "results"
RUNS = Path("runs/experiments")


def run(name: str, comparison: Comparison) -> None:
    """Run `comparison` in `runs/experiments/NAME`, from where an earlier call stopped; store `results/NAME.json`."""
    records = trained(RUNS / name, comparison)
    store(name, comparison, [bare(record) for record in records])


def run_all(name: str, comparisons: Mapping[str, Comparison]) -> None:
    """Run comparisons that differ in more than the rule; the records carry the label of theirs as `label`.

    Stored records of other labels stay, so that lines of a table may be run one at a time.
    """
    found = labelled(name)
    for label, comparison in comparisons.items():
        found[label] = [bare(record) | {"label": label} for record in trained(place(name, label), comparison)]
        store(name, comparison, list(chain(*found.values())))  # what is there already, should it be cut off


def labelled(name: str) -> dict[str, list[Record]]:
    """Return the records of `results/NAME.json` by label, none where there is no such file."""
    path, found = RESULTS / f"{name}.json", dict[str, list[Record]]()
    for record in json.loads(path.read_text())["records"] if path.exists() else []:
        found.setdefault(record["label"], []).append(record)
    return found


def place(name: str, label: str) -> Path:
    """Return the run folder of one of several comparisons."""
    return RUNS / name / "".join(c if c.isalnum() or c in "-." else "-" for c in label)


def trained(path: Path, comparison: Comparison) -> list[Record]:
    """Run one comparison in its folder, and report."""
    console, dataset = Console(), load_dataset(comparison.settings)
    if not (path / folder.CONFIG).exists():
        folder.create(path, comparison.config())
    with watcher(console) as live:
        records = compare(comparison, path, dataset, begin=live.begin, tick=live.tick, watch=live.watch)
    settings = dataclasses.asdict(comparison.settings) | {"data_root": None}
    console.print(table(records, console.width))
    console.print(f"report: {write_report(path / folder.REPORT, path.name, records, environment(), settings)}")
    return records


def store(name: str, comparison: Comparison, records: list[Record]) -> None:
    """Write `results/NAME.json`, with the settings of `comparison`."""
    RESULTS.mkdir(exist_ok=True)
    result = {
        "name": name,
        "settings": dataclasses.asdict(comparison.settings) | {"data_root": None},
        "seeds": sorted({record["seed"] for record in records}),
        "environment": environment(),
        "records": records,
    }
    folder.write_json(RESULTS / f"{name}.json", result)


def earlier(name: str, settings: Record) -> list[Record]:
    """Return the records that earlier calls with the same settings left in `results/NAME.json`.

    Raises:
        SystemExit: if the settings were others.
    """
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return []
    there = folder.read_json(path)
    if there["settings"] != json.loads(json.dumps(settings)):
        raise SystemExit(f"{path} holds results of other settings: move it away, or run with those")
    return there["records"]


def keep(name: str, settings: Record, records: list[Record]) -> None:
    """Write `results/NAME.json` as far as it goes."""
    seeds = list(dict.fromkeys(record["seed"] for record in records))
    result = {"name": name, "settings": settings, "seeds": seeds, "environment": environment()}
    RESULTS.mkdir(exist_ok=True)
    folder.write_json(RESULTS / f"{name}.json", result | {"records": records})


def bare(record: Record) -> Record:
    """Return a record without what is stored once for all, and without what only its report draws."""
    kept = {key: value for key, value in record.items() if key not in ("environment", "connectivity", "pictures")}
    return kept | {"commit": record["environment"]["commit"]}
