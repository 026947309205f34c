"""Sweeps over imperfections: their cells, their records, interruption, and what is made of them."""

import copy
import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dyadnet import names
from dyadnet.audit.tolerance import Spot, Tolerance, critical_level, tolerances
from dyadnet.cli import main
from dyadnet.hardware.chip import OnChip
from dyadnet.names import RequestError
from dyadnet.report.sweep import sweep_table
from dyadnet.train import folder
from dyadnet.train.loop import agreement, prepare, train_epoch
from dyadnet.train.run import chosen, load_dataset
from dyadnet.train.settings import Settings
from dyadnet.train.sweep import Cell, Sweep, check_cell, run_cell, sweep, written

SMALL = Settings(epochs=1, hidden=(8,), train_samples=200, test_samples=100, align_samples=20)


def plan(**changes: object) -> Sweep:
    given = {
        "rules": ("dual-propagation", "contrastive-hebbian"),
        "strengths": (0.1, 0.5),
        "source": "reading.noise",
        "levels": (0.0, 0.1),
        "seeds": (0, 1),
        "settings": SMALL,
    }
    return Sweep(**(given | changes))  # pyright: ignore[reportArgumentType]


def test_rules_without_a_strength_run_once_at_every_level() -> None:
    cells = plan().cells()
    assert len(cells) == 2 * (2 * 2 + 2)
    assert {cell.strength for cell in cells if cell.rule == "contrastive-hebbian"} == {None}
    assert Cell("dual-propagation:alpha=0", 0.5, 0.1, 0).named == "dual-propagation:alpha=0,beta=0.5"


def test_the_source_is_added_to_the_device() -> None:
    on = plan(settings=replace(SMALL, hardware="reram:synapses.bits=4"))
    assert on.placed(on.cells()[1]).hardware == "reram:synapses.bits=4,reading.noise=0.1"
    assert plan().placed(plan().cells()[1]).hardware == "ideal:reading.noise=0.1"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"levels": ()}, "needs levels"),
        ({"seeds": (0, 0)}, "needs seeds, each of them once"),
        ({"source": "reading.colour"}, "no setting 'reading.colour'"),
        ({"levels": (-1.0,)}, "must be zero or a positive number"),
        ({"strengths": (-1.0,)}, "must be a positive number"),
        ({"rules": ("unheard-of",)}, "there is no rule"),
        ({"source": "synapses.drift", "levels": (0.01,)}, "shows only together with synapses.age"),
        ({"source": "synapses.on_off", "levels": (2.0, 100.0)}, "shows only together with synapses.programming"),
        ({"source": "updates.bound", "levels": (1.0,)}, "shows only together with updates.asymmetry"),
        ({"source": "reading.reads", "levels": (1, 4)}, "together with reading.noise or reading.relative"),
        ({"rules": ("dual-propagation",), "settings": replace(SMALL, order="foo")}, "order is for rules that relax"),
        ({"rules": ("dyadic",), "settings": replace(SMALL, binary="nonsense")}, "binary is for feedforward networks"),
        ({"settings": replace(SMALL, tensorboard=True)}, "tensorboard is for single runs"),
    ],
)
def test_what_cannot_be_swept_is_refused(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(RequestError, match=complaint):
        plan(**changes)


def test_what_shows_with_another_setting_is_swept_with_it() -> None:
    aged = replace(SMALL, hardware="ideal:synapses.age=100")
    assert plan(source="synapses.drift", settings=aged).placed(plan().cells()[1]).hardware == (
        "ideal:synapses.age=100,synapses.drift=0.1"
    )


@pytest.mark.parametrize(
    ("settings", "rule", "complaint"),
    [
        (replace(SMALL, network="mlp", lam=0.0), "dual-propagation", "has loops"),
        (replace(SMALL, network="resistive"), "dual-propagation", "this rule is for feedforward chains"),
        (replace(SMALL, binary="ste"), "dual-propagation", "binary does not go with hardware"),
    ],
)
def test_rules_that_cannot_train_are_refused_before_anything_runs(
    settings: Settings, rule: str, complaint: str
) -> None:
    with pytest.raises(RequestError, match=complaint):
        check_cell(plan(rules=(rule,), settings=settings), load_dataset(settings))


def test_a_strength_that_a_circuit_does_not_bear_is_no_end_of_the_sweep(tmp_path: Path) -> None:
    settings = replace(SMALL, network="resistive")
    one = plan(rules=("equilibrium-propagation",), strengths=(0.1, 50.0), levels=(0.01,), seeds=(0,), settings=settings)
    check_cell(one, load_dataset(settings))
    weak, strong = sorted(sweep(one, tmp_path), key=lambda record: record["strength"])
    assert weak["refused"] is None
    assert "negative conductance" in strong["refused"]
    assert strong["displacement"] is None


def test_an_interrupted_sweep_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    one = plan(rules=("dual-propagation",), seeds=(0,))
    whole = sweep(one, tmp_path)
    file = tmp_path / folder.CELLS
    lines = file.read_text().splitlines()
    assert len(lines) == 4
    file.write_text("\n".join(lines[:2]) + '\n{"rule": "dual-prop')
    seen: list[dict[str, object]] = []
    again = sweep(one, tmp_path, done=seen.append)
    assert sorted(map(json.dumps, again)) == sorted(map(json.dumps, whole))
    assert len(seen) == 4
    assert len(written(tmp_path)) == 4


def test_cells_side_by_side_give_the_same_numbers(tmp_path: Path) -> None:
    one = plan(rules=("dual-propagation",), strengths=(0.1,))
    apart, alone = tmp_path / "apart", tmp_path / "alone"
    apart.mkdir()
    alone.mkdir()
    assert sorted(map(json.dumps, sweep(one, apart, jobs=2))) == sorted(map(json.dumps, sweep(one, alone)))


def test_a_cell_records_what_it_saw() -> None:
    one = plan(settings=replace(SMALL, hardware="ideal:synapses.stuck=0.2"))
    record = run_cell(one, Cell("equilibrium-propagation", 0.25, 0.1, 0))
    assert record["diverged"] is False
    assert record["unconverged"] == 0
    assert record["saturated"] == pytest.approx(1 - 0.8**2, abs=0.03)
    assert record["displacement"] > 0
    assert len(record["alignment"]) == 2


def test_on_a_chip_a_resumed_run_gives_the_numbers_of_an_unbroken_one() -> None:
    """Its specimen is made anew, from the same seed and weights."""
    hardware = "ideal:synapses.mismatch=0.1,updates.pulse=0.01,updates.offset=0.1,reading.noise=0.01"
    settings = replace(SMALL, epochs=2, hardware=hardware)
    dataset = load_dataset(settings)
    whole = prepare(settings, "dual-propagation", 3, dataset)
    train_epoch(whole)
    state = copy.deepcopy(whole.state())
    train_epoch(whole)
    again = prepare(settings, "dual-propagation", 3, dataset)
    assert isinstance(again.rule, OnChip)
    again.restore(state)
    train_epoch(again)
    for ours, theirs in zip(whole.net.parameters(), again.net.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert whole.history[-1]["test_accuracy"] == again.history[-1]["test_accuracy"]
    assert agreement(whole) == agreement(whole) == agreement(again)  # looking twice changes nothing


def test_the_critical_level() -> None:
    def spots(*accuracies: float) -> list[Spot]:
        levels = (0.0, 0.01, 0.1, 1.0)
        return [Spot(0.1, level, a, 0, None, None, None, None, 1) for level, a in zip(levels, accuracies, strict=False)]

    assert critical_level(spots(0.9, 0.9, 0.8, 0.7), 0.1) is None
    assert critical_level(spots(0.9, 0.9, 0.7, 0.3), 0.1) == pytest.approx(10**-0.5)  # half of .9 and .1 is .5
    assert critical_level(spots(0.9, 0.1), 0.1) == pytest.approx(0.005)


def test_the_best_strength_of_every_level() -> None:
    def record(strength: float, level: float, seed: int, accuracy: float) -> dict[str, object]:
        place = {"rule": "r", "strength": strength, "level": level, "seed": seed, "displacement": strength}
        found = {"test_accuracy": accuracy, "alignment": [0.9, 0.5], "unconverged": None, "saturated": 0.0}
        return place | found | {"classes": 10}

    places = itertools.product((0.1, 1.0), (0.01, 0.05), (0, 1))
    records = [record(s, x, seed, 0.9 - x / s + 0.01 * seed) for s, x, seed in places]
    (found,) = tolerances(records)
    assert [spot.strength for spot in found.best] == [1.0, 1.0]
    assert found.best[0].accuracy == pytest.approx(0.895)
    assert found.best[0].spread == pytest.approx(0.01 / 2**0.5)
    assert found.best[0].cosine == 0.5


def test_a_bound_is_milder_the_larger_it_is() -> None:
    cells = [{"rule": "r", "strength": 0.1, "level": x, "seed": 0, "test_accuracy": 0.2 + x / 10} for x in (0.3, 4.0)]
    others = {"alignment": [], "displacement": None, "unconverged": None, "saturated": None, "classes": 10}
    (found,) = tolerances([cell | others for cell in cells], "updates.bound")
    assert [spot.level for spot in found.best] == [4.0, 0.3]


def test_a_table_says_whether_anything_was_learned_and_what_failed() -> None:
    def tolerance(*accuracies: float, failed: int = 0) -> Tolerance:
        best = [
            Spot(0.1, level, a, 0, None, None, None, None, 2, failed)
            for level, a in zip((0.01, 0.3), accuracies, strict=True)
        ]
        return Tolerance("r", best, best, critical_level(best, 0.1), 0.1)

    def cells(found: Tolerance) -> list[str]:
        return [str(next(iter(column.cells))) for column in sweep_table("reading.noise", [found]).columns]

    assert cells(tolerance(0.11, 0.1))[-1] == "not learned"
    assert cells(tolerance(0.9, 0.8))[-1] == "beyond 0.3"
    assert cells(tolerance(0.9, 0.1))[-1] == "0.055"
    assert cells(tolerance(0.9, 0.8, failed=1))[1] == "90.0 [1 of 2 failed]\nβ 0.1"


def test_what_counts_is_the_epoch_that_was_best_on_the_samples_held_out() -> None:
    settings = replace(SMALL, epochs=3, validation=0.2, learning_rate=0.3)
    on, dataset = plan(settings=settings, levels=(0.02,)), load_dataset(settings)
    cell = on.cells()[0]
    training = prepare(on.placed(cell), cell.named, cell.seed, dataset)
    while len(training.history) < 3:
        train_epoch(training)
    assert run_cell(on, cell)["test_accuracy"] == chosen(training.history)["test_accuracy"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "--rules dual-propagation --strengths 0.1 0.5 --levels 0.01 0.3 --seeds 0 --epochs 1 --hidden 8"
    out = tmp_path / "sweep"
    assert main(["robustness", *words.split(), "--train-samples", "200", "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "reading.noise" in told
    assert "critical" in told
    result = json.loads((out / folder.ROBUSTNESS).read_text())
    assert len(result["rules"][0]["spots"]) == 4
    page = (out / folder.REPORT).read_text()
    assert "Robustness to reading.noise" in page
    assert main(["resume", str(out)]) == 2
    assert "is finished" in capsys.readouterr().err
    (out / folder.REPORT).unlink()
    assert main(["resume", str(out)]) == 0
    assert main(["robustness", *words.split(), "--out", str(out)]) == 2
    assert "already holds a finished run" in capsys.readouterr().err


def test_devices_are_named() -> None:
    assert names.device("ideal") == names.DEVICES["ideal"]
    assert names.device("pcm:synapses.age=100").synapses.age == 100
    assert names.device("ideal:synapses.programming=0.01/0.02").synapses.programming == (0.01, 0.02)
    for wrong in ("memristor", "ideal:noise=1", "ideal:reading.noise=much", "ideal:synapses.on_off=1"):
        with pytest.raises(RequestError):
            names.device(wrong)
