"""The audit's table and its section of a page."""

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from dyadnet.report.audit import audit_table, seen, write_audit

RECORD: dict[str, Any] = {
    "rule": "dual-propagation:beta=<b>",
    "spatially_local": False,
    "temporally_local": True,
    "avoids_derivative": True,
    "weight_transport": "training",
    "phases": ["free", "nudged"],
    "evidence": {
        "spatial": {"exceptions": {"weight sharing": "0.weight & others"}, "violations": []},
        "order": {"at once": 0.0, "random": 0.02},
        "cost": {"multiply_adds_ratio": 1.25, "bytes_ratio": 3.0},
    },
}


def test_a_page_holds_what_was_seen_escaped(tmp_path: Path) -> None:
    page = write_audit(tmp_path / "report.html", [RECORD], {"commit": "<c>"}).read_text()
    assert "What the rules promise" in page
    assert "dual-propagation:beta=&lt;b&gt;" in page
    assert "&lt;c&gt;" in page
    assert "<b>" not in page
    assert "no (thesis: yes)" in page
    assert "weight sharing: 0.weight &amp; others" in page
    assert "1.2x" in page


def test_a_report_without_an_audit_has_no_section_for_it() -> None:
    assert not seen([])


@pytest.mark.parametrize(("width", "gone"), [(100, ()), (90, ("order",)), (64, ("order", "phases"))])
def test_the_table_fits_a_terminal(width: int, gone: tuple[str, ...]) -> None:
    console = Console(width=width)
    with console.capture() as held:
        console.print(audit_table([RECORD], width))
    text = held.get()
    assert all(len(line) <= width for line in text.splitlines())
    assert ("2e-02" in text) == ("order" not in gone)
    assert ("nudged" in text) == ("phases" not in gone)
    for part in ("dual-propagation:beta=<b>", "training", "space", "(thesis: yes)"):
        assert part in text
    assert ("wider terminal" in text) == bool(gone)
