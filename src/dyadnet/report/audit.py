"""The audit of rules as a table for the terminal and a page for the browser."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from dyadnet.audit.table import COLUMNS, Record, lines
from dyadnet.report.template import rendered, write_page

HEADINGS = ("Rule", *COLUMNS.values(), "phases", "order", "products", "bytes", "thesis")
_SHORT = ("rule", "in space", "in time", "no f'", "transport", "phases", "order", "products", "thesis")


def audit_table(records: Sequence[Record]) -> Table:
    """Lay thesis table 2.1 out for a terminal."""
    title = Text("Thesis table 2.1, observed")
    laid_out = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for heading in _SHORT:
        laid_out.add_column(heading, overflow="fold", no_wrap=heading in ("rule", "transport", "phases"))
    for *cells, phases, order, products, _, thesis in _rows(records):
        row = (*cells, phases.replace(", ", "\n"), order, products, thesis)
        laid_out.add_row(*(Text(cell) for cell in row))
    return laid_out


def seen(records: Sequence[Record]) -> dict[str, Any]:
    """Return what the template of the audit puts in; nothing without records."""
    if not records:
        return {}
    remarks = [f"{line.rule}: {remark}" for line in lines(records) for remark in line.remarks]
    headings = [heading.replace(" ", "\n") for heading in HEADINGS]
    return {"headings": headings, "rows": _rows(records), "remarks": remarks}


def write_audit(path: Path, records: Sequence[Record], environment: Mapping[str, Any]) -> Path:
    """Write the page and return its path."""
    title = f"Audit of {len(records)} rules"
    page = rendered("audit_page", title=title, subtitle="", audit=seen(records), environment=environment)
    return write_page(path, page)


def _rows(records: Sequence[Record]) -> list[list[str]]:
    rows = []
    for record, line in zip(records, lines(records), strict=True):
        cost, order = record["evidence"]["cost"], record["evidence"]["order"]
        spread = f"{max(order.values()):.0e}" if order else "fixed"
        ratios = [f"{cost['multiply_adds_ratio']:.1f}x", f"{cost['bytes_ratio']:.1f}x"]
        rows.append([line.rule, *line.cells, line.phases, spread, *ratios, line.thesis])
    return rows
