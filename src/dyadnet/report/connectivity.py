"""The adjacency matrix of a network as a heat map, the layers' blocks marked (as in thesis figure 4.1)."""

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

import plotly.graph_objects as go

from dyadnet.report.aggregate import Record, by_rule
from dyadnet.report.figures import AXIS, finish, text
from dyadnet.report.palette import NEGATIVE, NEUTRAL, POSITIVE

HEIGHT = 400  # pixels


def connectivity_maps(records: Sequence[Record]) -> list[go.Figure]:
    """Draw the connectivity of every rule's network, where it was recorded, as the first seed left it.

    Rows receive and columns send: feedforward connections lie below the diagonal, feedback above it.
    """
    found = ((rule, runs[0].get("connectivity")) for rule, runs in by_rule(records).items())
    return [_heat_map(rule, connectivity) for rule, connectivity in found if connectivity]


def _heat_map(rule: str, connectivity: Mapping[str, Any]) -> go.Figure:
    """Draw one matrix on a scale that is white at zero."""
    weights, ends = connectivity["weights"], [0, *accumulate(connectivity["bins"])]
    strongest = max(abs(weight) for row in weights for weight in row) or 1.0
    heat_map = go.Heatmap(
        z=weights,
        zmin=-strongest,
        zmax=strongest,
        colorscale=[NEGATIVE, NEUTRAL, POSITIVE],
        colorbar={"orientation": "h", "y": -0.28, "thickness": 9, "outlinewidth": 0, "nticks": 5, "tickformat": "~g"},
        name=text(rule),
        legendgroup=rule,
        hovertemplate="%{z:.3~g}<extra></extra>",
    )
    figure = finish(go.Figure(heat_map), text(rule), "from layer")
    for end in ends[1:-1]:
        figure.add_hline(end - 0.5, line={"color": AXIS, "width": 1})
        figure.add_vline(end - 0.5, line={"color": AXIS, "width": 1})
    axis = {
        "tickvals": [(start + end - 1) / 2 for start, end in pairwise(ends)],
        "ticktext": connectivity["layers"],
        "tickangle": 0,
        "showgrid": False,
        "showline": True,
        "mirror": True,
        "linecolor": AXIS,
        "constrain": "domain",
    }
    title = {"text": "to layer", "standoff": 4, "font": {"size": 12.5}}
    span = [-0.5, ends[-1] - 0.5]
    figure.update_layout(height=HEIGHT, hovermode="closest")
    figure.update_xaxes(axis, range=span)
    return figure.update_yaxes(axis, range=span[::-1], title=title, scaleanchor="x")
