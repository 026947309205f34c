"""Fill the tables of README and docs from the stored results.

    python experiments/tables.py            # rewrite them
    python experiments/tables.py --check    # exit with 1 and name those that differ

A table stands between `<!-- table: NAME -->` and `<!-- /table -->`; `TABLES` says what makes it.
"""

import json
import re
import runpy
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import tyro

from dyadnet.audit.table import lines
from dyadnet.report import Row, summary
from dyadnet.report.aggregate import Spread, spread

Results = Mapping[str, Any]
Table = Callable[[Path], str]
"""Makes the Markdown of a table from the results below a project's root."""

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(?P<head><!-- table: (?P<name>\S+) -->\n).*?(?P<tail><!-- /table -->)", re.DOTALL)


class TableError(Exception):
    """A table cannot be made; the message is one line that says what to do."""


@dataclass(frozen=True)
class Column:
    """A heading and what a row of the summary has below it."""

    heading: str
    cell: Callable[[Row], str]


def stored(root: Path, name: str, folder: str = "experiments") -> Results:
    """Read `FOLDER/results/NAME.json`.

    Raises:
        TableError: if it is not there.
    """
    path = root / folder / "results" / f"{name}.json"
    if not path.exists():
        raise TableError(f"the table {name} needs {path.relative_to(root)}, which is missing: run its experiment")
    return json.loads(path.read_text())


def markdown(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table, its first column to the left and the others to the right."""
    headings = list(headings)
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def accuracy_table(root: Path, name: str) -> str:
    """Return accuracy, agreement with backpropagation and cost of every rule of a comparison."""
    results = stored(root, name)
    return _table(results, [(_rule(row), row) for row in summary(results["records"])], COLUMNS)


def schedule_table(root: Path, name: str) -> str:
    """Return the same for the schedules of one rule, from rest and (`NAME-carried`) from carried states."""
    rest, carried = stored(root, name), stored(root, f"{name}-carried")
    rows = [(_schedule(row), row) for row in summary(rest["records"])]
    rows += [(f"{_schedule(row)}, carried states", row) for row in summary(carried["records"])]
    return _table(rest, rows, (PASSES, *COLUMNS))


def feedback_table(root: Path, name: str) -> str:
    """Return accuracy, agreement with the exact gradient, settling and cost of networks with feedback.

    A line is a rule where all have the same network, else a network.
    """
    results = stored(root, name)
    records: list[Any] = results["records"]
    labels = dict.fromkeys(record["label"] for record in records)
    if len(labels) == 1:
        return _table(results, [(_rule(row), row) for row in summary(records)], FEEDBACK)
    return _table(results, _summaries(results), FEEDBACK, heading="Network")


def rules_table(root: Path, name: str) -> str:
    """Return accuracy, agreement with the exact gradient, passes and cost of rules, each on the network it needs."""
    results = stored(root, name)
    return _table(results, _summaries(results), (*FEEDBACK[:3], COLUMNS[2], SEEDS))


def lifted_table(root: Path, name: str) -> str:
    """Return accuracy, cost and how settled the states were of lifted networks and of those beside them."""
    results = stored(root, name)
    headings = ["Network", "Test accuracy, %", "Passes a step", "Unsettled, %", "CPU ms a step"]
    rows = [
        [
            label,
            _percent(spread(record["test_accuracy"] for record in found)),
            format(fmean(record["passes"] for record in found), ".1f"),
            format(100 * fmean(record["unsettled"] for record in found), ".2f"),
            format(fmean(record["step_ms"] for record in found), ".1f"),
        ]
        for label, found in labelled(results)
    ]
    return f"{_caption(results)}\n\n{markdown(headings, rows)}"


def binary_table(root: Path, name: str) -> str:
    """Return the accuracy of every method for binary weights, a column a rule that feeds it."""
    results = stored(root, name)
    records = [record | {"label": record["label"].strip()} for record in results["records"]]
    rules = list(dict.fromkeys(record["rule"] for record in records))
    rows = [
        [label, *(_over_seeds(record for record in found if record["rule"] == rule) for rule in rules)]
        for label, found in labelled({"records": records})
    ]
    return f"{_caption(results)}\n\n{markdown(['Method', *(f'{rule}, %' for rule in rules)], rows)}"


def tuning_table(root: Path, name: str) -> str:
    """Return the accuracy on held-out samples for every learning rate that was tried."""
    results = stored(root, name)
    tried: dict[str, list[str]] = {}
    for record in results["records"]:
        label, _, rate = record["label"].rpartition(", ")
        accuracy = max(epoch["validation_accuracy"] for epoch in record["history"])
        tried.setdefault(label, []).append(f"{rate}: {100 * accuracy:.2f}")
    rows = [[label, "; ".join(found)] for label, found in tried.items()]
    return f"{_caption(results)}\n\n{markdown(['Method', 'Learning rate: accuracy on held-out samples, %'], rows)}"


def _over_seeds(records: Iterable[Any]) -> str:
    """Accuracy over the seeds there are."""
    return _percent(spread([record["test_accuracy"] for record in records]))


def robustness_table(root: Path, name: str) -> str:
    """Return Lipschitz constants and accuracy on adversarial examples, of the first seed."""
    results = stored(root, name)
    some, last = results["records"][0], ", ten steps"
    attacks = {name.removesuffix(last): name for name in some["attacked"] if name == "none" or name.endswith(last)}
    radii = list(some["certified"])
    estimates = ("bound", "pairs", "steepest")
    rows = [
        [
            label,
            *(format(first["lipschitz"][key], ".2f") for key in estimates),
            *(format(100 * first["certified"][radius], ".1f") for radius in radii),
            *(format(100 * first["attacked"][attack], ".1f") for attack in attacks.values()),
        ]
        for label, (first, *_) in labelled(results)
    ]
    settings, headings = results["settings"], ["Network", *estimates, *(f"certified {r}" for r in radii), *attacks]
    looked_at = f"{settings['looked_at']} test images for estimates, {settings['attacked']} attacked."
    return f"{_caption(results)} {looked_at}\n\n" + markdown(headings, rows)


def exposure_table(root: Path, name: str) -> str:
    """Return Lipschitz constants of trained networks and what attacks and noise leave of their accuracy, over seeds."""
    results = stored(root, f"{name}-robustness")

    def under(record: Any, kind: str, size: float) -> float:
        return next(t["accuracy"] for t in record["trials"] if (t["kind"], t["size"]) == (kind, size))

    rows = [
        [
            label,
            _percent(spread(record["test_accuracy"] for record in found)),
            *(format(fmean(record["lipschitz"][key] for record in found), ".2f") for key in ("bound", "driven")),
            format(fmean(record["product"] for record in found), ".2f"),
            format(100 * fmean(record["certified"]["0.1"] for record in found), ".1f"),
            *(_percent(spread(under(record, *exposed) for record in found)) for exposed in EXPOSED.values()),
        ]
        for label, found in labelled(results)
    ]
    head = ["Network", "Test accuracy, %", "Bound", "Driven", "Product", "Certified 0.1, %", *EXPOSED]
    settings = results["settings"]
    of_seeds = ", ".join(map(str, results["seeds"]))
    looked_at = f"{settings['images']} test images attacked, {settings['looked_at']} for estimates."
    return f"{settings['which']}, seeds {of_seeds}. {_where(results)} {looked_at}\n\n{markdown(head, rows)}"


def hardware_table(root: Path, name: str) -> str:
    """Return the accuracy at the best strength for each level of an imperfection, and the critical level."""
    results = stored(root, f"hardware-{name}")
    levels = [f"{spot['level']:g}" for spot in results["rules"][0]["best"]]
    rows = [
        [
            rule["rule"],
            *(_at_its_best(spot) for spot in rule["best"]),
            "–" if rule["critical"] is None else f"{rule['critical']:.2g}",
        ]
        for rule in results["rules"]
    ]
    if results["source"] == "synapses.bits":  # the more the better: there is no level that is too much
        rows = [row[:-1] for row in rows]
    headings = ["Rule", *levels, "Critical"][: len(rows[0])]
    settings, seeds = results["settings"], ", ".join(map(str, results["seeds"]))
    about = f"{settings['dataset']}, the first {settings['train_samples']} images, {settings['epochs']} epochs"
    where = f"{results['source']}, seeds {seeds}. {_where(results)}"
    return f"{about}; {where}\n\n" + markdown(headings, rows)


def _at_its_best(spot: Mapping[str, Any]) -> str:
    strength = "" if spot["strength"] is None else f" (β {spot['strength']:g})"
    return f"{100 * spot['accuracy']:.1f} ± {100 * spot['spread']:.1f}{strength}"


def agreement_table(root: Path) -> str:
    """Return the lowest cosine of a layer, over seeds: a line an `alpha` and `beta`, a column a trained depth."""
    results = stored(root, "agreement")
    settings, records = results["settings"], results["records"]
    kinds = [(depth, sweeps) for sweeps in settings["sweeps"] for depth in settings["depths"]]

    def lowest(alpha: float, beta: float, depth: int, sweeps: int) -> float:
        place = {"alpha": alpha, "beta": beta, "depth": depth, "sweeps": sweeps, "trained": True}
        return fmean(r["cosine"] for r in records if all(r[key] == value for key, value in place.items()))

    rows = [
        [f"{alpha:g}", f"{beta:g}", *(format(lowest(alpha, beta, *kind), ".4f") for kind in kinds)]
        for alpha in settings["alphas"]
        for beta in settings["betas"]
    ]
    head = ["alpha", "beta", *(f"{depth} hidden, {sweeps} sweep{'s'[: sweeps > 1]}" for depth, sweeps in kinds)]
    return f"{_where(results)}\n\n{markdown(head, rows)}"


def audit_table(root: Path) -> str:
    """Return thesis table 2.1 as it was observed."""
    head = ["Rule", "Local in space", "Local in time", "Without f'", "Weight transport", "Phases", "Products", "Thesis"]
    rows = [
        [
            f"`{record['rule']}`",
            *line.cells,
            line.phases,
            format(record["evidence"]["cost"]["multiply_adds_ratio"], ".1f"),
            line.thesis,
        ]
        for record in stored(root, "audit")["records"]
        for line in lines([record])
    ]
    return markdown(head, rows)


EXPOSED: dict[str, tuple[str, float]] = {
    "PGD max 0.05": ("projected gradient", 0.05),
    "PGD euclidean 1": ("projected gradient, euclidean", 1.0),
    "inputs 0.3": ("inputs", 0.3),
    "weights 0.3": ("weights", 0.3),
    "units 0.3": ("units", 0.3),
}
"""Columns, and what networks were exposed to."""
STUDIES = [f"{data}-{source}" for data in ("mnist", "fashion") for source in ("noise", "feedback", "bits", "offset")]
"""What `experiments/hardware.py` measures."""
EXPOSURES = [f"{data}-{kind}" for kind in ("rules", "symmetry", "alpha") for data in ("mnist", "fashion")]
"""What `experiments/robustness.py` measures."""


def _summaries(results: Results) -> list[tuple[str, Row]]:
    """Summarise the records of every label."""
    return [(label, summary(found)[0]) for label, found in labelled(results)]


def labelled(results: Results) -> list[tuple[str, list[Any]]]:
    """Return the records of every label, in the order of first appearance."""
    records: list[Any] = results["records"]
    labels = dict.fromkeys(record["label"] for record in records)
    return [(label, [record for record in records if record["label"] == label]) for label in labels]


def quality_table(root: Path, name: str) -> str:
    """Return the relative error of every rule's gradient, a column a strength of the nudge."""
    results = stored(root, name)
    errors = {(row["rule"], row["network"], row["strength"]): row["error"] for row in results["rows"]}
    strengths = list(dict.fromkeys(strength for _, _, strength in errors))
    rows = [
        [f"{rule}; {network}", *(_number(errors[rule, network, strength], ".1e") for strength in strengths)]
        for rule, network in dict.fromkeys((rule, network) for rule, network, _ in errors)
    ]
    settings = results["settings"]
    network = "-".join(map(str, (784, *settings["hidden"], 10)))
    return f"mnist, {network}, {settings['samples']} samples. {_where(results)}\n\n" + markdown(
        ["Rule; network", *(f"{strength:g}" for strength in strengths)], rows
    )


def settling_table(root: Path, name: str) -> str:
    """Return the most passes over seeds that each solver needs, a line a network."""
    results = stored(root, name)
    counts = {(row["lam"], row["norm"], row["solver"]): row["passes"] for row in results["rows"]}
    solvers = list(dict.fromkeys(solver for _, _, solver in counts))
    rows = [
        [f"{lam:g}", f"{norm:g}", *(_most(counts[lam, norm, solver]) for solver in solvers)]
        for lam, norm in dict.fromkeys((lam, norm) for lam, norm, _ in counts)
    ]
    return f"{_where(results)}\n\n{markdown(['lam', 'norm', *solvers], rows)}"


def _most(passes: list[int | None]) -> str:
    """The largest count of several seeds, of which one may have found no end."""
    known = [count for count in passes if count is not None]
    return str(max(known)) if len(known) == len(passes) else "never"


def _table(results: Results, rows: Iterable[tuple[str, Row]], columns: Iterable[Column], heading: str = "Rule") -> str:
    """Lay labelled rows out, with the caption above."""
    columns = list(columns)
    cells = ([label, *(column.cell(row) for column in columns)] for label, row in rows)
    return f"{_caption(results)}\n\n{markdown([heading, *(column.heading for column in columns)], cells)}"


def _caption(results: Results) -> str:
    """Say what was trained, on what, and by which source."""
    records, seeds = results["records"], results["seeds"]
    networks = dict.fromkeys(record["network"].partition(",")[0] for record in records)  # what follows is in the rows
    network = f"{next(iter(networks))}, " if len(networks) == 1 else ""
    of_seeds = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
    return f"{records[0]['dataset']}, {network}{records[0]['epochs']} epochs, {of_seeds}. {_where(results)}"


def _where(results: Results) -> str:
    """Say on what it was computed, and by which source: of every record, where they know it themselves."""
    where = results["environment"]
    commits = dict.fromkeys(record.get("commit", where["commit"]) for record in results.get("records", [where]))
    return (
        f"{where['processor']}, {where['threads']} of {where['cores']} cores, {where['device']}, torch "
        f"{where['torch']}, commit{'s' if len(commits) > 1 else ''} {', '.join(commits)}."
    )


def _rule(row: Row) -> str:
    name, _, settings = row.rule.partition(":")
    return f"{name}, {settings.replace(',', ', ')}" if settings else name


def _schedule(row: Row) -> str:
    """Name the schedule of a rule; what all rows share is left to the text around the table."""
    name, _, settings = row.rule.partition(":")
    chosen = dict(item.split("=") for item in settings.split(",") if item)
    return name if name == "backprop" else chosen.get("schedule", "sweeps")


def _accuracy(row: Row) -> str:
    return _percent(row.test_accuracy)


def _percent(found: Spread | None) -> str:
    if found is None:
        return "–"
    return f"{100 * found.mean:.2f}" + ("" if found.std is None else f" ± {100 * found.std:.2f}")


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


COLUMNS = (
    Column("Test accuracy, %", _accuracy),
    Column("Lowest cosine with backprop", lambda row: _number(row.lowest_alignment, ".4f")),
    Column("Step time / backprop", lambda row: _number(row.step_ratio, ".2f")),
)
SEEDS = Column("Seeds", lambda row: str(row.seeds))
PASSES = Column("Passes", lambda row: _number(row.iterations, ".0f"))
FEEDBACK = (
    Column("Test accuracy, %", _accuracy),
    Column("Lowest cosine with the exact gradient", lambda row: _number(row.lowest_alignment, ".4f")),
    Column("Passes a step", lambda row: _number(row.iterations, ".1f")),
    Column("Unsettled, %", lambda row: _number(row.unconverged and 100 * row.unconverged, ".2f")),
    Column("ms a step", lambda row: _number(row.step_ms, ".1f")),
)


def benchmark_table(root: Path, *, name: str) -> str:
    """Return the tables of a benchmark, as `benchmarks/tables.py` makes them of its result."""
    path = root / "benchmarks" / "results" / f"{name}.json"
    if not path.exists():
        raise TableError(f"there is no stored result {path}: run python -m benchmarks.{name}")
    return str(runpy.run_path(str(root / "benchmarks" / "tables.py"))["markdown"](path))


MNISTS = ("mnist", "fashion")
HOPFIELD = ("symmetry", "structure", "contrast", "convolutional")
TABLES: dict[str, Table] = {
    **{f"{which}-rules": partial(rules_table, name=f"{which}-rules") for which in MNISTS},
    "mnist-512": partial(accuracy_table, name="mnist-512"),
    "fashion-512": partial(accuracy_table, name="fashion-512"),
    "mnist-1000x4": partial(accuracy_table, name="mnist-1000x4"),
    "schedules": partial(schedule_table, name="schedules"),
    **{f"{a}-{b}": partial(feedback_table, name=f"{a}-{b}") for a, b in product(MNISTS, HOPFIELD)},
    "mnist-resistive": partial(feedback_table, name="mnist-resistive"),
    **{f"{which}-binary-tuning": partial(tuning_table, name=f"{which}-binary-tuning") for which in (*MNISTS, "cifar")},
    **{f"{which}-binary": partial(binary_table, name=f"{which}-binary") for which in (*MNISTS, "cifar")},
    **{f"{which}-lrrn": partial(lifted_table, name=f"{which}-lrrn") for which in MNISTS},
    **{f"{which}-lrrn-robustness": partial(robustness_table, name=f"{which}-lrrn") for which in MNISTS},
    "audit": audit_table,
    "agreement": agreement_table,
    **{f"{which}-robustness": partial(exposure_table, name=which) for which in EXPOSURES},
    **{f"hardware-{which}": partial(hardware_table, name=which) for which in STUDIES},
    "gradient-quality": partial(quality_table, name="gradient-quality"),
    "settling": partial(settling_table, name="settling"),
    "benchmark-step": partial(benchmark_table, name="step"),
    "benchmark-equilibrium": partial(benchmark_table, name="equilibrium"),
    "benchmark-packed": partial(benchmark_table, name="packed"),
    "benchmark-binary": partial(benchmark_table, name="binary"),
    "benchmark-resistive": partial(benchmark_table, name="resistive"),
    "benchmark-predictive-coding": partial(benchmark_table, name="predictive_coding"),
}


def pages(root: Path) -> list[Path]:
    """Return the documents that may hold tables."""
    named = (root / "README.md", root / "benchmarks" / "README.md", *sorted((root / "docs").rglob("*.md")))
    return [path for path in named if path.exists()]


def filled(path: Path, root: Path) -> tuple[str, list[str]]:
    """Return a document's text with its tables made anew, and the names of those that were different.

    Raises:
        TableError: for an unknown table, a missing result, or a table without an end.
    """
    text, changed = path.read_text(encoding="utf-8"), []
    where = path.relative_to(root)

    def fill(block: re.Match[str]) -> str:
        name = block["name"]
        if name not in TABLES:
            raise TableError(f"{where}: there is no table {name!r}; there are {', '.join(TABLES)}")
        try:
            new = f"{block['head']}\n{TABLES[name](root).strip()}\n\n{block['tail']}"
        except TableError as error:
            raise TableError(f"{where}: {error}") from error
        if new != block[0]:
            changed.append(name)
        return new

    if len(BLOCK.findall(text)) != text.count("<!-- table:"):
        raise TableError(f"{where}: a table lacks its end, <!-- /table -->")
    return BLOCK.sub(fill, text), changed


def main(check: bool = False, root: Path = ROOT) -> int:
    """Rewrite the tables of README and docs from the stored results.

    Args:
        check: change nothing; exit with 1 and name the tables that differ.
        root: the project's folder.
    """
    try:
        documents = [(path, *filled(path, root)) for path in pages(root)]
    except TableError as error:
        print(f"tables: {error}", file=sys.stderr)
        return 1
    for path, text, changed in documents:
        for name in changed:
            print(
                f"{path.relative_to(root)}: table {name} {'differs from the stored result' if check else 'rewritten'}"
            )
        if changed and not check:
            path.write_text(text, encoding="utf-8")
    return int(check and any(changed for _, _, changed in documents))


if __name__ == "__main__":
    sys.exit(tyro.cli(main, config=(tyro.conf.FlagCreatePairsOff,)))
