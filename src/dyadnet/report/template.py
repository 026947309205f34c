"""Pages are single HTML files, readable without a network connection: templates fill one frame."""

import json
import os
from pathlib import Path
from typing import Any, cast

import jinja2
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs


def write_page(path: Path, page: str) -> Path:
    """Write a page where it goes, in a folder that is made if it is missing, and return its path.

    It appears whole or not at all: it is written beside its place and then renamed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(page, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def rendered(template: str, **values: Any) -> str:
    """Return what the template in the file of that name beside this one makes of the values, which it escapes."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dyadnet", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["plotly"] = get_plotlyjs
    return environment.get_template(f"{template}.html.j2").render(**values)


def embedded(*drawn: go.Figure) -> list[dict[str, Any]]:
    """Turn the figures that show something into plain JSON, their legends left to the page."""
    # through plotly's own writer, which turns nan into null: JSON has no nan
    return [json.loads(cast(str, figure.update_layout(showlegend=False).to_json())) for figure in drawn if figure.data]
