"""A sweep: rules at several teaching strengths, on circuits with one imperfection of several sizes, over seeds.

Cells are independent of one another: they run side by side, on one machine or on a cluster, and each that is done is
written down at once, so that a sweep can be interrupted and goes on with what is missing.
"""

import dataclasses
import importlib.util
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import torch

from dyadnet import data, names
from dyadnet.audit.displacement import displacement
from dyadnet.hardware.chip import OnChip
from dyadnet.hardware.device import SHOWN_BY
from dyadnet.names import RequestError
from dyadnet.train import folder
from dyadnet.train.loop import Diverged, Training, first_batch, prepare, train_epoch
from dyadnet.train.plan import check_used, choose, fitted
from dyadnet.train.rehearsal import rehearse
from dyadnet.train.run import Request, chosen, load_dataset
from dyadnet.train.settings import Settings
from dyadnet.train.settling import counted

FEEDBACK = "feedback"
"""The source that is no setting of a device: how unlike the weights on the way down are to those on the way up."""
Record = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One run of a sweep.

    Attributes:
        rule: without its strength.
        strength: `beta`; None for a rule that has none.
        level: the size of the imperfection.
        seed: of the run and of the specimen.
    """

    rule: str
    strength: float | None
    level: float
    seed: int

    @property
    def named(self) -> str:
        """The rule with its strength."""
        if self.strength is None:
            return self.rule
        return _with(self.rule, "beta", self.strength)


@dataclass(frozen=True)
class Sweep:
    """What to run.

    Attributes:
        rules: with their settings but for `beta`.
        strengths: the values of `beta`.
        source: the imperfection, a setting of a device such as `reading.noise`, or `feedback`.
        levels: its sizes.
        seeds: every cell runs once with each.
        settings: that all runs share; `hardware` names the device that the source is added to.
    """

    rules: tuple[str, ...]
    strengths: tuple[float, ...]
    source: str
    levels: tuple[float, ...]
    seeds: tuple[int, ...]
    settings: Settings

    def __post_init__(self) -> None:
        for name in ("rules", "strengths", "levels", "seeds"):
            given = getattr(self, name)
            if not given or len(set(given)) < len(given):
                raise RequestError(f"a sweep needs {name}, each of them once, not {' '.join(map(str, given))!r}")
        others = None if self.settings.network == "resistive" else SHOWN_BY.get(self.source)
        if others and not set(others) & set(names.device(self.settings.hardware or "ideal").sources()):
            raise RequestError(f"{self.source} shows only together with {' or '.join(others)}: set it in --hardware")
        check_used(self.settings, self.rules)
        if self.settings.tensorboard:
            raise RequestError("tensorboard is for single runs: leave it out")
        for cell in self.cells():
            settings = self.placed(cell)
            names.device(settings.hardware or "ideal")
            choose(settings, names.rule(cell.named))
            if self.source == FEEDBACK and (self.settings.feedback or settings.feedback is None):
                raise RequestError(
                    f"{cell.rule} has no feedback that could be mismatched, or one of its own: leave it out"
                )

    def cells(self) -> list[Cell]:
        """Return all cells, those of the first seed before the next."""
        return [
            Cell(rule, strength, level, seed)
            for seed in self.seeds
            for rule in self.rules
            for strength in (self.strengths if "beta" in names.rule_settings(rule.partition(":")[0]) else (None,))
            for level in self.levels
        ]

    def placed(self, cell: Cell) -> Settings:
        """Return the settings of a cell."""
        settings = self.settings
        if self.source == FEEDBACK:
            path = _with(f"mismatched:seed={cell.seed}", "relative", cell.level)
            settings = dataclasses.replace(settings, feedback=path)
        else:
            circuit = _with(settings.hardware or "ideal", self.source, cell.level)
            settings = dataclasses.replace(settings, hardware=circuit)
        return fitted(settings, names.rule(cell.named))


def _with(specification: str, setting: str, value: float) -> str:
    """A specification with one more setting."""
    return f"{specification}{',' if ':' in specification else ':'}{setting}={value:g}"


def sweep(
    plan: Sweep, path: Path, *, jobs: int = 1, cluster: str | None = None, done: Callable[[Record], None] | None = None
) -> list[Record]:
    """Run what is missing of a sweep in the folder `path`; return the records of all its cells.

    Args:
        plan: what to run.
        path: the folder, with the cells of an earlier call.
        jobs: how many cells run side by side.
        cluster: the address of a Dask scheduler; None for this machine.
        done: called with every record, those of an earlier call first.
    """
    there = written(path)
    wanted = plan.cells()
    records = [there[cell] for cell in wanted if cell in there]
    for record in records:
        if done is not None:
            done(record)
    check_workers(cluster)
    missing = [cell for cell in wanted if cell not in there]
    with _workers(jobs, cluster) as parallel:
        for record in parallel(joblib.delayed(run_cell)(plan, cell) for cell in missing):
            append(path, record)
            records.append(record)
            if done is not None:
                done(record)
    return records


def check_workers(cluster: str | None) -> None:
    """Refuse a cluster that there is nothing to reach by.

    Raises:
        RequestError: naming the package that is missing.
    """
    if cluster is not None and importlib.util.find_spec("distributed") is None:
        raise RequestError("a cluster needs the package distributed: pip install distributed")


def check_cell(plan: Sweep, dataset: data.Dataset) -> None:
    """Refuse rules that cannot train, at the weakest strength and the lowest level, before anything runs.

    Raises:
        RequestError: naming the rule.
    """
    mildest = sorted(plan.cells(), key=lambda cell: (cell.strength or 0, cell.level), reverse=True)
    for cell in {cell.rule: cell for cell in mildest}.values():
        rehearse(Request(cell.named, cell.seed, plan.placed(cell)), dataset)


@contextmanager
def _workers(jobs: int, cluster: str | None) -> Iterator[Callable[..., Any]]:
    """Give what runs calls side by side and yields results as they come."""
    if cluster is None:
        yield joblib.Parallel(jobs, return_as="generator_unordered")
        return
    from dask.distributed import Client  # pyright: ignore[reportMissingImports]

    with Client(cluster), joblib.parallel_config("dask"):
        yield joblib.Parallel(return_as="generator_unordered")


def append(path: Path, record: Record) -> None:
    """Write the record of a cell to a folder."""
    with (path / folder.CELLS).open("a+b") as lines:
        end = lines.seek(0, os.SEEK_END)
        lines.seek(max(end - 1, 0))
        whole = lines.read() in (b"", b"\n")  # a kill may have cut the last line off
        lines.write((b"" if whole else b"\n") + json.dumps(record).encode() + b"\n")


def written(path: Path) -> dict[Cell, Record]:
    """Return the records that a folder holds; a last line that was cut off is left out."""
    file, found = path / folder.CELLS, dict[Cell, Record]()
    for line in file.read_text().splitlines() if file.exists() else ():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        found[Cell(*(record[field.name] for field in dataclasses.fields(Cell)))] = record
    return found


def run_cell(plan: Sweep, cell: Cell, dataset: data.Dataset | None = None) -> Record:
    """Train one cell and return its record; one that diverges has learned nothing more than chance.

    Args:
        plan: the sweep.
        cell: which of its cells.
        dataset: of the settings; None to load it.
    """
    torch.set_num_threads(1)  # cells run side by side
    settings = plan.placed(cell)
    dataset = dataset or load_dataset(settings)
    training, diverged, refused, apart = prepare(settings, cell.named, cell.seed, dataset), False, None, None
    try:
        apart = _displacement(training)
        with counted():
            while len(training.history) < settings.epochs:
                train_epoch(training)
    except (Diverged, ValueError) as error:  # a nudge that this specimen does not bear is no end of the sweep
        diverged, refused = True, str(error) if isinstance(error, ValueError) else None
    last: Record = chosen(training.history) if training.history and not diverged else {}
    return dataclasses.asdict(cell) | {
        "test_accuracy": last.get("test_accuracy", 1 / dataset.classes),
        "diverged": diverged,
        "refused": refused,
        "alignment": last.get("alignment", []),
        "unconverged": last.get("unconverged"),
        "saturated": last.get("saturated"),
        "displacement": apart,
        "classes": dataset.classes,
    }


def _displacement(training: Training) -> float | None:
    """How far apart the contrasted outputs are before training, without any noise."""
    rule = training.rule.rule if isinstance(training.rule, OnChip) else training.rule
    x, y = first_batch(training, training.settings.batch_size)
    with counted():
        return displacement(rule, training.net, training.loss, x, y)
