"""What trained networks withstand: accuracy against sizes of attacks and noise, and a table of Lipschitz constants."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from dyadnet.report.aggregate import Measured, Record, Spread, by_rule, spread
from dyadnet.report.figures import Points, curves, finish
from dyadnet.report.table import UNDEFINED

KINDS = {
    "fast gradient": ("Fast gradient", "radius, maximum norm"),
    "projected gradient": ("Projected gradient", "radius, maximum norm"),
    "projected gradient, euclidean": ("Projected gradient, l2", "radius, Euclidean norm"),
    "inputs": ("Noise on inputs", "standard deviation"),
    "weights": ("Noise on weights", "relative to their root mean square"),
    "units": ("Noise on units", "relative to that of their states"),
}
"""Of every kind of trial, the title of its figure and what its size is."""
CONSTANTS = {"bound": "Bound", "driven": "Driven", "steepest": "Steepest", "pairs": "Pairs"}


@dataclass(frozen=True)
class Withstood:
    """The section of a page on what networks withstand, but for its figures.

    Attributes:
        how: which samples were exposed, and where inputs may lie.
        constants: what the columns hold.
        headings: of the columns.
        rows: the cells, the rule first.
        notes: what bounds rest on, and why something is not known.
    """

    how: str
    constants: str
    headings: list[str]
    rows: list[list[str]]
    notes: list[str]


def robustness_curves(records: Sequence[Record]) -> list[go.Figure]:
    """Draw the accuracy (per cent) against the size of every kind of attack and noise, from size 0 on."""
    return [
        finish(curves(records, lambda run, kind=kind: _over_sizes(run, kind)), f"{title} (%)", size).update_yaxes(
            rangemode="tozero"
        )
        for kind, (title, size) in KINDS.items()
    ]


def withstood(records: Sequence[Record]) -> Withstood | None:
    """Return the Lipschitz constants and certified shares of every rule's networks, where they were measured."""
    groups = {rule: [run["exposure"] for run in runs if "exposure" in run] for rule, runs in by_rule(records).items()}
    groups = {rule: found for rule, found in groups.items() if found}
    if not groups:
        return None
    first = next(iter(groups.values()))[0]
    headings = ["Rule", *CONSTANTS.values(), *(f"Certified\n{radius}, %" for radius in first["certified"])]
    rows = [[rule, *_cells(found)] for rule, found in groups.items()]
    of: dict[str, list[str]] = {}
    for rule, found in groups.items():
        for note in dict.fromkeys(note for one in found for note in _notes(one)):
            of.setdefault(note, []).append(rule)
    notes = [f"{', '.join(rules)}: {note}" for note, rules in of.items()]
    return Withstood(_how(first), _constants(first), headings, rows, notes)


def _over_sizes(run: Record, kind: str) -> Points:
    """Give a run's `(size, accuracy)` points of one kind, where it is defined."""
    found: Record = run.get("exposure") or {"accuracy": 0.0, "trials": []}
    of_kind = [trial for trial in found["trials"] if trial["kind"] == kind]
    if of_kind:
        yield 0.0, 100 * found["accuracy"]
    for trial in of_kind:
        yield trial["size"], 100 * trial["accuracy"]


def _cells(found: Sequence[Record]) -> list[str]:
    """Write the means over seeds, those of constants with their spread; what a seed lacks is not known."""
    constants = (_mean(one["lipschitz"][name] for one in found) for name in CONSTANTS)
    certified = (_mean(_certified(one, radius) for one in found) for radius in found[0]["certified"])
    return [
        *(UNDEFINED if over is None else _with_spread(over) for over in constants),
        *(UNDEFINED if over is None else f"{over.mean:.1f}" for over in certified),
    ]


def _certified(found: Record, radius: str) -> float | None:
    """Return the share (per cent) that is certified by a bound, where there is one."""
    return None if found["lipschitz"]["bound"] is None else 100 * found["certified"][radius]


def _mean(values: Iterable[Measured]) -> Spread | None:
    values = list(values)
    return None if None in values else spread(values)


def _with_spread(over: Spread) -> str:
    return f"{over.mean:.2f}" + ("" if over.std is None else f" ± {over.std:.2f}")


def _notes(found: Record) -> Iterable[str]:
    """Say what the bound of one network rests on, and why something is not known."""
    constants, missing = found["lipschitz"], dict[str, list[str]]()
    yield ("no bound, " if constants["bound"] is None else "bound from ") + _reason(constants["source"])
    if constants["unknown"]:
        missing[constants["unknown"]] = ["driven", "steepest"]
    for kind, why in found["missing"].items():
        missing.setdefault(why, []).append(KINDS[kind][0].lower())
    for why, lacking in missing.items():
        yield f"no {'; no '.join(lacking)}: {_reason(why)}"


def _reason(complaint: str) -> str:
    """What an error says, without its advice."""
    return complaint.splitlines()[0].partition(": ")[0]


def _how(found: Record) -> str:
    """Say which samples were exposed, and where they may lie."""
    low, high = found["range"]
    values = "values before they are normalised" if found["normalised"] else "inputs"
    return (
        f"Accuracy of the networks after the last epoch on the first {found['samples']} test samples. Attacks stay "
        f"where {values} lie, between {low:g} and {high:g}; radii, and the deviation of noise on inputs, are shares of "
        "that range."
    )


def _constants(found: Record) -> str:
    """Say what the table holds."""
    unit = ", of normalised inputs" if found["normalised"] else ""
    return (
        f"Lipschitz constants{unit}: a bound that is certified where a theorem gives one; from below, the largest "
        f"ratio of distances that gradients find from the first {found['looked_at']} samples (driven), at one of them "
        "(steepest), and between two (pairs). Certified: the share of samples that no change of so much Euclidean "
        "length puts into another class."
    )
