"""The page of a sweep over an imperfection."""

import json
import re
from collections.abc import Sequence
from html import unescape
from pathlib import Path
from typing import Any

from dyadnet.audit.tolerance import Spot, Tolerance
from dyadnet.report.sweep import write_sweep

LEVELS = (0.01, 0.1)


def tolerance(rule: str, accuracies: Sequence[float]) -> Tolerance:
    def spot(level: float, accuracy: float) -> Spot:
        return Spot(0.5, level, accuracy, 0.01, 0.9, 0.3, 0.0, 0.0, 2)

    spots = [spot(*pair) for pair in zip(LEVELS, accuracies, strict=True)]
    return Tolerance(rule, spots, spots, 0.07, 0.1)


def figures(page: str) -> list[dict[str, Any]]:
    return [json.loads(unescape(found)) for found in re.findall(r'data-figure="([^"]*)"', page)]


def test_a_page_has_the_table_and_every_figure(tmp_path: Path) -> None:
    found = [tolerance("dyadic", (0.9, 0.6)), tolerance("<b>", (0.8, 0.2))]
    page = write_sweep(tmp_path / "new" / "report.html", "reading.noise", found, {"commit": "<c>"}).read_text()
    body = page[page.index("<main>") : page.index("</main>")]
    for part in ("Robustness to reading.noise", "90.0 (β 0.5)", "0.07", "&lt;b&gt;", "&lt;c&gt;", "equal displacement"):
        assert part in body
    assert "<b>" not in body
    curves, *maps, displaced = figures(page)
    assert [trace["y"] for trace in curves["data"]] == [[90, 60], [80, 20]]
    assert [trace["legendgroup"] for trace in curves["data"]] == ["dyadic", "<b>"]
    assert [m["data"][0]["z"] for m in maps] == [[[90, 60]], [[80, 20]], [[0.9, 0.9]], [[0.9, 0.9]]]
    assert displaced["data"][0]["x"] == [0.3]


def test_where_nothing_was_learned_there_is_nothing_to_draw_against_displacement(tmp_path: Path) -> None:
    page = write_sweep(tmp_path / "report.html", "units.offset", [tolerance("dyadic", (0.11, 0.1))], {}).read_text()
    assert "Robustness to units.offset" in page
    assert "equal displacement" not in page
