"""The page of a report: one self-contained HTML file, readable without a network connection."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dyadnet.report import figures
from dyadnet.report.aggregate import Record, describe
from dyadnet.report.audit import seen
from dyadnet.report.connectivity import connectivity_maps
from dyadnet.report.palette import Look, is_reference, looks, split_rule
from dyadnet.report.pictures import picture_grids
from dyadnet.report.robustness import robustness_curves, withstood
from dyadnet.report.table import UNCONVERGED_NOTE, Row, columns, has_unconverged, summary
from dyadnet.report.template import embedded, rendered, write_page


@dataclass(frozen=True)
class Entry:
    """A rule as the page shows it: its name, its settings, its look, and its numbers in the columns of the table."""

    rule: str
    name: str
    settings: str
    network: str
    look: Look
    cells: list[str]


def write_report(
    path: Path,
    title: str,
    records: Sequence[Record],
    environment: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> Path:
    """Write the report of one or several runs as a single HTML file and return its path.

    Nested settings are shown with dotted names.

    Args:
        path: where the page goes, such as `runs/digits/report.html`; the folder is made if it is missing.
        title: the heading.
        records: one record a rule and seed, as in `compare.json`.
        environment: versions, commit and hardware.
        settings: what the runs were asked to do.

    Raises:
        ValueError: if the records cannot be aggregated (`aggregate.by_rule` tells why).
    """
    return write_page(path, render(title, records, environment, settings))


def render(title: str, records: Sequence[Record], environment: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Return the report as HTML; the arguments are those of `write_report`."""
    rows = summary(records)
    agreement = [
        figures.alignment_by_layer(records),
        figures.norm_ratio_by_layer(records),
        figures.same_sign_by_layer(records),
        figures.straddling_by_layer(records),
    ]
    over_training = [
        figures.alignment_over_training(records, layer) for layer in range(1, _recorded_layers(records) + 1)
    ]
    return rendered(
        "page",
        title=title,
        subtitle=describe(records),
        columns=columns(rows),
        entries=_entries(rows),
        several_seeds=max(row.seeds for row in rows) > 1,
        with_reference=any(is_reference(row.rule) for row in rows),
        several_networks=len({row.network for row in rows}) > 1,
        note=UNCONVERGED_NOTE if has_unconverged(rows) else "",
        learning=embedded(figures.accuracy_curves(records), figures.loss_curves(records)),
        cost=embedded(figures.step_cost(records)),
        agreement=embedded(*agreement),
        over_training=embedded(*over_training),
        angles=embedded(*(figures.feedback_angles(records, layer) for layer in range(1, _paths(records) + 1))),
        binary=embedded(
            figures.flips_over_training(records),
            figures.multipliers_over_training(records),
            figures.latent_histograms(records),
        ),
        pictures=embedded(*picture_grids(records)),
        relaxing=embedded(figures.residual_while_relaxing(records), figures.energy_while_relaxing(records)),
        connectivity=embedded(*connectivity_maps(records)),
        settings=_flat(settings),
        environment=_flat(environment),
        audit=seen(list({r["rule"]: r["audit"] for r in records if "audit" in r}.values())),
        exposed=embedded(*robustness_curves(records)),
        withstood=withstood(records),
    )


def _entries(rows: Sequence[Row]) -> list[Entry]:
    look = looks(row.rule for row in rows)
    shown = columns(rows)
    return [
        Entry(row.rule, *split_rule(row.rule), row.network, look[row.rule], [column.cell(row) for column in shown])
        for row in rows
    ]


def _recorded_layers(records: Sequence[Record]) -> int:
    """Return the number of layers whose alignment was recorded during training."""
    entries = (entry for record in records for entry in record.get("history") or ())
    return max((len(entry.get("alignment") or ()) for entry in entries), default=0)


def _paths(records: Sequence[Record]) -> int:
    """Return the number of feedback weights whose angles were recorded during training."""
    entries = (entry for record in records for entry in record.get("history") or ())
    return max((len(entry.get("feedback_angles") or ()) for entry in entries), default=0)


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Flatten nested settings to dotted names and text."""
    flat: dict[str, str] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            flat[prefix + key] = ", ".join(str(item) for item in value)
        else:
            flat[prefix + key] = "–" if value is None else str(value)
    return flat
