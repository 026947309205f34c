"""The command `robustness`: which rule survives an imperfection, and how strongly it has to teach."""

import dataclasses
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dyadnet.audit.tolerance import tolerances
from dyadnet.names import RequestError
from dyadnet.train import folder
from dyadnet.train.environment import environment
from dyadnet.train.run import Record, load_dataset
from dyadnet.train.settings import Settings, from_dict
from dyadnet.train.sweep import Sweep, check_cell, check_workers, sweep, written

RULES = ("dual-propagation", "dyadic", "equilibrium-propagation", "equilibrium-propagation:variant=positive")
Shared = Annotated[Settings, tyro.conf.arg(name="")]


@dataclasses.dataclass(frozen=True)
class Robustness:
    """Train rules on circuits that are imperfect in one way, more and more, at several teaching strengths.

    Says at which level each rule has lost half of what it had learned, and with which strength it goes furthest.

    Example: dyadnet robustness --source reading.noise --levels 0.001 0.01 0.1 --strengths 0.1 0.5 --out runs/noise
    """

    settings: Shared
    out: Path
    """The folder to write."""
    rules: tuple[str, ...] = RULES
    """Learning rules with their settings, but for beta."""
    strengths: tuple[float, ...] = (0.05, 0.2, 0.8)
    """Values of beta; rules without one run once."""
    source: str = "reading.noise"
    """What is imperfect: a setting of a device (see info), or feedback: unlike weights up and down, relative."""
    levels: tuple[float, ...] = (1e-3, 1e-2, 1e-1)
    """How imperfect it is; the mildest level is what the others are measured by."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Every rule runs once with each, and on another specimen of the circuit."""
    jobs: int = 1
    """How many runs go on at the same time."""
    cluster: str | None = None
    """The address of a Dask scheduler whose workers run them; they need to find the data."""
    overwrite: bool = False
    """Replace what the folder holds."""

    def __call__(self, console: Console) -> None:
        """Run them all."""
        plan = Sweep(self.rules, self.strengths, self.source, self.levels, self.seeds, self.settings)
        if self.jobs < 1:
            raise RequestError(f"jobs must be at least 1, not {self.jobs}")
        folder.check(self.out, overwrite=self.overwrite)
        check_workers(self.cluster)
        check_cell(plan, load_dataset(self.settings))
        config = {key: value for key, value in dataclasses.asdict(plan).items() if key != "settings"}
        config |= {"command": "robustness", "settings": dataclasses.asdict(self.settings)}
        config |= {"jobs": self.jobs, "cluster": self.cluster, "environment": environment()}
        folder.create(self.out, config, overwrite=self.overwrite)
        conduct(plan, self.out, console, self.jobs, self.cluster)


def go_on(path: Path, console: Console) -> None:
    """Go on with an interrupted sweep.

    Raises:
        RequestError: if it is finished, or its configuration damaged.
    """
    config = folder.read_config(path)
    try:
        names = [field.name for field in dataclasses.fields(Sweep) if field.name not in ("settings", "source")]
        lists = {name: tuple(config[name]) for name in names}
        plan = Sweep(source=config["source"], settings=from_dict(config["settings"]), **lists)
        jobs, cluster = config["jobs"], config["cluster"]
    except (KeyError, TypeError) as error:
        raise RequestError(f"{path / folder.CONFIG} is not a sweep's configuration: {error}") from error
    if len(written(path)) == len(plan.cells()) and (path / folder.REPORT).exists():
        raise RequestError(f"{path} is finished; its result is in {path / folder.ROBUSTNESS}")
    conduct(plan, path, console, jobs, cluster)


def conduct(plan: Sweep, path: Path, console: Console, jobs: int, cluster: str | None) -> None:
    """Run what is missing, write the result, report, and say where."""
    columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, transient=True) as bars:
        task = bars.add_task("training on circuits", total=len(plan.cells()))
        try:
            with folder.alone(path), ended_as_interrupted():
                records = sweep(plan, path, jobs=jobs, cluster=cluster, done=lambda record: bars.advance(task))
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"interrupted; {folder.resuming(path)} goes on with what is missing") from None
    folder.write_json(path / folder.ROBUSTNESS, result(plan, records))
    _show(plan, path, records, console)


@contextmanager
def ended_as_interrupted() -> Iterator[None]:
    """Let a request to end be an interruption, which takes the workers along."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def result(plan: Sweep, records: Sequence[Record]) -> dict[str, Any]:
    """Return what `robustness.json` holds."""
    return {
        "source": plan.source,
        "settings": dataclasses.asdict(plan.settings) | {"data_root": None},
        "environment": environment(),
        "rules": [dataclasses.asdict(found) for found in tolerances(records, plan.source)],
    }


def _show(plan: Sweep, path: Path, records: Sequence[Record], console: Console) -> None:
    from dyadnet.report.sweep import sweep_table, write_sweep  # plotly takes a while to import

    found = tolerances(records, plan.source)
    page = write_sweep(path / folder.REPORT, plan.source, found, environment())
    console.print(sweep_table(plan.source, found))
    console.print(f"cells:  {path / folder.CELLS}", soft_wrap=True)
    console.print(f"report: {page}", soft_wrap=True)
