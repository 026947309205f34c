"""The figures of a report: pure functions from records to interactive plotly figures.

Every rule has the look that `palette.looks` gives it, and its traces share the rule's name as their legend group, so
that a page can hide a rule in all figures at once. A figure without anything to show has no traces.
"""

import html
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import numpy as np
import plotly.graph_objects as go

from dyadnet.report.aggregate import Band, Measured, Record, band, by_rule, reduced
from dyadnet.report.palette import Look, is_reference, looks, split_rule

Points = Iterable[tuple[float, Measured]]

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
INK = "#1f2733"
FAINT = "#8a93a0"
GRID = "#e8ebf0"
AXIS = "#c5cbd5"
HEIGHT = 330  # pixels
MOST_MARKED = 30  # points; markers on a longer curve would hide it


def accuracy_curves(records: Sequence[Record]) -> go.Figure:
    """Draw the test accuracy (per cent) against the epoch."""
    figure = curves(records, lambda run: _over_epochs(run, "test_accuracy", scale=100.0))
    return finish(figure, "Test accuracy (%)", "epoch")


def loss_curves(records: Sequence[Record]) -> go.Figure:
    """Draw the train loss against the epoch, on a logarithmic axis where all losses are positive."""
    figure = curves(records, lambda run: _over_epochs(run, "train_loss"))
    losses = _heights(figure)
    if min(losses, default=0) <= 0:
        return finish(figure, "Train loss", "epoch")
    decades = math.log10(max(losses) / min(losses))
    figure.update_yaxes(type="log", tickformat="~g", dtick="D2" if decades < 2 else 1)  # D2 is 1, 2, 5, 10
    return finish(figure, "Train loss (logarithmic)", "epoch")


def step_cost(records: Sequence[Record]) -> go.Figure:
    """Draw the median time of a training step as bars, labelled with the ratio to backpropagation's.

    A dashed line marks the time of backpropagation where it is among the rules.
    """
    groups = by_rule(records)
    look = looks(groups)
    figure = go.Figure()
    for rule, runs in groups.items():
        milliseconds = reduced((run["step_ms"] for run in runs), np.median)
        ratio = reduced((run.get("step_ratio_to_backprop") for run in runs), np.median)
        if milliseconds is None:
            continue
        figure.add_bar(
            x=[milliseconds],
            y=[_axis_label(rule)],
            orientation="h",
            name=text(rule),
            legendgroup=rule,
            marker={"color": look[rule].colour, "cornerradius": 3},
            text=[f"{milliseconds:.2f} ms" + ("" if ratio is None else f" · {ratio:.2f}×")],
            textposition="outside",
            cliponaxis=False,
            hoverinfo="skip",
        )
        if is_reference(rule):
            figure.add_vline(x=milliseconds, line={"color": FAINT, "width": 1, "dash": "dash"}, layer="below")
    finish(figure, "Time of a training step (ms)", "")
    figure.update_layout(height=72 + 50 * len(groups), margin={"r": 112, "b": 26}, bargap=0.4, hovermode=False)
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="outside", ticklen=6, tickcolor="white")
    return figure.update_xaxes(rangemode="tozero")


def alignment_by_layer(records: Sequence[Record]) -> go.Figure:
    """Draw the cosine with backpropagation of each layer at the end of training, bottom layer first."""
    figure = curves(records, lambda run: _over_layers(run, "alignment"))
    _cosine_axis(figure, _heights(figure))
    return finish(figure, "Direction at the end (cosine)", "layer, bottom first")


def norm_ratio_by_layer(records: Sequence[Record]) -> go.Figure:
    """Draw the length of each layer's update divided by the length of backpropagation's."""
    figure = curves(records, lambda run: _over_layers(run, "norm_ratio"))
    finish(figure, "Length at the end (ratio)", "layer, bottom first")
    return _mark_one(figure).update_yaxes(rangemode="tozero")


def same_sign_by_layer(records: Sequence[Record]) -> go.Figure:
    """Draw the share (per cent) of each layer's updates that have the sign of backpropagation's."""
    figure = curves(records, lambda run: _over_layers(run, "same_sign", scale=100.0))
    return finish(figure, "Equal signs at the end (%)", "layer, bottom first")


def straddling_by_layer(records: Sequence[Record]) -> go.Figure:
    """Draw the share (per cent) of each hidden layer's units whose two states lie on different sides of a kink."""
    figure = curves(records, lambda run: _over_layers(run, "straddling", scale=100.0))
    finish(figure, "Units astride a kink (%)", "hidden layer, bottom first")
    return figure.update_yaxes(rangemode="tozero")


def residual_while_relaxing(records: Sequence[Record]) -> go.Figure:
    """Draw how far the first batch of one seed is from settled, on a logarithmic axis, against the iteration."""
    figure = curves(_one_seed(records), lambda run: _over_iterations(run, "trace"))
    figure.update_yaxes(type="log", exponentformat="power", dtick=1)
    return finish(figure, "Residual (logarithmic)", "iteration")


def energy_while_relaxing(records: Sequence[Record]) -> go.Figure:
    """Draw the mean energy of the first batch of one seed against the iteration, for networks that have one."""
    figure = curves(_one_seed(records), lambda run: _over_iterations(run, "energy"))
    return finish(figure, "Energy", "iteration")


def alignment_over_training(records: Sequence[Record], layer: int) -> go.Figure:
    """Draw the cosine with backpropagation of one layer (counted from 1 at the bottom) against the epoch.

    The figures of all layers have the same scale.
    """
    figure = curves(records, lambda run: _layer_over_epochs(run, "alignment", layer))
    everywhere = (entry.get("alignment") or () for run in records for entry in run.get("history") or ())
    _cosine_axis(figure, (cosine for cosines in everywhere for cosine in cosines if cosine is not None))
    return finish(figure, f"Layer {layer} (cosine)", "epoch")


def feedback_angles(records: Sequence[Record], layer: int) -> go.Figure:
    """Draw the angle (degrees) of the weights through which errors reach a hidden layer against the epoch."""
    figure = curves(records, lambda run: _layer_over_epochs(run, "feedback_angles", layer))
    figure.add_hline(y=90, line={"color": FAINT, "width": 1, "dash": "dot"}, layer="below")
    figure.update_yaxes(range=[0, max([100.0, *_heights(figure)])])
    return finish(figure, f"To layer {layer} (degrees)", "epoch")


def flips_over_training(records: Sequence[Record]) -> go.Figure:
    """Draw the share (per cent) of binary weights that an epoch flipped."""
    figure = curves(records, lambda run: _over_epochs(run, "flipped", scale=100.0))
    return finish(figure, "Weights flipped in an epoch (%)", "epoch").update_yaxes(rangemode="tozero")


def multipliers_over_training(records: Sequence[Record]) -> go.Figure:
    """Draw the share (per cent) of binary weights whose gradient is multiplied, for methods that do so."""
    figure = curves(records, lambda run: _over_epochs(run, "multiplied", scale=100.0))
    return finish(figure, "Weights with a multiplier (%)", "epoch").update_yaxes(rangemode="tozero")


def latent_histograms(records: Sequence[Record]) -> go.Figure:
    """Draw how the latents of one seed are spread at the end: the share (per cent) in bins of equal width."""
    figure = curves(_one_seed(records), _over_latents)
    return finish(figure, "Latents at the end (% a bin)", "latent").update_yaxes(rangemode="tozero")


def _over_latents(run: Record) -> Points:
    """Give a run's `(latent, share)` points, a bin each by its middle."""
    history = run.get("history") or ({},)
    found = history[-1].get("latents") or {"largest": 0.0, "counts": ()}
    counts, largest = found["counts"], found["largest"]
    for number, count in enumerate(counts):
        yield largest * ((2 * number + 1) / len(counts) - 1), 100 * count / sum(counts)


def _over_epochs(run: Record, key: str, scale: float = 1.0) -> Points:
    """Give a run's `(epoch, value)` points."""
    return ((entry["epoch"], _scaled(entry.get(key), scale)) for entry in run.get("history") or ())


def _over_layers(run: Record, key: str, scale: float = 1.0) -> Points:
    """Give a run's `(layer, value)` points, layers counted from 1."""
    return ((layer, _scaled(value, scale)) for layer, value in enumerate(run.get(key) or (), start=1))


def _one_seed(records: Sequence[Record]) -> list[Record]:
    """Return the first run of every rule: relaxations of several seeds end at different iterations."""
    return [runs[0] for runs in by_rule(records).values()]


def _over_iterations(run: Record, key: str) -> Points:
    """Give a run's `(iteration, value)` points, iterations counted from 1."""
    return enumerate((run.get("relaxation") or {}).get(key) or (), start=1)


def _layer_over_epochs(run: Record, key: str, layer: int) -> Points:
    """Give a run's `(epoch, value)` points of one layer; a shallower network has none."""
    for entry in run.get("history") or ():
        values = entry.get(key) or ()
        if layer <= len(values):
            yield entry["epoch"], values[layer - 1]


def _scaled(value: Measured, scale: float) -> Measured:
    return None if value is None else scale * value


def curves(records: Sequence[Record], points: Callable[[Record], Points]) -> go.Figure:
    """Draw one curve a rule, with the range over its seeds as a band."""
    groups = by_rule(records)
    look = looks(groups)
    figure = go.Figure()
    for rule, runs in groups.items():
        curve = band(point for run in runs for point in points(run))
        if any(low < high for low, high in zip(curve.low, curve.high, strict=True)):
            figure.add_trace(_range(rule, curve, look[rule]))
        if curve.x:
            figure.add_trace(_line(rule, curve, look[rule]))
    return figure


def _line(rule: str, curve: Band, look: Look) -> go.Scatter:
    """Draw the mean over seeds."""
    return go.Scatter(
        x=curve.x,
        y=curve.mean,
        mode="lines+markers" if len(curve.x) <= MOST_MARKED else "lines",
        name=text(rule),
        legendgroup=rule,
        line={"color": look.colour, "dash": look.dash, "width": 2},
        marker={"size": 5},
        hovertemplate="%{y:.4~g}",
    )


def _range(rule: str, curve: Band, look: Look) -> go.Scatter:
    """Draw the range from the lowest to the highest seed as a light band."""
    return go.Scatter(
        x=curve.x + curve.x[::-1],
        y=curve.high + curve.low[::-1],
        mode="lines",
        fill="toself",
        fillcolor=look.faded(0.15),
        line={"width": 0},
        legendgroup=rule,
        showlegend=False,
        hoverinfo="skip",
    )


def _heights(figure: go.Figure) -> list[float]:
    """List the finite values drawn in all traces."""
    traces = cast("tuple[Any, ...]", figure.data)
    return [value for trace in traces for value in trace.y if math.isfinite(value)]


def _cosine_axis(figure: go.Figure, cosines: Iterable[float]) -> go.Figure:
    """Show cosines up to 1 and at least down to 0.9, so that rounding does not look like disagreement."""
    floor = min(0.9, min((value for value in cosines if math.isfinite(value)), default=1) - 0.05)
    return _mark_one(figure).update_yaxes(range=[floor, 1 + 0.06 * (1 - floor)])


def _mark_one(figure: go.Figure) -> go.Figure:
    """Mark with a dotted line where backpropagation itself would be."""
    return figure.add_hline(y=1, line={"color": FAINT, "width": 1, "dash": "dot"}, layer="below")


def finish(figure: go.Figure, title: str, x: str) -> go.Figure:
    """Give the figure its title, its horizontal axis and the common look."""
    figure.update_layout(
        template="none",
        title={"text": title, "font": {"size": 14.5}, "x": 0, "y": 1, "yanchor": "top", "pad": {"t": 12}},
        font={"family": FONT, "size": 12.5, "color": INK},
        height=HEIGHT,
        margin={"l": 44, "r": 12, "t": 46, "b": 44},
        legend={"orientation": "h", "yanchor": "top", "y": -0.2, "x": 0},
        hovermode="x unified",
        hoverlabel={"bgcolor": "white", "bordercolor": GRID, "font": {"size": 12}, "namelength": -1},
    )
    figure.update_xaxes(
        title={"text": x, "standoff": 8, "font": {"size": 12.5}},
        showgrid=False,
        zeroline=False,
        linecolor=AXIS,
        showline=True,
    )
    if all(
        isinstance(value, int) and value <= 12
        for trace in cast("tuple[Any, ...]", figure.data)
        for value in trace.x or ()
    ):
        figure.update_xaxes(dtick=1)  # few layers or epochs: no ticks between them
    return figure.update_yaxes(gridcolor=GRID, zeroline=False, automargin=True)


def text(rule: str) -> str:
    """Escape a rule for plotly, which reads a part of HTML in its labels."""
    return html.escape(rule)


def _axis_label(rule: str) -> str:
    """Write a rule's settings below its name."""
    name, settings = split_rule(rule)
    return text(name) + (f"<br><span style='color:{FAINT}'>{text(settings)}</span>" if settings else "")
