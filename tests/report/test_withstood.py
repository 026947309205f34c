"""What networks withstand on a page: curves from size 0, means over seeds, dashes with reasons."""

from typing import Any

import pytest

from dyadnet.report.page import render
from dyadnet.report.robustness import robustness_curves, withstood
from dyadnet.report.table import UNDEFINED

CONSTANTS = {"source": "slopes & norms", "pairs": 0.5, "steepest": 1.0, "mean": 0.75, "driven": 1.25, "unknown": None}


def exposure(accuracy: float = 0.5, bound: float | None = 2.0, **changes: Any) -> dict[str, Any]:
    trials = [
        {"kind": kind, "size": size, "accuracy": accuracy - size}
        for kind in ("fast gradient", "inputs")
        for size in (0.125, 0.25)
    ]
    found: dict[str, Any] = {
        "samples": 40,
        "looked_at": 20,
        "normalised": False,
        "range": [0.0, 1.0],
        "accuracy": accuracy,
        "lipschitz": CONSTANTS | {"bound": bound},
        "certified": {"0.1": accuracy / 2},
        "trials": trials,
        "missing": {},
    }
    return found | changes


BLIND: dict[str, Any] = {
    "lipschitz": CONSTANTS
    | {"bound": None, "source": "no <theorem>", "steepest": None, "driven": None, "unknown": "no transpose: take one"},
    "trials": [{"kind": "inputs", "size": 0.25, "accuracy": 0.25}],
    "missing": {"fast gradient": "no transpose: take one", "units": "no hidden units"},
}


def test_curves_begin_at_the_accuracy_without_attack_and_hold_the_range_of_seeds(make_record):
    records = [make_record(seed=seed, exposure=exposure(accuracy)) for seed, accuracy in enumerate((0.5, 0.75))]
    drawn = {figure.layout.title.text: figure for figure in robustness_curves(records) if figure.data}
    assert list(drawn) == ["Fast gradient (%)", "Noise on inputs (%)"]
    band, line = drawn["Fast gradient (%)"].data
    assert list(line.x) == [0, 0.125, 0.25]
    assert list(line.y) == [62.5, 50, 37.5]
    assert list(band.y) == [75, 62.5, 50, 25, 37.5, 50]


def test_a_kind_that_is_not_defined_has_no_curve(make_record):
    records = [make_record(exposure=exposure()), make_record("dyadic", exposure=exposure(**BLIND))]
    drawn = {figure.layout.title.text: [trace.name for trace in figure.data] for figure in robustness_curves(records)}
    assert drawn["Fast gradient (%)"] == ["backprop"]
    assert drawn["Noise on inputs (%)"] == ["backprop", "dyadic"]
    assert drawn["Noise on units (%)"] == []


def test_the_table_holds_means_over_seeds_and_dashes_with_their_reasons(make_record):
    records = [make_record(seed=seed, exposure=exposure(bound=bound)) for seed, bound in enumerate((1.0, 3.0))]
    records += [make_record("dyadic", exposure=exposure(**BLIND))]
    section = withstood(records)
    assert section is not None
    assert section.headings == ["Rule", "Bound", "Driven", "Steepest", "Pairs", "Certified\n0.1, %"]
    assert section.rows == [
        ["backprop", "2.00 ± 1.41", "1.25 ± 0.00", "1.00 ± 0.00", "0.50 ± 0.00", "25.0"],
        ["dyadic", UNDEFINED, UNDEFINED, UNDEFINED, "0.50", UNDEFINED],
    ]
    assert section.notes == [
        "backprop: bound from slopes & norms",
        "dyadic: no bound, no <theorem>",
        "dyadic: no driven; no steepest; no fast gradient: no transpose",
        "dyadic: no noise on units: no hidden units",
    ]


def test_a_bound_that_one_seed_lacks_is_not_known(make_record):
    records = [make_record(seed=seed, exposure=exposure(bound=bound)) for seed, bound in enumerate((1.0, None))]
    section = withstood(records)
    assert section is not None
    assert section.rows[0][1] == section.rows[0][-1] == UNDEFINED


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "where inputs lie, between 0 and 1;"),
        ({"normalised": True}, "where values before they are normalised lie, between 0 and 1;"),
        ({"range": [-2.5, 3.0]}, "between -2.5 and 3;"),
    ],
)
def test_a_page_says_where_inputs_lie_and_on_how_many_samples(make_record, changes, told: str):
    page = render("title", [make_record(exposure=exposure(**changes))], {}, {})
    assert "Under attacks and noise" in page
    assert "first 40 test samples" in page
    assert told in page
    assert "slopes &amp; norms" in page
    assert ("of normalised inputs" in page) == bool(changes.get("normalised"))


def test_records_that_were_not_exposed_have_no_section(make_record):
    assert withstood([make_record()]) is None
    assert "Under attacks and noise" not in render("title", [make_record()], {}, {})
