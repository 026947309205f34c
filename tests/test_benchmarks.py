"""The benchmarks run, read memory rightly, time the right computation, and their tables say what was stored."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from benchmarks import packed, predictive_coding
from benchmarks.cases import Case, bench
from benchmarks.compiled import compiled_step
from benchmarks.memory import in_a_fresh_process, measurable, peak
from benchmarks.predictive_coding import products
from benchmarks.tables import markdown
from dyadnet import DualPropagation
from dyadnet.names import rule

ROOT = Path(__file__).parent.parent
CPU = torch.device("cpu")
SMALL = Case(8, (6, 5))
CONVOLUTIONAL = Case(3, (7,), ((4, 2), (5, 1)))
ALPHAS = [0.0, 0.5, 1.0]
readable = pytest.mark.skipif(not measurable(CPU), reason="the peak of resident memory is read on Linux only")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.step", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_quick_run_stores_and_prints_finite_positive_ratios(tmp_path: Path) -> None:
    out = tmp_path / "new" / "step.json"
    done = run("--quick", "--device", "cpu", "--threads", "1", "--out", str(out))
    assert done.returncode == 0, done.stderr
    stored = json.loads(out.read_text())
    assert stored["settings"]["quick"]
    assert stored["environment"]["threads"] == 1
    assert {"eager", "batch", "schedules"} <= {row["section"] for row in stored["rows"]}
    for row in stored["rows"]:
        for spread in (row["ratio"], row.get("ms") or row["mb"]):
            assert 0 < spread["low"] <= spread["median"] <= spread["high"] < math.inf
        assert row["rule"] != "backprop" or row["ratio"]["median"] == 1
    assert "alpha=0.5" in done.stdout
    assert "One training step, eager" in markdown(out)


def test_an_unknown_device_is_one_line() -> None:
    done = run("--quick", "--device", "abacus")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "abacus" in done.stderr


@readable
@pytest.mark.parametrize("megabytes", [50, 200])
def test_the_peak_is_what_an_action_holds_at_once(megabytes: int) -> None:
    found = peak(lambda: torch.ones(megabytes * 250_000), CPU)
    assert found / 1e6 == pytest.approx(megabytes, abs=8)


@readable
def test_the_peak_counts_neither_what_came_before_nor_what_was_freed_in_between() -> None:
    torch.ones(75_000_000)  # 300 MB, gone when the measurement begins

    def twice() -> None:
        for _ in range(2):
            torch.ones(25_000_000)

    assert peak(twice, CPU) / 1e6 == pytest.approx(100, abs=8)


@readable
def test_training_a_larger_network_takes_more_memory_by_its_weights_gradients_and_momenta() -> None:
    widths = (1000, 3000)
    weights = [784 * width + width + 10 * width + 10 for width in widths]
    found = [in_a_fresh_process(Case(1, (width,)), "backprop", CPU) for width in widths]
    assert found[1] - found[0] == pytest.approx(3 * 4 * (weights[1] - weights[0]), rel=0.1)


@pytest.mark.parametrize("case", [SMALL, CONVOLUTIONAL])
def test_the_baseline_is_the_usual_loop(case: Case) -> None:
    shared = bench(case, CPU)
    before = [p.detach().clone() for p in shared.model.parameters()]
    loss = nn.functional.cross_entropy(shared.model(shared.x), shared.y)
    grads = torch.autograd.grad(loss, list(shared.model.parameters()))
    shared.step("backprop")()
    for parameter, old, grad in zip(shared.model.parameters(), before, grads, strict=True):
        torch.testing.assert_close(parameter.detach(), old - 1e-4 * grad)


def test_a_compiler_that_changes_the_gradients_is_refused() -> None:
    shared = bench(SMALL, CPU)
    learn = DualPropagation(alpha=0.5)
    compiled_step(shared, learn, compiler=lambda graph: graph)()
    with pytest.raises(ArithmeticError, match=r"alpha=0\.5.* are off by"):
        compiled_step(shared, learn, compiler=lambda graph: lambda x, y: [1.1 * part for part in graph(x, y)])


def test_names_of_rules_and_networks_are_those_of_the_command_line() -> None:
    from benchmarks.step import DEEP, RULES, SCHEDULES, VGG16

    for name in RULES + SCHEDULES:
        rule(name)
    assert DEEP.network == "784-1000x4-10"
    assert VGG16.network == "conv 64x2-128x2-256x3-512x3-512x3, 4096x2-10"


def test_products_of_lifted_rules_are_those_that_their_steps_need() -> None:
    """784-6-5-10: the input weights as often as in backpropagation, the next ones up and down in every step."""
    batch, (first, hidden, last) = SMALL.batch, (784 * 6, 6 * 5, 5 * 10)
    steps = predictive_coding.steps_of(SMALL)
    assert products(steps["backprop"]) == batch * (2 * first + 3 * hidden + 3 * last)
    for T in (8, 20):
        up, down = 1 + (T - 2) + 1, T - 1  # the forward pass, every step but two, the gradient; every step but one
        own = batch * (2 * first + (up + down + 1) * hidden)
        found = products(steps[f"predictive coding, T={T}, clamped"])
        assert own <= found <= own + batch * (2 * T + 3) * last


def test_a_quick_run_of_the_lifted_rules_stores_and_prints_them(tmp_path: Path) -> None:
    out, console, threads = tmp_path / "new" / "lifted.json", Console(record=True, width=160), torch.get_num_threads()
    predictive_coding.main(predictive_coding.Settings(out, quick=True), console)
    torch.set_num_threads(threads)
    stored = json.loads(out.read_text())
    assert [row["rule"] for row in stored["rows"]] == ["backprop", *predictive_coding.RULES]
    for row in stored["rows"]:
        assert 0 < row["ratio"]["low"] <= row["ratio"]["median"] <= row["ratio"]["high"] < math.inf
        assert row["products"] >= 1
    assert "predictive coding, T=8, clamped" in console.export_text()
    assert "products" in markdown(out)


def test_a_quick_run_of_packed_layers_stores_and_prints_them(tmp_path: Path) -> None:
    out, console, threads = tmp_path / "new" / "packed.json", Console(record=True, width=160), torch.get_num_threads()
    packed.main(packed.Settings(out, quick=True), console)
    torch.set_num_threads(threads)
    stored = json.loads(out.read_text())
    assert [row["section"] for row in stored["rows"]] == ["linear"] * 5 + ["convolution"] * 2
    for row in stored["rows"]:
        assert {"tiles"} <= set(row["speedups"]) <= {"tiles", "compiled"}
        for spread in (*row["speedups"].values(), *row["ms"].values()):
            assert 0 < spread["low"] <= spread["median"] <= spread["high"] < math.inf
    assert stored["rows"][0]["smaller"] == 32
    assert "4x4x3x3 on 5x5" in console.export_text()
    assert "| Layer | Batch | float, ms | tiles, speedup |" in markdown(out)


def test_a_packed_layer_that_computes_something_else_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    section, layer, x = next(packed.layers(packed.Settings(quick=True)))
    monkeypatch.setattr(packed, "pack", lambda layer: lambda x: 1.1 * layer(x))
    with pytest.raises(ArithmeticError, match="does not compute what the float layer does"):
        packed.measure(section, layer, x, packed.Settings(quick=True))


def row(section: str, name: str, median: float, ratio: float, **other: Any) -> dict[str, Any]:
    unit = "mb" if section == "memory" else "ms"
    spread = {"low": ratio - 0.01, "median": ratio, "high": ratio + 0.02}
    at = {"section": section, "network": "784-9-10", "batch": 5, "rule": name}
    return at | {unit: {"low": 0, "median": median, "high": 99}, "ratio": spread} | other


def test_markdown_has_a_line_a_network_and_a_column_a_rule(tmp_path: Path) -> None:
    path = tmp_path / "step.json"
    where = {"processor": "Abacus", "threads": 1, "cores": 2, "device": "cpu", "torch": "2", "commit": "abc"}
    rows = [
        row("eager", "backprop", 12.34, 1),
        row("eager", "dual-propagation:alpha=0", 13.0, 1.05),
        row("eager", "backprop", 123.4, 1, batch=7),
        row("eager", "dual-propagation:alpha=0", 130.0, 1.5, batch=7),
        row("schedules", "backprop", 1.234, 1),
        row("schedules", "dual-propagation:alpha=0,schedule=odd-even", 2.0, 2.5),
        row("memory", "backprop", 88.0, 1),
    ]
    path.write_text(json.dumps({"environment": where, "rows": rows}))
    lines = markdown(path).splitlines()
    assert lines[0] == "Abacus, 1 of 2 cores, cpu, torch 2, commit abc."
    assert "| Network | Batch | backprop, ms | alpha=0 |" in lines
    assert "| 784-9-10 | 5 | 12.3 | 1.05 (1.04-1.07) |" in lines
    assert "| 784-9-10 | 7 | 123 | 1.50 (1.49-1.52) |" in lines
    assert "| alpha=0, odd-even | 2.00 | 2.50 (2.49-2.52) |" in lines
    assert "| 784-9-10 | 5 | 88.0 |" in lines
    assert all(line == "" or line[0] in "|*A" for line in lines)


def test_the_stored_results_are_those_of_a_full_run() -> None:
    path = ROOT / "benchmarks" / "results" / "step.json"
    stored = json.loads(path.read_text())
    assert not stored["settings"]["quick"]
    sections = {row["section"] for row in stored["rows"]}
    assert sections == {"eager", "batch", "width", "depth", "schedules", "compiled", "memory"}


def test_the_optimisers_of_binary_weights_are_timed_beside_their_adam(tmp_path: Path) -> None:
    out = tmp_path / "binary.json"
    command = [sys.executable, "-m", "benchmarks.binary", "--width", "32", "--rounds", "3", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = {row["rule"]: row["ratio"]["median"] for row in json.loads(out.read_text())["rows"]}
    assert rows["fused adam"] == 1
    assert {"adaste, annealed", "adaste, annealing", "ste", "bop"} <= set(rows)
    assert "over fused adam" in markdown(out)
