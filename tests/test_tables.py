"""The tables of README and docs come from the stored results, and a difference is noticed."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tables", ROOT / "experiments" / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tables"] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    return module


tables = load()


def record(rule: str, seed: int, accuracy: float, ratio: float = 1.25, passes: int = 1) -> dict[str, Any]:
    return {
        "rule": rule,
        "dataset": "mnist",
        "network": "784-512-512-10",
        "seed": seed,
        "epochs": 20,
        "test_accuracy": accuracy,
        "train_loss": 0.1,
        "step_ms": 5.0,
        "step_ratio_to_backprop": ratio,
        "alignment": [0.9, 0.95, 1.0],
        "relaxation": {"iterations": passes, "residual": 0.0, "converged": None},
    }


def store(root: Path, name: str, records: list[dict[str, Any]]) -> None:
    folder = root / "experiments" / "results"
    folder.mkdir(parents=True, exist_ok=True)
    environment = {"processor": "a CPU", "threads": 1, "cores": 2, "device": "cpu", "torch": "2.13", "commit": "abc"}
    results = {"name": name, "seeds": [0, 1, 2], "environment": environment, "records": records}
    (folder / f"{name}.json").write_text(json.dumps(results))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rules = "backprop", "dual-propagation:alpha=0,beta=0.1"
    accuracies = 0.98, 0.981, 0.985
    store(tmp_path, "mnist-512", [record(rule, seed, accuracies[seed]) for rule in rules for seed in range(3)])
    (tmp_path / "README.md").write_text("Before.\n\n<!-- table: mnist-512 -->\n<!-- /table -->\n\nAfter.\n")
    return tmp_path


def test_a_row_has_the_mean_and_the_sample_deviation_over_seeds(root: Path):
    tables.main(root=root)
    # mean of 98.0, 98.1, 98.5; deviations -.2, -.1, .3: sqrt((.04 + .01 + .09) / 2) = 0.26
    row = "| dual-propagation, alpha=0, beta=0.1 | 98.20 ± 0.26 | 0.9000 | 1.25 |"
    assert row in (root / "README.md").read_text().splitlines()


def test_the_caption_names_network_epochs_seeds_hardware_and_commit(root: Path):
    tables.main(root=root)
    caption = (root / "README.md").read_text().split("-->")[1]
    for fact in ("784-512-512-10", "20 epochs", "seeds 0, 1, 2", "a CPU", "commit abc"):
        assert fact in caption


def test_text_around_a_table_stays_and_a_second_run_changes_nothing(root: Path):
    tables.main(root=root)
    once = (root / "README.md").read_text()
    assert once.startswith("Before.\n")
    assert once.endswith("After.\n")
    tables.main(root=root)
    assert (root / "README.md").read_text() == once


def test_check_passes_after_rewriting_and_names_what_differs_before(root: Path, capsys: pytest.CaptureFixture[str]):
    before = (root / "README.md").read_text()
    assert tables.main(check=True, root=root) == 1
    assert "README.md: table mnist-512 differs" in capsys.readouterr().out
    assert (root / "README.md").read_text() == before
    assert tables.main(root=root) == 0
    assert tables.main(check=True, root=root) == 0


def test_a_number_changed_by_hand_is_noticed(root: Path):
    tables.main(root=root)
    path = root / "README.md"
    path.write_text(path.read_text().replace("98.20", "98.90", 1))
    assert tables.main(check=True, root=root) == 1


def test_a_missing_result_is_one_line_that_names_the_file(root: Path, capsys: pytest.CaptureFixture[str]):
    (root / "docs").mkdir()
    (root / "docs" / "results.md").write_text("<!-- table: fashion-512 -->\n<!-- /table -->\n")
    assert tables.main(root=root) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "docs/results.md" in told
    assert "experiments/results/fashion-512.json" in told


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        ("<!-- table: nonsense -->\n<!-- /table -->\n", "no table 'nonsense'"),
        ("<!-- table: mnist-512 -->\n", "its end"),
    ],
)
def test_a_marker_that_means_nothing_is_refused(
    root: Path, capsys: pytest.CaptureFixture[str], page: str, complaint: str
):
    (root / "README.md").write_text(page)
    assert tables.main(root=root) == 1
    assert complaint in capsys.readouterr().err
    assert (root / "README.md").read_text() == page


def test_schedules_are_named_with_their_passes_and_carried_states_marked(root: Path):
    rule = "dual-propagation:alpha=0.5,beta=0.1"
    store(root, "schedules", [record("backprop", 0, 0.98), record(f"{rule},schedule=random-order", 0, 0.97, passes=10)])
    store(root, "schedules-carried", [record(rule, 0, 0.96)])
    lines = tables.TABLES["schedules"](root).splitlines()
    assert "| random-order | 10 | 97.00 | 0.9000 | 1.25 |" in lines
    assert "| sweeps, carried states | 1 | 96.00 | 0.9000 | 1.25 |" in lines


def lifted_record(label: str, seed: int, accuracy: float) -> dict[str, Any]:
    return record("", seed, accuracy) | {
        "label": label,
        "passes": 20.04,
        "unsettled": 0.0,
        "lipschitz": {"bound": 1.0, "pairs": 0.25, "steepest": 0.75, "mean": 0.5},
        "certified": {"0.1": 0.5},
        "attacked": {"none": 0.98, "max 0.1, one step": 0.75, "max 0.1, ten steps": 0.625},
    }


def test_lifted_networks_have_a_table_of_cost_and_one_of_robustness_by_the_first_seed(root: Path):
    records = [lifted_record("tied", seed, 0.96 + seed / 100) for seed in range(3)]
    store(root, "mnist-lrrn", [*records, lifted_record("untied", 0, 0.9)])
    path = root / "experiments" / "results" / "mnist-lrrn.json"
    results = json.loads(path.read_text()) | {"settings": {"looked_at": 100, "attacked": 250}}
    path.write_text(json.dumps(results))
    lines = tables.TABLES["mnist-lrrn"](root).splitlines()
    assert "| tied | 97.00 ± 1.00 | 20.0 | 0.00 | 5.0 |" in lines
    assert "| untied | 90.00 | 20.0 | 0.00 | 5.0 |" in lines
    robust = tables.TABLES["mnist-lrrn-robustness"](root)
    assert "| Network | bound | pairs | steepest | certified 0.1 | none | max 0.1 |" in robust
    assert "| tied | 1.00 | 0.25 | 0.75 | 50.0 | 98.0 | 62.5 |" in robust
    assert "250 attacked" in robust


def test_the_tables_of_this_project_are_those_of_its_stored_results():
    assert tables.main(check=True) == 0
