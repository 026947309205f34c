"""Thesis table 2.1, computed: what was observed of every rule beside what the thesis says, and why they differ."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, final

Record = Mapping[str, Any]
COLUMNS = {
    "spatially_local": "local in space",
    "temporally_local": "local in time",
    "avoids_derivative": "avoids f'",
    "weight_transport": "weight transport",
}
"""The properties of a record, and what the table calls them."""


@final
@dataclass(frozen=True)
class Line:
    """A rule's line of the table.

    Attributes:
        rule: its name, with its settings.
        cells: what was observed, a cell a column; with what the thesis says where that is something else.
        phases: the sets of states, one after another.
        thesis: the row of thesis table 2.1 that names the rule; empty where none does.
        remarks: why a cell is what it is: exceptions, and disagreements with the thesis.
    """

    rule: str
    cells: tuple[str, ...]
    phases: str
    thesis: str
    remarks: tuple[str, ...]


def lines(records: Sequence[Record]) -> list[Line]:
    """Return a line for every record, as `Audit.record` returns them, with the name of the rule.

    >>> [lines([{"rule": "backprop", "spatially_local": True, "temporally_local": True, "avoids_derivative": False,
    ...     "weight_transport": "training", "phases": ["nudged"], "evidence": {}}])[0].cells]
    [('yes', 'yes (thesis: no)', 'no', 'training')]
    """
    known = json.loads(files("dyadnet.audit").joinpath("thesis.json").read_text(encoding="utf-8"))
    return [_line(record, known.get(record["rule"].partition(":")[0])) for record in records]


def disagreements(record: Record, known: Record) -> list[str]:
    """Return the properties of which the thesis says something else."""
    return [name for name in COLUMNS if _said(record[name]) is not None and _said(record[name]) != known[name]]


def _line(record: Record, known: Record | None) -> Line:
    apart = disagreements(record, known) if known else []
    cells = [_cell(record[name], known[name] if known and name in apart else None) for name in COLUMNS]
    spatial = record["evidence"].get("spatial", {})
    remarks = [f"{kind}: {what}" for kind, what in spatial.get("exceptions", {}).items()]
    remarks += [f"{v['weight']} reads {v['reads']}: {v['how']}" for v in spatial.get("violations", ())]
    if known:
        unexplained = "no reason is known: look at the evidence"
        remarks += [f"thesis, {COLUMNS[name]}: {known['reason'].get(name, unexplained)}" for name in apart]
    return Line(
        record["rule"],
        tuple(cells),
        ", ".join(record["phases"]),
        known["row"] if known else "",
        tuple(remarks),
    )


def _said(observed: Any) -> bool | None:
    """An observation as the thesis puts it: of weight transport it says only whether there is any."""
    return observed != "none" if isinstance(observed, str) else observed


def _cell(observed: Any, thesis: bool | None) -> str:
    word = observed if isinstance(observed, str) else {True: "yes", False: "no", None: "unknown"}[observed]
    return word if thesis is None else f"{word} (thesis: {'yes' if thesis else 'no'})"
