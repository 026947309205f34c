"""The command `dyadnet estimate`."""

import json
import re
from pathlib import Path

import pytest

from dyadnet import cli
from dyadnet.train import folder
from dyadnet.train.run import Request
from dyadnet.train.settings import Settings


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner of tests may say how wide its terminal is."""
    monkeypatch.delenv("COLUMNS", raising=False)


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = cli.main(["estimate", *map(str, words)])
    return code, *capsys.readouterr()


def finished(path: Path, network: str, rule: str = "equilibrium-propagation", iterations: float = 90) -> Path:
    folder.create(path, Request(rule, 0, Settings(batch_size=20)).config())
    lam = float(network.partition(", lam ")[2] or 0.5)
    kinds = {"dense": "dense" in network, "resistive": "resistive" in network, "lifted": "lifted" in network}
    kind = next((name for name, found in kinds.items() if found), "mlp" if lam == 0.5 else "hopfield")
    chosen = {"network": kind, "lam": None if kind in ("resistive", "lifted") else lam}
    result = {"network": network, "chosen": chosen, "relaxation": {"iterations": iterations}}
    folder.write_json(path / folder.RESULT, result)
    return path


def test_it_prints_two_columns_and_writes_what_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = ("--substrate", "optical", "--inputs", 100, "--hidden", 990, "--out", tmp_path / "cost")
    code, out, err = run(capsys, *words)
    assert (code, err) == (0, "")
    for told in ("100-990-10 (hopfield)", "built", "projected, assumed", "8.9 us", "30 ns", "200 nJ", "written: "):
        assert told in out
    record = json.loads((tmp_path / "cost" / "estimate.json").read_text())
    (latency,) = (
        cost
        for cost in record["costs"]
        if (cost["task"], cost["part"], cost["column"]) == ("inference", "relaxation", "built")
    )
    assert latency["low"] == latency["high"] == pytest.approx(1e-6)
    assert "Nature 2025" in latency["source"]
    assert (record["substrate"], record["rule"], record["workload"]["batch"]) == ("optical", "dyadic", 100)


def test_a_file_that_is_there_is_not_replaced_unasked(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run(capsys, "--out", tmp_path)[0] == 0
    code, _, err = run(capsys, "--out", tmp_path, "--bits", 9)
    assert (code, "add --overwrite" in err) == (2, True)
    assert run(capsys, "--out", tmp_path, "--bits", 9, "--overwrite")[0] == 0


def test_what_is_given_is_taken(capsys: pytest.CaptureFixture[str]):
    given = ("--conductance", 1, 1, "--drop", 0.1, 0.1, "--settling", 100, 100)
    _, out, _ = run(capsys, *given, "--hidden", 512, "--rule", "equilibrium-propagation")
    assert "808 pJ" in out  # 1568 x 512 + 512 x 10 devices at 1 fJ
    assert "conductance of a device: 1 uS (assumed; as given)" in out


@pytest.mark.parametrize(
    ("network", "rule", "iterations", "passes", "kind"),
    [
        ("64-128-128-10, lam 1", "equilibrium-propagation", 90, 45, "hopfield"),
        ("64-128-10, lam 0", "dyadic", 90, 90, "hopfield"),
        ("dense 64-58-10, symmetric", "contrastive-hebbian", 90, 45, "dense"),
        ("64-128-10", "dual-propagation", 1, 1, "mlp"),
        ("64-128-10", "dual-propagation:schedule=random-order,passes=10", 10, 10, "mlp"),
        ("64-128-10, resistive", "equilibrium-propagation", 12, 6, "hopfield"),
    ],
)
def test_a_runs_own_network_rule_and_passes(
    network: str, rule: str, iterations: float, passes: float, kind: str, tmp_path: Path, capsys
):
    path = finished(tmp_path / "run", network, rule, iterations)
    assert run(capsys, path, "--substrate", "digital", "--out", tmp_path / "cost")[0] == 0
    work = json.loads((tmp_path / "cost" / "estimate.json").read_text())["workload"]
    widths = [int(width) for width in network.removeprefix("dense ").split(",")[0].split("-")]
    assert (work["widths"], work["network"], work["passes"], work["batch"]) == (widths, kind, passes, 20)


def test_what_is_said_comes_before_what_a_run_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = finished(tmp_path / "run", "64-128-10, lam 1")
    _, out, _ = run(capsys, path, "--batch-size", 3, "--passes", 7, "--rule", "dyadic", "--substrate", "optical")
    assert "64-128-10 (hopfield)" in out
    assert "dyadic, batch size 3, 7 passes a relaxation, 2 relaxations a step" in out


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("backprop", "784-512-10 (mlp) on the digital substrate; backprop, batch size 100, 1 pass a relaxation"),
        (
            "dual-propagation",
            "dual-propagation, batch size 100, 1 pass a relaxation, 1 relaxation a step",
        ),
        ("dual-propagation:schedule=random-order,passes=10", "10 passes a relaxation, 1 relaxation a step"),
        ("equilibrium-propagation", "784-512-10 (hopfield) on the digital substrate; equilibrium-propagation"),
    ],
)
def test_a_rule_is_costed_on_the_network_that_it_trains(rule: str, told: str, capsys: pytest.CaptureFixture[str]):
    assert told in run(capsys, "--substrate", "digital", "--rule", rule)[1]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--conductance -1 2", "a range must begin above 0, not at -1"),
        ("--conductance 3 2", "conductance of a device must be a range"),
        ("--bits 0", "1 to 24 bits"),
        ("--hidden 0", "at least 1 unit"),
        ("--inputs 0", "at least 1 unit"),
        ("--passes 0", "must be at least 1"),
        ("--batch-size 0", "must be at least 1"),
        ("--substrate optical --drop 1 2", "drop is of circuits: the optical substrate has none"),
        ("--substrate optical --rule backprop", "backprop needs derivatives"),
        ("--rule backprop --network hopfield", "Backprop is for networks without feedback, mlp, not hopfield"),
        ("--rule dual-propagation --network dense", "DualPropagation is for networks without feedback, mlp, not dense"),
        ("--rule dual-propagation", "a resistive network has feedback"),
        ("--substrate gyrator --rule equilibrium-propagation", "no energy to learn from"),
        ("--network mlp", "a resistive network has feedback"),
        ("--rule lrrn", "LRRN has no estimate"),
        ("--rule hebb", "there is no rule 'hebb'"),
        ("--substrate abacus", "invalid choice 'abacus'"),
        ("nowhere", "nowhere"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(words: str, told: str, capsys: pytest.CaptureFixture[str]):
    code, out, err = run(capsys, *words.split())
    assert (code, out) == (2, "")
    assert told in err
    assert err.count("\n") == 1


def test_runs_without_an_estimate_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert "linear layers only" in run(capsys, finished(tmp_path / "a", "cnn (4 stages)"))[2]
    assert "linear layers only" in run(capsys, finished(tmp_path / "b", "64-128-10, lifted", "lrrn"))[2]
    assert "LRRN has no estimate" in run(capsys, finished(tmp_path / "d", "64-128-10", "lrrn"))[2]
    (finished(tmp_path / "c", "64-128-10") / folder.RESULT).unlink()
    assert "has no result yet" in run(capsys, tmp_path / "c")[2]


def test_the_how_to_shows_what_the_command_prints(capsys: pytest.CaptureFixture[str]):
    page = (Path(__file__).parent.parent / "docs/how-to/estimate-energy-and-latency.md").read_text()
    shown = re.search(r"\$ dyadnet estimate (.*)\n([^$`]+)```", page)
    assert shown is not None
    code, out, _ = run(capsys, *shown[1].split())
    assert (code, out) == (0, shown[2])
