"""The benchmark of resistive networks: both sides compute the same, and a quick run stores what it measured."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from benchmarks.resistive import Settings, main, measure, pair

SETTINGS = Settings(quick=True, beta=0.05)  # so small a circuit does not bear 1


@pytest.mark.parametrize("widths", [(8, 7, 3), (8, 7, 6, 3)])
def test_in_double_precision_the_gradients_are_the_same(widths: tuple[int, ...]):
    assert pair(widths, 4, SETTINGS, torch.float64).apart() < 1e-11


def test_another_nudge_is_noticed(monkeypatch: pytest.MonkeyPatch):
    """Negative control: what computes something else is not timed."""
    both = pair((6, 5, 3), 4, SETTINGS)
    other = replace(both.direct, beta=0.5)
    monkeypatch.setattr("benchmarks.resistive.pair", lambda *_: replace(both, direct=other))
    with pytest.raises(ArithmeticError, match="nothing to compare"):
        measure((6, 5, 3), 4, SETTINGS)


def test_a_quick_run_stores_a_row_for_every_case(tmp_path: Path):
    out, console = tmp_path / "deep" / "resistive.json", Console(record=True, width=160)
    main(replace(SETTINGS, out=out), console)
    rows = json.loads(out.read_text(encoding="utf-8"))["rows"]
    assert [row["network"] for row in rows] == [
        *(f"40-12-10, batch {batch}" for batch in (4, 16, 64)),
        "40-12-12-10, batch 16",
    ]
    assert all(row["difference"] < 1e-9 and row["speedup"]["median"] > 0 for row in rows)
    assert "direct, ms" in console.export_text()
