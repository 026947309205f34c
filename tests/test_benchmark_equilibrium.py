"""The benchmark of equilibrium propagation: both sides compute the same, and its arithmetic is right."""

import dataclasses
import json
import math

import pytest
import torch
from rich.console import Console
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.equilibrium import Case, Settings, cases, distance, main, measure, pair
from benchmarks.textbook_ep import TextbookEP

SETTINGS = Settings(batch=8, calls=1, quick=True)
SMALL = [Case("step", widths, 15) for widths in ((20, 12, 4), (20, 12, 12, 4), (20, 12, 9, 12, 4))]
named = pytest.mark.parametrize("case", SMALL, ids=lambda case: case.network)


@named
def test_in_double_precision_the_gradients_are_the_same_in_every_parameter(case):
    ours, theirs = pair(case, SETTINGS, torch.float64).gradients()
    assert len(ours) == len(theirs) == 2 * (len(case.widths) - 1)
    assert all(distance([p], [q]) < 1e-10 for p, q in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("hidden", [(512,), (512, 512)])
def test_in_single_precision_the_gradients_agree_to_1e_5_on_the_measured_networks(hidden):
    ours, theirs = pair(Case("step", (784, *hidden, 10), 15), Settings()).gradients()
    assert distance(ours, theirs) < 1e-5


def test_the_textbook_tends_to_backpropagation_through_the_free_equilibrium():
    """With settled states and a small nudge it is d loss / d theta, here by finite differences."""
    case = Case("step", (5, 6, 3), 200)
    both = pair(case, Settings(batch=4, beta=1e-3), torch.float64)
    both.theirs()
    layer = both.textbook.layers[0]
    assert isinstance(layer, nn.Linear)
    assert layer.bias.grad is not None
    unit = int(layer.bias.grad.abs().argmax())

    @torch.no_grad()
    def loss(step: float) -> float:
        layer.bias[unit] += step
        silent = [torch.zeros(4, width, dtype=torch.float64) for width in (6, 3)]
        free = both.textbook.relax([both.x, *silent], both.y, 0.0)
        layer.bias[unit] -= step
        return float((free[-1] - both.y).square().sum() / 2 / 4)

    slope = (loss(1e-6) - loss(-1e-6)) / 2e-6
    assert abs(slope) > 1e-3
    assert float(layer.bias.grad[unit]) == pytest.approx(slope, rel=1e-4)


def test_the_textbook_adds_to_gradients():
    both = pair(SMALL[0], SETTINGS, torch.float64)
    both.theirs()
    parameters = [p for layer in both.textbook.layers for p in layer.parameters()]
    once = [p.grad.clone() for p in parameters]
    both.textbook.backward(both.x, both.y)
    assert all(torch.allclose(p.grad, 2 * first) for p, first in zip(parameters, once, strict=True))


@named
def test_the_textbook_makes_the_products_that_are_counted_and_ours_no_fewer_than_needed(case):
    both = pair(case, SETTINGS)
    flops = {}
    for name, fill in (("ours", both.ours), ("theirs", both.theirs)):
        with FlopCounterMode(display=False) as counter:
            fill()
        flops[name] = counter.get_total_flops() / 2 / SETTINGS.batch
    sizes = [below * above for below, above in zip(case.widths, case.widths[1:], strict=False)]
    hidden, steps = 2 * sum(sizes[1:]), 3 * case.iterations
    assert flops["theirs"] == steps * (sizes[0] + hidden) + 2 * sizes[0] + hidden
    needed = flops["theirs"] / case.bound()
    assert flops["ours"] >= 0.9 * needed  # the first iteration hears nothing from above
    assert flops["ours"] < flops["theirs"]


def test_ours_asks_the_inputs_a_few_times_and_the_textbook_in_every_iteration():
    wide = Case("step", (10_000, 2, 2), 15)
    both = pair(wide, SETTINGS)
    counts = {}
    for name, fill in (("ours", both.ours), ("theirs", both.theirs)):
        with FlopCounterMode(display=False) as counter:
            fill()
        counts[name] = round(counter.get_total_flops() / 2 / SETTINGS.batch / 20_000)
    assert counts["theirs"] == 3 * 15 + 2
    assert counts["ours"] <= 4


def test_another_nudge_is_noticed(monkeypatch):
    """Negative control: what computes something else is not timed."""
    both = pair(SMALL[0], SETTINGS)
    other = dataclasses.replace(both, textbook=TextbookEP(both.textbook.layers, 0.5, 15))
    monkeypatch.setattr("benchmarks.equilibrium.pair", lambda *_: other)
    with pytest.raises(ArithmeticError, match="nothing to compare"):
        measure(SMALL[0], SETTINGS)


def test_the_distance_is_relative_to_the_whole_vector():
    assert distance([torch.tensor([3.0]), torch.tensor([0.0])], [torch.tensor([3.0]), torch.tensor([4.0])]) == 0.8


def test_a_quick_run_stores_a_row_for_every_case(tmp_path):
    out = tmp_path / "deep" / "equilibrium.json"
    console = Console(record=True, width=160)
    threads = torch.get_num_threads()
    main(dataclasses.replace(SETTINGS, out=out), console)
    torch.set_num_threads(threads)
    results = json.loads(out.read_text(encoding="utf-8"))
    assert [(row["section"], row["network"], row["iterations"]) for row in results["rows"]] == [
        (case.section, case.network, case.iterations) for case in cases(SETTINGS)
    ]
    assert {row["section"] for row in results["rows"]} == {"step", "width", "depth", "iterations"}
    for row in results["rows"]:
        assert 0 < row["speedup"]["low"] <= row["speedup"]["median"] <= row["speedup"]["high"]
        assert row["difference"] < 1e-5
        assert all(math.isfinite(value) and value < 1e-3 for value in row["rounding"].values())
    assert results["environment"]["torch"] == torch.__version__
    assert str(tmp_path) not in json.dumps(results)
    printed = console.export_text()
    assert "784-16-10" in printed
    assert "Speedup" in printed
