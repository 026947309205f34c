"""What all experiments share: run a comparison, keep its run folders, store one JSON result."""

import dataclasses
from pathlib import Path

from rich.console import Console

from dyadnet.progress import watcher
from dyadnet.report import table, write_report
from dyadnet.train import folder
from dyadnet.train.compare import Comparison, compare
from dyadnet.train.environment import environment
from dyadnet.train.run import load_dataset

RESULTS = Path(__file__).parent / "results"
RUNS = Path("runs/experiments")


def run(name: str, comparison: Comparison) -> None:
    """Run `comparison` in `runs/experiments/NAME`, from where an earlier call stopped; store `results/NAME.json`."""
    path, console = RUNS / name, Console()
    dataset = load_dataset(comparison.settings)
    if not (path / folder.CONFIG).exists():
        folder.create(path, comparison.config())
    with watcher(console) as live:
        records = compare(comparison, path, dataset, begin=live.begin, tick=live.tick, watch=live.watch)
    settings = dataclasses.asdict(comparison.settings) | {"data_root": None}
    RESULTS.mkdir(exist_ok=True)
    folder.write_json(
        RESULTS / f"{name}.json",
        {
            "name": name,
            "settings": settings,
            "seeds": list(comparison.seeds),
            "environment": environment(),
            "records": [{key: value for key, value in record.items() if key != "environment"} for record in records],
        },
    )
    console.print(table(records))
    console.print(f"report: {write_report(path / folder.REPORT, name, records, environment(), settings)}")
