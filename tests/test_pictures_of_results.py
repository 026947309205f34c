"""The pictures of README and docs are drawn from the stored results, and an old one is noticed."""

import importlib
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def pictures() -> ModuleType:
    sys.path.insert(0, str(ROOT / "experiments"))
    return importlib.import_module("pictures")


def test_the_stored_pictures_are_those_of_the_stored_results(pictures: ModuleType, tmp_path: Path):
    pictures.main(tmp_path)
    for name in pictures.PICTURES:
        drawn, there = tmp_path / f"{name}.svg", ROOT / "docs" / "pictures" / f"{name}.svg"
        assert drawn.read_text() == there.read_text(), f"{there} is old: make tables"


def test_every_picture_is_shown_somewhere_and_every_shown_one_exists(pictures: ModuleType):
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    shown = {
        Path(found).stem for page in pages for found in re.findall(r"\(([^)]*pictures/[^)]*\.svg)\)", page.read_text())
    }
    assert shown == set(pictures.PICTURES)


def test_lines_hold_the_stored_numbers(pictures: ModuleType):
    figure = pictures.lipschitz(ROOT)
    (line,) = (line for line in figure.axes[0].get_lines() if line.get_label().startswith("tied, weight decay"))
    records = json.loads((ROOT / "experiments" / "results" / "mnist-lrrn.json").read_text())["records"]
    of_label = {r["label"]: r for r in records if r["seed"] == 0}
    labels = ("tied", "tied, decay 1", "tied, decay 10", "tied, decay 30")
    assert list(line.get_xdata()) == [of_label[label]["lipschitz"]["bound"] for label in labels]
    assert list(line.get_ydata()) == [100 * of_label[label]["attacked"]["max 0.05, ten steps"] for label in labels]
    plt.close(figure)


def test_a_mean_and_its_spread_are_those_of_hand(pictures: ModuleType):
    label, sizes, means, deviations = pictures.exposed(
        "rule",
        [
            {"accuracy": 0.9, "trials": [{"kind": "inputs", "size": 0.1, "accuracy": 0.5}]},
            {"accuracy": 0.7, "trials": [{"kind": "inputs", "size": 0.1, "accuracy": 0.7}]},
        ],
        "inputs",
    )
    assert (label, sizes) == ("rule", [0.0, 0.1])
    assert means == pytest.approx([80, 60])
    assert deviations == pytest.approx([100 * 0.02**0.5, 100 * 0.02**0.5])
