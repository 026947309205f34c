"""The command line: `dyadnet train | compare | audit | robustness | evaluate | export | estimate | resume | ...`.

Exit codes: 0 done, 1 the work failed or was interrupted, 2 the request was wrong.
"""

import dataclasses
import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from dyadnet import data, names
from dyadnet.arguments import Command, parse
from dyadnet.audit.table import lines
from dyadnet.estimation import EstimateCosts
from dyadnet.facts import Data, Info
from dyadnet.names import RequestError
from dyadnet.progress import watcher
from dyadnet.sweeping import Robustness, go_on
from dyadnet.train import checkpoint, folder
from dyadnet.train.auditing import SETTINGS, audit
from dyadnet.train.compare import AUDIT_SAMPLES, Comparison, compare, read_comparison
from dyadnet.train.environment import environment
from dyadnet.train.export import Disagreement
from dyadnet.train.loop import Diverged
from dyadnet.train.run import Record, Request, execute, load_dataset, read_request
from dyadnet.train.settings import Settings
from dyadnet.trained import CheckpointName, Evaluate, Export, tried

Shared = Annotated[Settings, tyro.conf.arg(name="")]
RULES = ("backprop", "dual-propagation:alpha=0", "dual-propagation:alpha=0.5", "dual-propagation:alpha=1")


@dataclasses.dataclass(frozen=True)
class Train:
    """Train one network with one rule.

    Example: dyadnet train --rule dual-propagation:alpha=0,beta=0.1 --dataset mnist --hidden 512 512 --out runs/first

    With feedback: dyadnet train --rule dyadic --lam 0 --dataset mnist --hidden 256 256 --epochs 5 --out runs/skew
    """

    settings: Shared
    out: Path
    """The run folder to write."""
    rule: str = "dual-propagation"
    """The learning rule with its settings; dyadnet info lists them."""
    seed: int = 0
    """Decides the weights, the order of the samples and the rule's own randomness."""
    overwrite: bool = False
    """Replace the run that the folder holds."""
    config: Path | None = None
    """A TOML file of options; those on the command line win."""

    def __call__(self, console: Console) -> None:
        """Run it."""
        request = Request(self.rule, self.seed, self.settings)
        names.rule(self.rule)
        folder.check(self.out, overwrite=self.overwrite)
        dataset = load_dataset(self.settings)
        tried([request], dataset, console)
        folder.create(self.out, request.config(), overwrite=self.overwrite)
        _train(request, self.out, dataset, console)


@dataclasses.dataclass(frozen=True)
class Compare:
    """Train several rules on the same data and network, and set them side by side.

    Every rule trains the network that it needs where none is named.

    Example: dyadnet compare --rules backprop dual-propagation:alpha=0 --seeds 0 1 2 --dataset mnist --out runs/mnist
    """

    settings: Shared
    out: Path
    """The folder to write."""
    rules: tuple[str, ...] = RULES
    """Learning rules with their settings."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Every rule runs once with each."""
    audit: bool = False
    """Observe locality, derivatives, weight transport and cost of every rule, and what its networks withstand."""
    audit_samples: int = AUDIT_SAMPLES
    """So many test samples are attacked."""
    overwrite: bool = False
    """Replace the comparison that the folder holds."""
    config: Path | None = None
    """A TOML file of options; those on the command line win."""

    def __call__(self, console: Console) -> None:
        """Run them all."""
        comparison = Comparison(self.rules, self.seeds, self.settings, self.audit, self.audit_samples)
        folder.check(self.out, overwrite=self.overwrite)
        dataset = load_dataset(self.settings)
        tried(comparison.runs()[: len(self.rules)], dataset, console)
        folder.create(self.out, comparison.config(), overwrite=self.overwrite)
        _compare(comparison, self.out, dataset, console)


@dataclasses.dataclass(frozen=True)
class Audit:
    """Observe what learning rules promise: locality in space and time, derivatives, weight transport, order, cost.

    Every rule runs on a small network of the kind that it needs, for one update of a few samples.

    Example: dyadnet audit --rules backprop equilibrium-propagation dual-propagation --out runs/audit
    """

    out: Path
    """The folder to write audit.json and report.html to."""
    rules: tuple[str, ...] = tuple(names.RULES)
    """Learning rules with their settings; all by default."""
    dataset: str = SETTINGS.dataset
    """digits, mnist, fashion-mnist, cifar10, cifar100, or an .npz file."""
    data_root: str | None = None
    """Where the data already lies; without it, $DYADNET_DATA or a download into the user's cache."""
    hidden: tuple[int, ...] = SETTINGS.hidden
    """Widths of the hidden layers."""
    seed: int = 0
    """Decides the weights and the samples."""
    overwrite: bool = False
    """Replace the audit that the folder holds."""

    def __call__(self, console: Console) -> None:
        """Observe them all."""
        settings = dataclasses.replace(SETTINGS, dataset=self.dataset, data_root=self.data_root, hidden=self.hidden)
        if not self.rules:
            raise RequestError("an audit needs at least one rule")
        for rule in self.rules:
            names.rule(rule)
        config = {"command": "audit", "rules": list(self.rules), "seed": self.seed}
        config |= {"settings": dataclasses.asdict(settings), "environment": environment()}
        folder.check(self.out, overwrite=self.overwrite)
        dataset = load_dataset(settings)
        records: list[Record] = []
        for rule in self.rules:
            with console.status(f"looking at {rule}"):
                records.append(audit(rule, settings, self.seed, dataset))
        folder.create(self.out, config, overwrite=self.overwrite)
        folder.write_json(self.out / folder.AUDIT, records)
        _show_audit(self.out, records, console)


@dataclasses.dataclass(frozen=True)
class Resume:
    """Go on with an interrupted run or comparison; the numbers are those of a run that was never interrupted.

    Example: dyadnet resume runs/first
    """

    run: tyro.conf.Positional[Path]
    """The run folder."""
    checkpoint: CheckpointName = checkpoint.NAME
    """Where to start: at the latest one, or the one before."""

    def __call__(self, console: Console) -> None:
        """Go on from the latest checkpoint."""
        command = folder.read_config(self.run)["command"]
        if command == "audit":
            raise RequestError(f"{self.run} holds an audit, which takes no time to resume: run it again, --overwrite")
        if command == "robustness":
            go_on(self.run, console)
        elif command == "compare":
            self._compare(console)
        else:
            self._train(console)

    def _train(self, console: Console) -> None:
        request = read_request(self.run)
        self._refuse_finished(folder.RESULT)
        dataset = load_dataset(request.settings)
        tried([request], dataset, console)
        _train(request, self.run, dataset, console, self.checkpoint)

    def _compare(self, console: Console) -> None:
        comparison = read_comparison(self.run)
        if self.checkpoint != checkpoint.NAME:
            raise RequestError(
                f"{self.run} is a comparison; name the run in it that is to start from {self.checkpoint}"
            )
        self._refuse_finished(folder.COMPARISON)
        dataset = load_dataset(comparison.settings)
        tried(comparison.runs()[: len(comparison.rules)], dataset, console)
        _compare(comparison, self.run, dataset, console)

    def _refuse_finished(self, result: str) -> None:
        """Refuse a run that has its result, and its report: that comes last."""
        if (self.run / result).exists() and (self.run / folder.REPORT).exists():
            raise RequestError(f"{self.run} is finished; its result is in {self.run / result}")


COMMANDS: dict[str, type[Command]] = {
    "train": Train,
    "compare": Compare,
    "audit": Audit,
    "robustness": Robustness,
    "evaluate": Evaluate,
    "export": Export,
    "estimate": EstimateCosts,
    "resume": Resume,
    "data": Data,
    "info": Info,
}


def _train(
    request: Request, out: Path, dataset: data.Dataset, console: Console, name: CheckpointName = checkpoint.NAME
) -> None:
    """Run, report, and say where."""
    with _resumable(out):
        with watcher(console) as live:
            live.begin(request)
            record = execute(
                request, out, dataset, tick=live.tick, watch=live.watch, relaxed=live.relaxed, from_checkpoint=name
            )
        _conclude(out, f"{request.rule} on {request.settings.dataset}", [record], request.settings, console)


def _compare(comparison: Comparison, out: Path, dataset: data.Dataset, console: Console) -> None:
    """Run all, report, and say where."""
    settings = comparison.settings
    with _resumable(out):
        with watcher(console) as live:
            live.say("timing a step of every rule")
            records = compare(
                comparison, out, dataset, begin=live.begin, tick=live.tick, watch=live.watch, relaxed=live.relaxed
            )
        _conclude(out, f"{len(comparison.rules)} rules on {settings.dataset}", records, settings, console)
    for sentence in comparison.left_out():
        console.print(f"note: {sentence}", soft_wrap=True)


@contextmanager
def _resumable(out: Path) -> Iterator[None]:
    """Let an interruption say how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; {folder.resuming(out)} goes on from the last finished epoch") from None


def _conclude(out: Path, title: str, records: list[Record], settings: Settings, console: Console) -> None:
    from dyadnet.report import table, write_report  # plotly takes a while to import

    page = write_report(out / folder.REPORT, title, records, environment(), _settled(settings, records))
    console.print(table(records, console.width))
    console.print(f"report: {page}", soft_wrap=True)


def _show_audit(out: Path, records: list[Record], console: Console) -> None:
    """Print the table, write the page, and say where."""
    from dyadnet.report.audit import audit_table, write_audit  # plotly takes a while to import

    page = write_audit(out / folder.REPORT, records, environment())
    console.print(audit_table(records, console.width))
    for line in lines(records):
        for remark in line.remarks:
            console.print(f"{line.rule}: {remark}", soft_wrap=True)
    console.print(f"report: {page}", soft_wrap=True)


def _settled(settings: Settings, records: list[Record]) -> dict[str, Any]:
    """Return the settings, with what the runs chose where they leave that open."""
    chosen = [record.get("chosen", {}) for record in records]
    values = dataclasses.asdict(settings)
    for name in (name for name, value in values.items() if value is None):
        values[name] = list(dict.fromkeys(run[name] for run in chosen if name in run)) or None
    return values


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code.

    A complaint is one line on standard error. DYADNET_TRACEBACK=1 shows where it came from.
    """
    while (free := os.open(os.devnull, os.O_RDWR)) <= 2:  # streams are closed, as under some daemons: no file takes
        pass  # their numbers, under which libraries would print into it
    os.close(free)
    sys.stdout, sys.stderr = sys.stdout or io.StringIO(), sys.stderr or io.StringIO()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # letters that a terminal lacks are no reason to fail
            stream.reconfigure(errors="replace")
    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    console = Console(width=100 if piped else None, highlight=False, markup=False)
    try:
        parse(COMMANDS, sys.argv[1:] if arguments is None else arguments)(console)
    except SystemExit:  # help has been printed
        return 0
    except KeyboardInterrupt as stop:
        return _complain(str(stop) or "interrupted", 1)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if os.environ.get("DYADNET_TRACEBACK"):
            raise
        if isinstance(error, RequestError | data.DataError):
            return _complain(str(error), 2)
        if isinstance(error, Diverged | Disagreement):
            return _complain(str(error), 1)
        return _complain(f"{type(error).__name__}: {error} (DYADNET_TRACEBACK=1 shows where)", 1)
    return 0


def _complain(message: str, code: int) -> int:
    """Print one line on standard error and return the exit code."""
    errors = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    errors.print(f"dyadnet: {' '.join(message.split())}")
    return code


if __name__ == "__main__":
    sys.exit(main())
