"""The summary: one row a rule, aggregated over seeds, as values and as a table for the terminal."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from textwrap import wrap

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from dyadnet.report.aggregate import Record, Spread, by_rule, describe, reduced, spread
from dyadnet.report.palette import split_rule

UNDEFINED = "–"
NAMES = 18  # columns of a terminal that the names of rules need
UNCONVERGED_NOTE = "! the relaxation did not converge in every run"


@dataclass(frozen=True)
class Row:
    """One rule over its seeds; `None` where nothing was measured.

    Accuracy is a fraction, `step_ms` in milliseconds, `lowest_alignment` the mean over seeds of the smallest cosine
    with backpropagation over layers, 0 for a layer without any gradient. The residual is that of the worst seed, and
    `converged` holds only if every seed converged; `unconverged` is the mean share of samples that had not settled.
    """

    rule: str
    network: str
    seeds: int
    test_accuracy: Spread | None
    train_loss: float | None
    step_ms: float | None
    step_ratio: float | None
    lowest_alignment: float | None
    iterations: float | None
    residual: float | None
    converged: bool | None
    unconverged: float | None


@dataclass(frozen=True)
class Column:
    """A column of numbers: its header, what it says, how a row is written in it, and how soon it gives way."""

    header: str
    meaning: str
    cell: Callable[[Row], str]
    gives_way: int = 0

    def width(self, rows: Sequence[Row]) -> int:
        """Return what it takes of a line, with the two spaces beside it."""
        return 2 + max(len(text) for text in (*self.header.split("\n"), *map(self.cell, rows)))


def summary(records: Sequence[Record]) -> list[Row]:
    """Aggregate the records into one row a rule, in the order of first appearance.

    Accuracy, loss, alignment and iterations are means over seeds, times and their ratios medians.

    Raises:
        ValueError: if the records cannot be aggregated (`aggregate.by_rule` tells why).
    """
    return [_row(rule, runs) for rule, runs in by_rule(records).items()]


def columns(rows: Sequence[Row]) -> list[Column]:
    """List the columns in which at least one row has a number."""
    return [column for column in COLUMNS if any(column.cell(row) != UNDEFINED for row in rows)]


def has_unconverged(rows: Sequence[Row]) -> bool:
    """Tell whether the note on relaxations that did not converge is due."""
    return any(row.converged is False for row in rows)


def fitting(rows: Sequence[Row], width: int) -> list[Column]:
    """List the columns that a terminal of `width` has room for beside the names of rules."""
    shown = columns(rows)
    while NAMES + sum(column.width(rows) for column in shown) > width and any(column.gives_way for column in shown):
        shown.remove(max(shown, key=lambda column: column.gives_way))
    return shown


def table(records: Sequence[Record], width: int = 100) -> Table:
    """Lay the summary out for a terminal of `width` columns.

    A rule's settings stand below its name. In a narrow terminal columns are left out; the report has all of them. Print
    it with `rich.print`.

    Raises:
        ValueError: if the records cannot be aggregated (`aggregate.by_rule` tells why).
    """
    rows = summary(records)
    shown = fitting(rows, width)
    left_out = [column for column in columns(rows) if column not in shown]
    # Text, not str: what stands in brackets in a name is no markup
    laid_out = Table(
        title=Text(describe(records)), box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False
    )
    laid_out.add_column("Rule", overflow="fold", min_width=NAMES)
    for column in shown:
        laid_out.add_column(column.header, justify="right", no_wrap=True)
    room = width - sum(column.width(rows) for column in shown)
    for row in rows:
        laid_out.add_row(_label(row.rule, max(room, NAMES)), *(column.cell(row) for column in shown))
    notes = [UNCONVERGED_NOTE] if has_unconverged(rows) else []
    if left_out:
        names = ", ".join(column.header.replace("-\n", "").replace("\n", " ").lower() for column in left_out)
        notes.append(f"a wider terminal, and the report, show: {names}")
    laid_out.caption = "\n".join(notes) or None
    return laid_out


def _row(rule: str, runs: Sequence[Record]) -> Row:
    """Aggregate the runs of one rule."""
    relaxations = [run.get("relaxation") or {} for run in runs]
    verdicts = [relaxation.get("converged") for relaxation in relaxations]
    known = [verdict for verdict in verdicts if verdict is not None]
    lowest = [reduced([cosine or 0.0 for cosine in run.get("alignment") or ()], np.min) for run in runs]
    return Row(
        rule=rule,
        network=runs[0]["network"],
        seeds=len(runs),
        test_accuracy=spread(run["test_accuracy"] for run in runs),
        train_loss=reduced((run["train_loss"] for run in runs), np.mean),
        step_ms=reduced((run["step_ms"] for run in runs), np.median),
        step_ratio=reduced((run.get("step_ratio_to_backprop") for run in runs), np.median),
        lowest_alignment=reduced(lowest, np.mean),
        iterations=reduced((relaxation.get("iterations") for relaxation in relaxations), np.mean),
        residual=reduced((relaxation.get("residual") for relaxation in relaxations), np.max),
        converged=all(known) if known else None,
        unconverged=reduced((relaxation.get("unconverged") for relaxation in relaxations), np.mean),
    )


def _label(rule: str, width: int) -> Text:
    """Write a rule's settings, faint, below its name; one that is too long is broken after a hyphen."""
    name, settings = split_rule(rule)
    return Text.assemble("\n".join(wrap(name, width)), ("\n" + settings if settings else "", "dim"))


def _number(value: float | None, form: str) -> str:
    """Format a number, or the sign for what was not measured."""
    return UNDEFINED if value is None else format(value, form)


def _accuracy(row: Row) -> str:
    """Write the accuracy in per cent, with its spread where there is one."""
    accuracy = row.test_accuracy
    if accuracy is None:
        return UNDEFINED
    mean = f"{100 * accuracy.mean:.2f}"
    return mean if accuracy.std is None else f"{mean} ± {100 * accuracy.std:.2f}"


def _loss(row: Row) -> str:
    """Write small and large losses with an exponent: four decimals would hide the former and stretch the column."""
    ordinary = row.train_loss == 0 or (row.train_loss is not None and 1e-3 <= row.train_loss < 100)
    return _number(row.train_loss, ".4f" if ordinary else ".1e")


def _iterations(row: Row) -> str:
    """Write a whole number as one; a mean over seeds may have a decimal."""
    whole = row.iterations is None or row.iterations.is_integer()
    return _number(row.iterations, ".0f" if whole else ".1f")


def _residual(row: Row) -> str:
    """Write the residual, marked in front (so that the digits stay aligned) if a relaxation did not converge."""
    return ("! " if row.converged is False else "") + _number(row.residual, ".1e")


def _unconverged(row: Row) -> str:
    """Write the share in per cent; a small one does not round to nothing."""
    share = row.unconverged
    return "<0.01" if share is not None and 0 < share < 5e-5 else _number(share and 100 * share, ".2f")


COLUMNS = (
    Column("Test\naccuracy %", "mean ± standard deviation over seeds", _accuracy),
    Column("Train\nloss", "mean over seeds, last epoch", _loss, 6),
    Column("ms per\nstep", "median time of a training step", lambda row: _number(row.step_ms, ".2f"), 3),
    Column(
        "Ratio to\nbackprop", "step time divided by backpropagation's", lambda row: _number(row.step_ratio, ".2f"), 2
    ),
    Column(
        "Lowest\ncosine",
        "cosine with backpropagation of the layer that agrees least, mean over seeds",
        lambda row: _number(row.lowest_alignment, ".4f"),
        1,
    ),
    Column("Iterations", "iterations of the relaxation, mean over seeds", _iterations, 5),
    Column("Residual", "what the relaxation left, worst seed", _residual, 4),
    Column(
        "Unset-\ntled %", "samples whose relaxation had not settled in the last epoch, mean over seeds", _unconverged, 7
    ),
)
