"""Draw the pictures of README and docs from the stored results.

python experiments/pictures.py            # into docs/pictures
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from tables import ROOT, labelled, stored

from dyadnet.report.aggregate import spread
from dyadnet.report.palette import COLOURS, REFERENCE_COLOUR

STYLE = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#c5cbd5",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#e8ebf0",
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "svg.fonttype": "path",
    "svg.hashsalt": "dyadnet",
}
Line = tuple[str, Sequence[float], Sequence[float], Sequence[float]]
"""A label, abscissas, ordinates and their spread."""


def robustness(root: Path) -> Figure:
    """Draw what attacks and noise leave of the accuracy of networks that different rules have trained."""
    shown = {
        "Backpropagation": REFERENCE_COLOUR,
        "Feedback alignment": COLOURS[4],
        "Predictive coding": COLOURS[5],
        "Equilibrium propagation": COLOURS[2],
        "Dyadic learning, skew": COLOURS[0],
        "LRRN": COLOURS[1],
    }
    found = dict(labelled(stored(root, "mnist-rules-robustness")))
    kinds = {
        "projected gradient": ("Attack on pixels", "largest change"),
        "projected gradient, euclidean": ("Attack on images", "Euclidean length"),
        "inputs": ("Noise on inputs", "standard deviation"),
        "units": ("Noise on units", "relative to their states"),
    }
    figure, axes = panels(len(kinds))
    for ax, (kind, (title, x)) in zip(axes, kinds.items(), strict=True):
        lines = [exposed(label, found[label], kind) for label in shown]
        draw(ax, lines, [shown[label] for label in shown])
        ax.set(title=title, xlabel=x, ylim=(0, 102))
    return finished(figure, axes, "test accuracy, %")


def exposed(label: str, records: Sequence[Any], kind: str) -> Line:
    """Return the accuracy over seeds against the size of one kind of perturbation, from none on."""
    sizes = [trial["size"] for trial in records[0]["trials"] if trial["kind"] == kind]
    of_size = [
        [trial["accuracy"] for r in records for trial in r["trials"] if (trial["kind"], trial["size"]) == (kind, size)]
        for size in sizes
    ]
    return percent(label, [0.0, *sizes], [[r["accuracy"] for r in records], *of_size])


def tolerance(root: Path) -> Figure:
    """Draw the accuracy at the best strength against what is imperfect about a circuit."""
    shown = {
        "EP, one-sided": COLOURS[2],
        "EP, centred": COLOURS[4],
        "Coupled learning": COLOURS[5],
        "DP, alpha = 1/2": COLOURS[1],
        "DP, alpha = 1": COLOURS[3],
        "Dyadic, skew": COLOURS[0],
    }
    kinds = {
        "noise": ("Noise of readings", "standard deviation, in ranges of a unit"),
        "offset": ("Offset of every gradient", "in the size of the gradient"),
        "bits": ("Levels of a weight", "bits"),
    }
    figure, axes = panels(len(kinds))
    for ax, (kind, (title, x)) in zip(axes, kinds.items(), strict=True):
        rules = {rule["rule"]: rule for rule in stored(root, f"hardware-mnist-{kind}")["rules"]}
        lines = [
            (
                label,
                [spot["level"] for spot in rules[label]["best"]],
                [100 * spot["accuracy"] for spot in rules[label]["best"]],
                [100 * spot["spread"] for spot in rules[label]["best"]],
            )
            for label in shown
        ]
        draw(ax, lines, list(shown.values()))
        ax.set(title=title, xlabel=x, ylim=(0, 102))
        levels = lines[0][1]
        if min(levels) > 0:
            ax.set_xscale("log")
        else:
            ax.set_xscale("symlog", linthresh=min(filter(None, levels)), linscale=0.4)
        ax.set_xticks(levels, [f"{level:g}" for level in levels])
        ax.xaxis.set_minor_locator(NullLocator())
    return finished(figure, axes, "test accuracy, %")


def gradients(root: Path) -> Figure:
    """Draw the relative error of gradients against the strength of the nudge."""
    shown = {
        ("Dyadic", "lam = 0"): COLOURS[0],
        ("EquilibriumPropagation, positive", "lam = 1"): COLOURS[2],
        ("EquilibriumPropagation, centred", "lam = 1"): COLOURS[4],
        ("EquilibriumPropagation, holomorphic, N = 4", "lam = 1"): COLOURS[1],
        ("DualPropagation", "lam = 0.5"): COLOURS[3],
        ("CoupledLearning, centred", "lam = 1"): COLOURS[5],
    }
    rows = [row for row in stored(root, "gradient-quality")["rows"] if row["error"] is not None]
    lines: list[Line] = []
    for rule, network in shown:
        own = [row for row in rows if (row["rule"], row["network"]) == (rule, network)]
        lines.append((rule, [r["strength"] for r in own], [r["error"] for r in own], []))
    figure, axes = panels(1, width=4.4)
    draw(axes[0], lines, list(shown.values()))
    axes[0].set(
        xscale="log", yscale="log", title="Relative error of the gradient", xlabel="strength of the nudge, beta"
    )
    return finished(figure, axes, "", beside=True)


def agreement(root: Path) -> Figure:
    """Draw how well dual propagation agrees with backpropagation over strength, asymmetry, depth and training."""
    records = stored(root, "agreement")["records"]
    axis = {"beta": "strength of the nudge, beta", "depth": "hidden layers"}
    others = {"beta": {"depth": 4, "sweeps": 1}, "depth": {"beta": 0.5, "sweeps": 1}}
    figure, axes = panels(4)
    for ax, (over, trained) in zip(axes, [(o, t) for o in axis for t in (False, True)], strict=True):
        own = [r for r in records if r["trained"] is trained and all(r[k] == v for k, v in others[over].items())]
        lines = [
            grouped(f"alpha = {alpha:g}", [r for r in own if r["alpha"] == alpha], over, "cosine")
            for alpha in (0.0, 0.5, 1.0)
        ]
        draw(ax, lines, [COLOURS[0], COLOURS[2], COLOURS[1]])
        ax.set_xscale("log", base=10 if over == "beta" else 2)
        ticks = lines[0][1]
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.xaxis.set_minor_locator(NullLocator())
        fixed = ", ".join(f"{'depth' if k == 'depth' else k} {v:g}" for k, v in others[over].items() if k != "sweeps")
        ax.set(title=f"{'After one epoch' if trained else 'As drawn'}, {fixed}", xlabel=axis[over], ylim=(0.75, 1.01))
    return finished(figure, axes, "lowest cosine of any layer")


def lipschitz(root: Path) -> Figure:
    """Draw the accuracy that an attack leaves against the certified bound of lifted networks and those beside them."""
    shown = {
        "tied, weight decay 0, 1, 10, 30": ("tied", "tied, decay 1", "tied, decay 10", "tied, decay 30"),
        "tied, gamma 0.1, 0.3, 1": ("tied", "tied, gamma = 0.3", "tied, gamma = 1"),
        "tied, output too, gain 1, 3": ("tied, output too", "tied, output too, K = 3"),
        "tied, pre-trained": ("tied, pre-trained",),
        "skew-symmetric, dyadic": ("skew-symmetric, dyadic",),
        "untied": ("untied",),
        "regression alone": ("regression alone",),
        "plain chain, backpropagation": ("plain, backpropagation",),
    }
    found = {r["label"]: r for r in stored(root, "mnist-lrrn")["records"] if r["seed"] == 0}
    lines: list[Line] = []
    for name, labels in shown.items():
        points = [found[label] for label in labels]
        bounds = [point["lipschitz"]["bound"] for point in points]
        lines.append((name, bounds, [100 * point["attacked"]["max 0.05, ten steps"] for point in points], []))
    figure, (ax,) = panels(1, width=4.4)
    draw(
        ax, lines, [COLOURS[1], COLOURS[4], COLOURS[3], COLOURS[2], COLOURS[0], "#a05a2c", COLOURS[5], REFERENCE_COLOUR]
    )
    ax.set(xscale="log", title="Right under projected gradients of 0.05, %", xlabel="certified Lipschitz bound")
    return finished(figure, [ax], "", beside=True)


def grouped(label: str, records: Sequence[Any], over: str, value: str) -> Line:
    """Return a value over seeds against one setting."""
    places = sorted({record[over] for record in records})
    found = [spread(record[value] for record in records if record[over] == place) for place in places]
    return label, places, [f.mean for f in found if f], [f.std or 0.0 for f in found if f]


def percent(label: str, places: Sequence[float], values: Iterable[Sequence[float]]) -> Line:
    """Return accuracies over seeds in per cent."""
    found = [spread(of_place) for of_place in values]
    return label, places, [100 * f.mean for f in found if f], [100 * (f.std or 0.0) for f in found if f]


def panels(count: int, width: float = 9.6) -> tuple[Figure, list[Axes]]:
    """Return a figure of panels side by side."""
    figure, axes = plt.subplots(1, count, figsize=(width, 2.7), sharey=count > 1, squeeze=False)
    return figure, list(axes[0])


def draw(ax: Axes, lines: Iterable[Line], colours: Iterable[str]) -> None:
    """Draw lines with bands of one standard deviation."""
    for (label, x, y, deviation), colour in zip(lines, colours, strict=True):
        ax.plot(x, y, marker="o", color=colour, label=label)
        if deviation:
            low, high = ([b + sign * d for b, d in zip(y, deviation, strict=True)] for sign in (-1, 1))
            ax.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)


def finished(figure: Figure, axes: Sequence[Axes], y: str, *, beside: bool = False) -> Figure:
    """Give a figure the one legend of all its panels, below or beside them."""
    axes[0].set_ylabel(y)
    handles, names = axes[0].get_legend_handles_labels()
    figure.tight_layout()
    if beside:
        figure.legend(handles, names, loc="center left", bbox_to_anchor=(1.0, 0.55))
    elif handles:
        figure.legend(handles, names, loc="upper center", ncols=6, bbox_to_anchor=(0.5, 0.02), columnspacing=1.2)
    return figure


PICTURES: Mapping[str, Callable[[Path], Figure]] = {
    "robustness": robustness,
    "tolerance": tolerance,
    "gradients": gradients,
    "agreement": agreement,
    "lipschitz": lipschitz,
}


def main(out: Path = ROOT / "docs" / "pictures", root: Path = ROOT) -> None:
    """Draw all.

    Args:
        out: where the pictures go.
        root: the project's folder.
    """
    mpl.use("svg")
    out.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        for name, picture in PICTURES.items():
            figure = picture(root)
            figure.savefig(out / f"{name}.svg", bbox_inches="tight", metadata={"Date": None})
            plt.close(figure)
            print(out / f"{name}.svg")


if __name__ == "__main__":
    tyro.cli(main)
