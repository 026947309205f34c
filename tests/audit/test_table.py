"""Thesis table 2.1: what it says of six rules, and what becomes of a disagreement."""

from typing import Any

import pytest

from dyadnet.audit.table import lines

# The thesis's table 2.1 and the sentence that closes section 2.3, typed in from the text.
THESIS = {
    "backprop": ("BP", True, False, False),
    "contrastive-hebbian": ("CHL & EP", True, False, True),
    "equilibrium-propagation": ("CHL & EP", True, False, True),
    "dual-propagation": ("DP", True, True, True),
    "auxiliary-coordinates": ("MAC & PC", True, True, False),
    "predictive-coding": ("MAC & PC", True, True, False),
}


def record(
    rule: str, spatial: bool | None, temporal: bool, avoids: bool, transport: str = "training"
) -> dict[str, Any]:
    return {
        "rule": rule,
        "spatially_local": spatial,
        "temporally_local": temporal,
        "avoids_derivative": avoids,
        "weight_transport": transport,
        "phases": ["nudged"],
        "evidence": {},
    }


@pytest.mark.parametrize("rule", THESIS)
def test_nothing_is_remarked_where_the_thesis_agrees(rule: str) -> None:
    row, *says = THESIS[rule]
    line = lines([record(f"{rule}:beta=0.1", *says)])[0]
    assert (line.thesis, line.remarks) == (row, ())
    assert line.cells == (*("yes" if word else "no" for word in says), "training")


@pytest.mark.parametrize("rule", THESIS)
def test_every_disagreement_is_marked_and_remarked(rule: str) -> None:
    _, *says = THESIS[rule]
    line = lines([record(rule, *(not word for word in says), transport="none")])[0]
    assert all("(thesis: " in cell for cell in line.cells)
    assert len(line.remarks) == 4


def test_a_rule_that_the_thesis_does_not_list_is_not_held_against_it() -> None:
    line = lines([record("lpom", None, True, True)])[0]
    assert (line.thesis, line.remarks, line.cells[0]) == ("", (), "unknown")
