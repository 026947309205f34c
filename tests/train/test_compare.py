"""Comparisons: one sub-folder a run, one record a rule and seed, and nothing done twice."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dyadnet.data import Dataset
from dyadnet.names import RequestError
from dyadnet.train import folder
from dyadnet.train.compare import Comparison, _finished, compare, read_comparison, run_name
from dyadnet.train.run import Request
from dyadnet.train.settings import Settings

RULES = ("backprop", "dual-propagation:alpha=0")
SETTINGS = Settings(hidden=(6,), epochs=2, batch_size=4, align_samples=20)
RECORD = {
    "rule",
    "dataset",
    "network",
    "seed",
    "epochs",
    "test_accuracy",
    "train_loss",
    "step_ms",
    "step_ratio_to_backprop",
    "alignment",
    "relaxation",
}
CLOCK = {"step_ms", "step_ratio_to_backprop", "environment", "history"}


Done = tuple[Path, list[dict[str, Any]]]


@pytest.fixture
def comparison() -> Comparison:
    return Comparison(RULES, (0, 1), SETTINGS)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> Done:
    """A comparison that was never interrupted, and its records."""
    path, comparison = tmp_path_factory.mktemp("comparisons") / "unbroken", Comparison(RULES, (0, 1), SETTINGS)
    return path, compare(comparison, start(comparison, path), dataset)


def timeless(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: record[key] for key in record if key not in CLOCK} for record in records]


def start(comparison: Comparison, path: Path) -> Path:
    folder.create(path, comparison.config())
    return path


def test_a_comparison_leaves_one_record_a_rule_and_seed(unbroken: Done, comparison: Comparison):
    path, records = unbroken
    assert folder.read_json(path / folder.COMPARISON) == records
    assert [(record["rule"], record["seed"]) for record in records] == [(rule, s) for s in (0, 1) for rule in RULES]
    assert all(record.keys() >= RECORD for record in records)
    assert all(record["step_ms"] > 0 and record["step_ratio_to_backprop"] > 0 for record in records)
    folders = {run_name(request) for request in comparison.runs()}
    assert {item.name for item in path.iterdir()} == {folder.CONFIG, folder.COMPARISON} | folders
    assert all((path / name / folder.RESULT).exists() for name in folders)
    assert read_comparison(path) == comparison


def test_an_interrupted_comparison_ends_where_an_unbroken_one_does(
    tmp_path: Path, dataset: Dataset, comparison: Comparison, unbroken: Done
):
    path, ticks = start(comparison, tmp_path / "broken"), iter(range(7))

    def tick(step: int, steps: int, loss: float) -> None:
        if next(ticks) == 6:  # in the midst of the second epoch of the second run
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(comparison, path, dataset, tick=tick)
    assert not (path / folder.COMPARISON).exists()
    (path / "backprop-seed-1").mkdir()  # as a kill leaves it that comes before the configuration
    (path / "backprop-seed-1" / (folder.CONFIG + ".tmp")).write_text("{")
    first = path / "backprop-seed-0" / folder.RESULT
    written, begun, heard = first.stat().st_mtime_ns, [], []
    records = compare(
        read_comparison(path),
        path,
        dataset,
        begin=lambda request, number, runs: begun.append((request.rule, number, runs)),
        watch=lambda metrics: heard.append(metrics["epoch"]),
    )
    assert timeless(records) == timeless(unbroken[1])
    assert first.stat().st_mtime_ns == written
    assert begun == [(rule, number, 4) for number, rule in enumerate(RULES * 2, 1)]
    assert heard == [2, 1, 2, 1, 2, 1, 2]


MIXED = Comparison(
    ("backprop", "dyadic", "contrastive-hebbian"), (0, 1), replace(SETTINGS, tolerance=1e-2, epochs=1, batch_size=13)
)


def test_every_rule_gets_the_network_it_needs_where_none_is_named(tmp_path: Path, dataset: Dataset):
    records = compare(MIXED, start(MIXED, tmp_path / "mixed"), dataset)
    assert [record["network"] for record in records] == ["8-6-3", "8-6-3, lam 0", "8-6-3, lam 1"] * 2
    assert [record["chosen"].get("tolerance") for record in records] == [None, 1e-2, 1e-2] * 2
    assert [bool(record["connectivity"]) for record in records] == [False, True, True] + [False] * 3
    assert all(record["step_ratio_to_backprop"] > 0 for record in records)
    assert read_comparison(tmp_path / "mixed") == MIXED
    again = compare(MIXED, tmp_path / "mixed", dataset)
    assert timeless(again) == timeless(records)


def test_a_run_is_given_what_its_rule_makes_use_of():
    backprop, dyadic, hebbian = MIXED.runs()[:3]
    assert backprop.settings == replace(MIXED.settings, tolerance=None)
    assert dyadic.settings == hebbian.settings == MIXED.settings


def test_a_network_that_is_named_is_that_of_all_rules():
    comparison = Comparison(("backprop", "dyadic"), (0,), replace(SETTINGS, network="hopfield", lam=0.5))
    assert {run.settings for run in comparison.runs()} == {comparison.settings}


def test_runs_of_other_settings_are_not_taken_for_ones_own(unbroken: Done, dataset: Dataset):
    longer = Comparison(RULES[:1], (0,), replace(SETTINGS, epochs=5))
    with pytest.raises(RequestError, match="backprop-seed-0 holds a run with other settings"):
        compare(longer, unbroken[0], dataset)


def test_data_may_have_moved_since(unbroken: Done, dataset: Dataset):
    moved = Comparison(RULES[:1], (0,), replace(SETTINGS, data_root="elsewhere"))
    assert _finished(unbroken[0] / "backprop-seed-0", moved.runs()[0]) is not None


@pytest.mark.parametrize(
    ("rules", "seeds", "told"),
    [
        (("backprop", "backprop"), (0,), "named twice: backprop and backprop"),
        (("dual-propagation", "dual-propagation:beta=0.10"), (0,), "are the same"),
        (("dual-propagation:alpha=0,beta=1", "dual-propagation:beta=1,alpha=0"), (0,), "are the same"),
        (("backprop",), (1, 2, 1), "a seed is named twice: 1 2 1"),
        (("backprop",), (-1,), "a seed must be"),
        ((), (0,), "at least one rule and one seed"),
        (("backprop",), (), "at least one rule and one seed"),
        (("hebb",), (0,), "there is no rule 'hebb'"),
    ],
)
def test_a_comparison_that_means_nothing_is_refused(rules: Any, seeds: Any, told: str):
    with pytest.raises(RequestError, match=told):
        Comparison(rules, seeds, Settings())


def test_different_runs_have_different_folders():
    rules = ["1e-3", "1e+3", "1", "0.1", "1.0e-3"]
    names = {run_name(Request(f"dual-propagation:beta={beta}", seed, Settings())) for beta in rules for seed in (0, 10)}
    assert len(names) == 10


@pytest.mark.parametrize("damage", [{"rules": "hebb"}, {"rules": 3}, {"seeds": ["a"]}, {"settings": {"epochs": []}}])
def test_a_damaged_configuration_is_refused(tmp_path: Path, comparison: Comparison, damage: dict[str, Any]):
    folder.create(tmp_path, comparison.config() | damage)
    with pytest.raises(RequestError, match="is not a comparison's configuration"):
        read_comparison(tmp_path)


@pytest.mark.parametrize(
    ("rules", "given", "told"),
    [
        (("backprop", "lagrangian"), {"order": "sweeps"}, "order is for rules that relax, which backprop does not"),
        (("backprop", "dyadic"), {"structure": "skew"}, "structure is for the dense network"),
        (("dyadic", "contrastive-hebbian"), {"network": "dense", "lam": 0.5}, "lam is for layered networks"),
    ],
)
def test_a_setting_that_no_rule_makes_use_of_is_refused(rules: Any, given: dict[str, Any], told: str):
    with pytest.raises(RequestError, match=told):
        Comparison(rules, (0,), replace(SETTINGS, **given))
