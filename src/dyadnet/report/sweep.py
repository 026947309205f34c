"""A sweep over an imperfection as a table for the terminal, and as heat maps and curves on a page."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from rich import box
from rich.table import Table
from rich.text import Text

from dyadnet.audit.tolerance import Spot, Tolerance
from dyadnet.report.figures import finish, text
from dyadnet.report.palette import looks
from dyadnet.report.template import embedded, rendered, write_page


def sweep_table(source: str, found: Sequence[Tolerance]) -> Table:
    """Lay the accuracy at the best strength of every level out for a terminal."""
    title = Text(f"Test accuracy (%) at the best beta, against {source}")
    laid_out = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for heading in _headings(found)[:-2]:
        laid_out.add_column(heading, overflow="fold", justify="left" if heading == "Rule" else "right")
    for row in _rows(found):
        laid_out.add_row(*(Text(cell.replace(" (", "\n").rstrip(")")) for cell in row[:-2]))
    return laid_out


def write_sweep(path: Path, source: str, found: Sequence[Tolerance], environment: Mapping[str, Any]) -> Path:
    """Write the page and return its path."""
    look = looks(f.rule for f in found)
    page = rendered(
        "sweep",
        title=f"Robustness to {source}",
        subtitle="",
        entries=[{"rule": f.rule, "look": look[f.rule]} for f in found],
        headings=_headings(found),
        rows=_rows(found),
        curves=embedded(curves(source, found)),
        maps=embedded(*(heat_map(f, source, "accuracy", 100.0, (0, 100)) for f in found)),
        cosines=embedded(*(heat_map(f, source, "cosine", 1.0, (0, 1)) for f in found)),
        displaced=embedded(against_displacement(found)),
        environment=environment,
    )
    return write_page(path, page)


def curves(source: str, found: Sequence[Tolerance]) -> go.Figure:
    """Draw the accuracy at the best strength against the level, with the spread over seeds."""
    return _lines(found, lambda tolerance: tolerance.best, lambda spot: spot.level, source)


def against_displacement(found: Sequence[Tolerance]) -> go.Figure:
    """Draw the accuracy of all strengths at one level against the displacement of the outputs.

    The level is the highest at which some rule keeps more than half of what it has at the lowest.
    """
    learned = [f for f in found if f.learned]
    levels = [s.level for f in learned for s in f.best if s.accuracy > (f.best[0].accuracy + f.chance) / 2]
    level = max(levels, default=0.0)

    def spots(tolerance: Tolerance) -> Sequence[Spot]:
        there = [s for s in tolerance.spots if s.level == level and s.displacement is not None]
        return sorted(there, key=lambda s: s.displacement or 0)

    return _lines(found, spots, lambda spot: spot.displacement, f"displacement of the outputs, level {level:g}")


def heat_map(tolerance: Tolerance, source: str, value: str, scale: float, between: tuple[float, float]) -> go.Figure:
    """Draw a number of every strength and level of one rule."""
    strengths = sorted({s.strength for s in tolerance.spots if s.strength is not None}) or [None]
    levels = sorted({s.level for s in tolerance.spots})
    there = {(s.strength, s.level): getattr(s, value) for s in tolerance.spots}
    cells = [[there.get((strength, level)) for level in levels] for strength in strengths]
    scaled = [[None if cell is None else scale * cell for cell in row] for row in cells]
    figure = go.Figure(
        go.Heatmap(
            z=scaled,
            x=[f"{level:g}" for level in levels],
            y=["–" if strength is None else f"{strength:g}" for strength in strengths],
            zmin=between[0],
            zmax=between[1],
            colorscale="Viridis",
            texttemplate="%{z:.2f}" if scale == 1 else "%{z:.1f}",
            showscale=False,
        )
    )
    finish(figure, text(tolerance.rule), source)
    figure.update_xaxes(type="category")
    figure.update_yaxes(type="category", title="beta")
    return figure


def _lines(
    found: Sequence[Tolerance],
    spots: Callable[[Tolerance], Sequence[Spot]],
    place: Callable[[Spot], float | None],
    title: str,
) -> go.Figure:
    """One line a rule, in its look; a level of nothing has no place on the logarithmic axis."""
    figure, look = go.Figure(), looks(f.rule for f in found)
    for tolerance in found:
        shown = [s for s in spots(tolerance) if (place(s) or 0) > 0]
        if not shown:
            continue
        figure.add_scatter(
            x=[place(s) for s in shown],
            y=[100 * s.accuracy for s in shown],
            error_y={"array": [100 * s.spread for s in shown], "thickness": 1},
            name=text(tolerance.rule),
            legendgroup=tolerance.rule,
            mode="lines+markers",
            line={"color": look[tolerance.rule].colour, "dash": look[tolerance.rule].dash},
        )
    finish(figure, "Test accuracy (%)", title)
    figure.update_xaxes(type="log")
    return figure.update_layout(height=420)


def _headings(found: Sequence[Tolerance]) -> list[str]:
    return ["Rule", *(f"{spot.level:g}" for spot in found[0].best), "critical", "unsettled %", "saturated %"]


def _rows(found: Sequence[Tolerance]) -> list[list[str]]:
    return [
        [
            tolerance.rule,
            *(_best(spot) for spot in tolerance.best),
            _critical(tolerance),
            *(_largest(tolerance, name) for name in ("unconverged", "saturated")),
        ]
        for tolerance in found
    ]


def _critical(tolerance: Tolerance) -> str:
    """The level at which half is lost, if it was ever learned."""
    if not tolerance.learned:
        return "not learned"
    return f"beyond {tolerance.best[-1].level:g}" if tolerance.critical is None else f"{tolerance.critical:.2g}"


def _best(spot: Spot) -> str:
    strength = "" if spot.strength is None else f" (β {spot.strength:g})"
    failed = f" [{spot.failed} of {spot.seeds} failed]" if spot.failed else ""
    return f"{100 * spot.accuracy:.1f}{failed}{strength}"


def _largest(tolerance: Tolerance, name: str) -> str:
    shares = [share for share in (getattr(spot, name) for spot in tolerance.spots) if share is not None]
    return f"{100 * max(shares):.1f}" if shares else "–"
