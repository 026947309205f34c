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
_SHORT = ("rule", "in\nspace", "in\ntime", "no f'", "transport", "phases", "order", "products", "thesis")
_GIVE_WAY = ("order", "phases", "products", "thesis")
"""What a narrow terminal has no room for, the first to leave first."""


def audit_table(records: Sequence[Record], width: int = 100) -> Table:
    """Lay thesis table 2.1 out for a terminal of `width` columns; in a narrow one columns are left out."""
    columns: dict[str, list[str]] = {heading: [] for heading in _SHORT}
    for *cells, phases, order, products, _, thesis in _rows(records):
        row = (*cells, phases.replace(", ", "\n"), order, products, thesis)
        for column, cell in zip(columns.values(), row, strict=True):
            column.append(cell.replace(" (", "\n("))
    left_out = []
    while left_out != list(_GIVE_WAY) and sum(map(_width, columns, columns.values())) - 2 > width:
        left_out.append(_GIVE_WAY[len(left_out)])
        del columns[left_out[-1]]
    title = Text("Thesis table 2.1, observed")
    laid_out = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for heading in columns:
        laid_out.add_column(heading, overflow="fold", no_wrap=heading != "rule")
    for row in zip(*columns.values(), strict=True):
        laid_out.add_row(*map(Text, row))
    if left_out:
        laid_out.caption = f"a wider terminal, and the report, show: {', '.join(left_out)}"
    return laid_out


def _width(heading: str, cells: Sequence[str]) -> int:
    """What a column takes, with the two spaces beside it."""
    return 2 + max(len(line) for text in (heading, *cells) for line in text.split("\n"))


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
