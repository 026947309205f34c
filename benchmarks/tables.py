"""The stored results as Markdown."""

import json
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

Row = dict[str, Any]

REFERENCE = "backprop"
TITLES = {
    "eager": "One training step, eager",
    "compiled": "One training step, compiled (ratios to compiled backpropagation)",
    "batch": "Growth with the batch",
    "width": "Growth with the width",
    "depth": "Growth with the depth",
    "schedules": "Schedules",
    "lifted": "Rules of lifted networks",
    "binary": "One step of the optimiser",
    "resistive": "One training step of a resistive network",
    "lifted, compiled": "Rules of lifted networks, compiled (ratios to compiled backpropagation)",
    "memory": "Peak memory of training",
    "step": "One batch",
    "iterations": "Growth with the iterations",
    "linear": "Linear layers",
    "convolution": "Convolutions",
}
BY_RULE = ("schedules", "lifted", "lifted, compiled", "binary")
UNITS = {"ms": "ms", "mb": "MB"}


def markdown(path: Path) -> str:
    """Return the results stored at `path` as Markdown: a caption, and a table for every section.

    A cell such as `1.08 (1.07-1.10)` is the median of the ratios to backpropagation with its quartiles.
    """
    results = json.loads(path.read_text(encoding="utf-8"))
    sections = groupby(results["rows"], key=lambda row: row["section"])
    return "\n".join([_caption(results["environment"]), *(_section(name, list(rows)) for name, rows in sections)])


def _caption(where: Row) -> str:
    return (
        f"{where['processor']}, {where['threads']} of {where['cores']} cores, {where['device']}, torch "
        f"{where['torch']}, commit {where['commit']}.\n"
    )


def _section(name: str, rows: Sequence[Row]) -> str:
    """Lay a section out with a column for every rule; with a line for every rule where there is only one network."""
    if "speedups" in rows[0]:
        lines = _against_floats(rows)
    elif "speedup" in rows[0]:
        lines = _against_textbook(rows)
    else:
        lines = _by_rule(rows) if name in BY_RULE else _by_network(rows)
    return f"**{TITLES[name]}**\n\n{_table(lines)}"


def _by_network(rows: Sequence[Row]) -> list[list[str]]:
    """One line a network: what backpropagation takes, and the ratios of the other rules to it."""
    rules = list(dict.fromkeys(row["rule"] for row in rows if row["rule"] != REFERENCE))
    lines = [["Network", "Batch", f"{REFERENCE}, {_unit(rows[0])}", *map(_short, rules)]]
    for (network, batch), group in groupby(rows, key=lambda row: (row["network"], row["batch"])):
        found = {row["rule"]: row for row in group}
        ratios = (_spread(found[rule]["ratio"]) if rule in found else "" for rule in rules)
        lines.append([network, str(batch), _absolute(found[REFERENCE]), *ratios])
    return lines


def _by_rule(rows: Sequence[Row]) -> list[list[str]]:
    """One line a rule, with the ratio of its multiply-adds where they have been counted."""
    batch = f", batch {rows[0]['batch']}" if "batch" in rows[0] else ""
    head = [f"{rows[0]['network']}{batch}", _unit(rows[0]), f"over {rows[0].get('reference', REFERENCE)}"]
    lines = [[_short(row["rule"]), _absolute(row), _spread(row["ratio"])] for row in rows]
    if "products" in rows[0]:
        head.append("products")
        lines = [[*line, f"{row['products']:.1f}"] for line, row in zip(lines, rows, strict=True)]
    return [head, *lines]


def _against_textbook(rows: Sequence[Row]) -> list[list[str]]:
    """One line a case of equilibrium propagation: the times of both, the speedup, and the most that it could be."""
    names = sorted(rows[0]["ms"], key=lambda name: name != "ours")
    lines = [["Network", "Iterations", *(f"{name}, ms" for name in names), "speedup"]]
    lines[0] += ["bound"] if "bound" in rows[0] else []
    for row in rows:
        ms = (f"{row['ms'][name]['median']:.2f}" for name in names)
        bound = [f"{row['bound']:.1f}"] if "bound" in row else []
        lines.append([row["network"], str(row["iterations"]), *ms, _spread(row["speedup"]), *bound])
    return lines


def _against_floats(rows: Sequence[Row]) -> list[list[str]]:
    """One line a layer and batch: the time in floats, and how many times as fast packed weights are."""
    ways = list(rows[0]["speedups"])
    lines = [["Layer", "Batch", "float, ms", *(f"{way}, speedup" for way in ways), "weights, smaller"]]
    for row in rows:
        speedups = (_spread(row["speedups"][way]) for way in ways)
        lines.append(
            [
                row["layer"],
                str(row["batch"]),
                f"{row['ms']['float']['median']:.3f}",
                *speedups,
                f"{row['smaller']:.0f}x",
            ]
        )
    return lines


def _unit(row: Row) -> str:
    return next(unit for key, unit in UNITS.items() if key in row)


def _absolute(row: Row) -> str:
    """What a rule takes, to three digits."""
    value = next(row[key]["median"] for key in UNITS if key in row)
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"


def _spread(ratio: Row) -> str:
    return f"{ratio['median']:.2f} ({ratio['low']:.2f}-{ratio['high']:.2f})"


def _short(rule: str) -> str:
    """`dual-propagation:alpha=0.5,schedule=odd-even` -> `alpha=0.5, odd-even`."""
    _, _, settings = rule.partition(":")
    return settings.replace("schedule=", "").replace(",", ", ") or rule


def _table(lines: Iterable[Sequence[str]]) -> str:
    head, *rest = lines
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, ["---", *["---:"] * (len(head) - 1)], *rest))
