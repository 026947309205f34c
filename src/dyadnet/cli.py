"""The command line: `dyadnet train | compare | evaluate | resume | data | info`.

Exit codes: 0 done, 1 the work failed, 2 the request was wrong.
"""

import contextlib
import dataclasses
import io
import os
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.console import Console
from rich.table import Table

from dyadnet import data, names
from dyadnet.names import RequestError
from dyadnet.progress import watcher
from dyadnet.report import table, write_report
from dyadnet.train import folder
from dyadnet.train.compare import Comparison, compare, read_comparison
from dyadnet.train.environment import environment
from dyadnet.train.loop import Diverged, evaluate
from dyadnet.train.run import Record, Request, execute, load_dataset, read_request, restored
from dyadnet.train.settings import Settings

Shared = Annotated[Settings, tyro.conf.arg(name="")]
RULES = ("backprop", "dual-propagation:alpha=0", "dual-propagation:alpha=0.5", "dual-propagation:alpha=1")


@dataclasses.dataclass(frozen=True)
class Train:
    """Train one network with one rule.

    Example: dyadnet train --rule dual-propagation:alpha=0,beta=0.1 --dataset mnist --hidden 512 512 --out runs/first
    """

    settings: Shared
    out: Path
    """The run folder to write."""
    rule: str = "dual-propagation"
    """The learning rule with its settings; dyadnet info lists them."""
    seed: int = 0
    """Decides the weights, the order of the samples and the rule's own randomness."""
    overwrite: bool = False
    """Delete the run that the folder holds."""
    config: Path | None = None
    """A TOML file of options; those on the command line win."""

    def __call__(self, console: Console) -> None:
        """Run it."""
        request = Request(self.rule, self.seed, self.settings)
        names.rule(self.rule)
        dataset = load_dataset(self.settings)
        folder.create(self.out, request.config(), overwrite=self.overwrite)
        _train(request, self.out, dataset, console)


@dataclasses.dataclass(frozen=True)
class Compare:
    """Train several rules on the same data and network, and set them side by side.

    Example: dyadnet compare --rules backprop dual-propagation:alpha=0 --seeds 0 1 2 --dataset mnist --out runs/mnist
    """

    settings: Shared
    out: Path
    """The folder to write."""
    rules: tuple[str, ...] = RULES
    """Learning rules with their settings."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Every rule runs once with each."""
    overwrite: bool = False
    """Delete what the folder holds."""
    config: Path | None = None
    """A TOML file of options; those on the command line win."""

    def __call__(self, console: Console) -> None:
        """Run them all."""
        comparison = Comparison(self.rules, self.seeds, self.settings)
        dataset = load_dataset(self.settings)
        folder.create(self.out, comparison.config(), overwrite=self.overwrite)
        _compare(comparison, self.out, dataset, console)


@dataclasses.dataclass(frozen=True)
class Resume:
    """Go on with an interrupted run or comparison; the numbers are those of a run that was never interrupted.

    Example: dyadnet resume runs/first
    """

    run: tyro.conf.Positional[Path]
    """The run folder."""
    checkpoint: str | None = None
    """Start from this checkpoint of the folder instead of the latest."""

    def __call__(self, console: Console) -> None:
        """Go on from the latest checkpoint."""
        if folder.read_config(self.run)["command"] == "compare":
            comparison = read_comparison(self.run)
            if (self.run / folder.COMPARISON).exists():
                raise RequestError(f"{self.run} is finished; its result is in {self.run / folder.COMPARISON}")
            _compare(comparison, self.run, load_dataset(comparison.settings), console)
            return
        request = read_request(self.run)
        if (self.run / folder.RESULT).exists():
            raise RequestError(f"{self.run} is finished; its result is in {self.run / folder.RESULT}")
        _train(request, self.run, load_dataset(request.settings), console, self.checkpoint)


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Measure a trained network on the test samples again.

    Example: dyadnet evaluate runs/first
    """

    run: tyro.conf.Positional[Path]
    """The run folder."""
    checkpoint: str | None = None
    """Use this checkpoint of the folder instead of the latest."""
    data_root: str | None = None
    """Where the data lies, if not where the run read it."""

    def __call__(self, console: Console) -> None:
        """Print accuracy and loss."""
        request = read_request(self.run)
        settings = dataclasses.replace(request.settings, data_root=self.data_root or request.settings.data_root)
        training = restored(request, self.run, load_dataset(settings), self.checkpoint)
        if not training.history:
            raise RequestError(f"{self.run} has no checkpoint yet")
        found = evaluate(training)
        console.print(
            f"{request.rule} after epoch {len(training.history)} on {len(training.dataset.test)} test samples of "
            f"{settings.dataset}: accuracy {100 * found['accuracy']:.2f} %, loss {found['loss']:.4f}"
        )


@dataclasses.dataclass(frozen=True)
class Data:
    """Get a data set, check its files, and say what is in it.

    Example: dyadnet data --dataset fashion-mnist
    """

    dataset: str = "digits"
    """digits, mnist, fashion-mnist, cifar10, cifar100, or an .npz file."""
    data_root: str | None = None
    """Where the data already lies; without it, $DYADNET_DATA or a download into the user's cache."""

    def __call__(self, console: Console) -> None:
        """Print the facts."""
        found = data.load(self.dataset, Path(self.data_root) if self.data_root else None)
        rows = Table(title=found.name, title_justify="left")
        for heading in ("split", "samples", "shape", "per class"):
            rows.add_column(heading)
        for name, split in (("train", found.train), ("test", found.test)):
            counts = torch.bincount(split.labels, minlength=found.classes).tolist()
            spread = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
            rows.add_row(name, str(len(split)), "x".join(map(str, found.shape)), spread)
        console.print(rows)
        console.print(
            "per channel, inputs in [0, 1]:",
            *(f"{m:.4f} ± {s:.4f}" for m, s in zip(found.mean, found.std, strict=True)),
        )


@dataclasses.dataclass(frozen=True)
class Info:
    """List the rules with their settings, the data sets, and what this machine computes with.

    Example: dyadnet info
    """

    def __call__(self, console: Console) -> None:
        """Print them."""
        for rule in names.RULES:
            settings = ", ".join(names.rule_settings(rule))
            console.print(f"[bold]{rule}[/]" + (f"  {settings}" if settings else ""), highlight=False)
        console.print("schedules:", ", ".join(names.SCHEDULES), highlight=False)
        console.print("losses:   ", ", ".join(names.LOSSES), highlight=False)
        console.print("data sets:", ", ".join(data.DATASETS), highlight=False)
        for name, value in environment().items():
            console.print(f"{name + ':':10} {value}", highlight=False)


COMMANDS: dict[str, Any] = {
    "train": Train,
    "compare": Compare,
    "evaluate": Evaluate,
    "resume": Resume,
    "data": Data,
    "info": Info,
}


def _train(request: Request, out: Path, dataset: data.Dataset, console: Console, name: str | None = None) -> None:
    """Run, report, and say where."""
    with watcher(console) as live:
        live.begin(request)
        record = execute(request, out, dataset, tick=live.tick, watch=live.watch, from_checkpoint=name)
    _conclude(out, f"{request.rule} on {request.settings.dataset}", [record], request.settings, console)


def _compare(comparison: Comparison, out: Path, dataset: data.Dataset, console: Console) -> None:
    """Run all, report, and say where."""
    with watcher(console) as live:
        records = compare(comparison, out, dataset, begin=live.begin, tick=live.tick, watch=live.watch)
    _conclude(
        out, f"{len(comparison.rules)} rules on {comparison.settings.dataset}", records, comparison.settings, console
    )


def _conclude(out: Path, title: str, records: list[Record], settings: Settings, console: Console) -> None:
    page = write_report(out / folder.REPORT, title, records, environment(), dataclasses.asdict(settings))
    console.print(table(records))
    console.print(f"report: {page}", highlight=False, soft_wrap=True)


def _parse(arguments: Sequence[str]) -> Any:
    """Read the command line; tyro's complaint becomes one line."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.extras.subcommand_cli_from_dict(
                COMMANDS, prog="dyadnet", args=_with_config(list(arguments)), config=(tyro.conf.FlagCreatePairsOff,)
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        lines = [line.strip("│ ") for line in complaint.getvalue().splitlines() if line.startswith("│")]
        told = " ".join(line for line in lines if not set(line) <= {"─"}).split("For full helptext")[0]
        raise RequestError(f"{told.strip()} (dyadnet --help)") from None


def _with_config(arguments: list[str]) -> list[str]:
    """Replace `--config FILE` by the options that the TOML file holds, ahead of those on the command line."""
    if "--config" not in arguments:
        return arguments
    at = arguments.index("--config")
    if at + 1 == len(arguments):
        raise RequestError("--config needs the name of a TOML file")
    path = Path(arguments[at + 1])
    try:
        values = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RequestError(f"{path} cannot be read as TOML: {error}") from error
    options: list[str] = []
    for name, value in values.items():
        if value is not False:
            items = value if isinstance(value, list) else [] if value is True else [value]
            options += [f"--{name.replace('_', '-')}", *map(str, items)]
    rest = arguments[:at] + arguments[at + 2 :]
    return [*rest[:1], *options, *rest[1:]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code.

    A complaint is one line on standard error. DYADNET_TRACEBACK=1 shows where it came from.
    """
    errors = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    try:
        _parse(sys.argv[1:] if arguments is None else arguments)(Console())
    except (ValueError, TypeError, NotImplementedError, OSError, Diverged) as error:
        if os.environ.get("DYADNET_TRACEBACK"):
            raise
        errors.print(f"dyadnet: {' '.join(str(error).split())}")
        return 1 if isinstance(error, Diverged) else 2
    except KeyboardInterrupt:
        errors.print("dyadnet: interrupted; dyadnet resume goes on from the last finished epoch")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
