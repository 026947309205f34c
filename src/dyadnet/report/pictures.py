"""What a lifted network reconstructs of images, as a grid of grey pictures."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from dyadnet.report.aggregate import Record, by_rule
from dyadnet.report.figures import finish, text

WIDEST = 520  # pixels of the page for the whole grid
MARGINS = 40 + 24  # pixels above and below


def picture_grids(records: Sequence[Record]) -> list[go.Figure]:
    """Draw the pictures of every rule that has some, as the first seed left them."""
    found = ((rule, runs[0].get("pictures")) for rule, runs in by_rule(records).items())
    return [_grid(rule, pictures) for rule, pictures in found if pictures]


def _grid(rule: str, pictures: Mapping[str, Any]) -> go.Figure:
    """Draw one grid: a row of pictures a kind, named on the left."""
    pixels, kinds = pictures["pixels"], pictures["rows"]
    low, high = pictures["range"]
    drawn = go.Heatmap(
        z=pixels, zmin=low, zmax=high, colorscale="Greys_r", showscale=False, name=text(rule), legendgroup=rule
    )
    figure = finish(go.Figure(drawn.update(hoverinfo="skip")), text(rule), "")
    height, width = len(pixels) / len(kinds), len(pixels[0])
    figure.update_layout(height=MARGINS + WIDEST * len(pixels) / width, hovermode=False)
    figure.update_layout(margin={"t": 40, "b": 24, "r": 4})
    figure.update_xaxes(visible=False, constrain="domain")
    return figure.update_yaxes(
        tickvals=[(row + 0.5) * height - 0.5 for row in range(len(kinds))],
        ticktext=kinds,
        showgrid=False,
        autorange="reversed",
        scaleanchor="x",
        constrain="domain",
    )
