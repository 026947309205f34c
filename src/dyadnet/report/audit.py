"""The audit of rules as a table for the terminal and a page for the browser."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from rich import box
from rich.table import Table
from rich.text import Text

from dyadnet.audit.table import COLUMNS, Record, lines

HEADINGS = (*COLUMNS.values(), "phases", "order", "products", "bytes", "thesis")
_SHORT = ("rule", "in space", "in time", "no f'", "transport", "phases", "order", "products", "thesis")
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="generator" content="dyadnet">
<link rel="icon" href="data:,">
<title>Audit of {{ count }} rules</title>
<style>
  body { margin: 0 auto; max-width: 1200px; padding: 32px 20px; color: #1f2733; background: #f6f7f9;
         font: 16px/1.55 system-ui, sans-serif; }
  section { margin-top: 20px; padding: 22px 24px; background: white; border: 1px solid #e1e5eb; border-radius: 12px; }
  .how { max-width: 76ch; color: #5b6574; }
  .wide { overflow-x: auto; }
  table { border-collapse: collapse; font-size: 0.93rem; }
  th, td { padding: 8px 18px 8px 0; border-bottom: 1px solid #e1e5eb; text-align: left; }
</style>
</head>
<body>
<h1>Audit of {{ count }} rules</h1>
{{ section }}
<section><h2>Environment</h2><table>
{% for name, value in environment.items() %}<tr><th scope="row">{{ name }}</th><td>{{ value }}</td></tr>{% endfor %}
</table></section>
</body>
</html>
"""


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


def audit_section(records: Sequence[Record]) -> Markup:
    """Return the section of a page; empty without records."""
    if not records:
        return Markup()
    remarks = [f"{line.rule}: {remark}" for line in lines(records) for remark in line.remarks]
    template = files("dyadnet.report").joinpath("audit.html.j2").read_text(encoding="utf-8")
    # the template escapes what is put into it
    return Markup(_rendered(template, headings=HEADINGS, rows=_rows(records), remarks=remarks))


def write_audit(path: Path, records: Sequence[Record], environment: Mapping[str, Any]) -> Path:
    """Write the page and return its path."""
    section = audit_section(records)
    path.write_text(_rendered(_PAGE, count=len(records), section=section, environment=environment), encoding="utf-8")
    return path


def _rendered(template: str, **values: Any) -> str:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(template).render(**values)


def _rows(records: Sequence[Record]) -> list[list[str]]:
    rows = []
    for record, line in zip(records, lines(records), strict=True):
        cost, order = record["evidence"]["cost"], record["evidence"]["order"]
        spread = f"{max(order.values()):.0e}" if order else "fixed"
        ratios = [f"{cost['multiply_adds_ratio']:.1f}x", f"{cost['bytes_ratio']:.1f}x"]
        rows.append([line.rule, *line.cells, line.phases, spread, *ratios, line.thesis])
    return rows
