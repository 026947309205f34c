"""The audit's table and its section of a page."""

from pathlib import Path
from typing import Any

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


def test_the_table_fits_a_terminal() -> None:
    console = Console(width=100, record=True, file=None)
    with console.capture() as held:
        console.print(audit_table([RECORD]))
    assert all(len(line) <= 100 for line in held.get().splitlines())
    assert "2e-02" in held.get()
