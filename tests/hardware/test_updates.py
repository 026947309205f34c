"""Changes that devices make, against their equation; and an optimiser whose changes they make."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from dyadnet.hardware.teaching import Teaching
from dyadnet.hardware.units import Reading, Units
from dyadnet.hardware.updates import PulsedOptimizer, Updates

N = 40_000
WEIGHT = torch.ones(N, dtype=torch.float64)
"""Of root mean square 1, so that pulses are in units of the weight."""


def changed(updates: Updates, wanted: float, weight: torch.Tensor = WEIGHT) -> torch.Tensor:
    made = updates.made(WEIGHT, seed=0)
    return made.change(weight, torch.full((N,), wanted, dtype=torch.float64), torch.Generator().manual_seed(0))


def test_pulses_are_whole_and_right_on_average() -> None:
    found = changed(Updates(pulse=0.01), 0.0033)
    assert set(found.unique().tolist()) == {0.0, 0.01}
    assert float(found.mean()) == pytest.approx(0.0033, abs=4 * 0.0047 / N**0.5)


def test_a_step_has_so_many_pulses_at_most() -> None:
    assert float(changed(Updates(pulse=0.01, most=5), -1.0).min()) == pytest.approx(-0.05)


def test_pulses_differ_from_device_to_device_and_from_pulse_to_pulse() -> None:
    spread = changed(Updates(pulse=0.01, spread=0.2), 0.04)
    assert float(spread.std()) == pytest.approx(0.2 * 0.04, rel=0.015)
    noise = changed(Updates(pulse=0.01, noise=0.5), 0.04)
    assert float(noise.std()) == pytest.approx(0.01 * 0.5 * 2, rel=0.015)
    assert float(noise.mean()) == pytest.approx(0.04, abs=4 * 0.01 / N**0.5)


def test_soft_bounds() -> None:
    """At the bound nothing goes further away, and what goes back is twice as large."""
    updates = Updates(asymmetry=1.0, bound=2.0)
    assert float(changed(updates, 0.1, 2 * WEIGHT).abs().max()) == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(changed(updates, -0.1, 2 * WEIGHT), -0.2 * WEIGHT)
    torch.testing.assert_close(changed(updates, 0.1, 0 * WEIGHT), 0.1 * WEIGHT)


def test_an_optimiser_asks_and_the_devices_change() -> None:
    weight, bias = nn.Parameter(torch.ones(100)), nn.Parameter(torch.ones(3))
    base = torch.optim.SGD([weight, bias], lr=0.1)
    optimizer = PulsedOptimizer(base, {weight: Updates(pulse=0.25).made(weight, 0)})
    weight.grad, bias.grad = torch.ones(100), torch.ones(3)
    optimizer.step()
    assert torch.equal(bias, torch.full((3,), 0.9))
    assert set(weight.tolist()) == {0.75, 1.0}
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5)
    assert base.param_groups[0]["lr"] == 0.05


def test_a_resumed_optimiser_makes_the_same_changes() -> None:
    def run(stop: bool) -> torch.Tensor:
        torch.manual_seed(0)
        weight = nn.Parameter(torch.ones(50))

        def made() -> PulsedOptimizer:
            base = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
            return PulsedOptimizer(base, {weight: Updates(pulse=0.3, noise=0.1).made(torch.ones(50), 0)})

        optimizer = made()
        for number in range(4):
            if stop and number == 2:
                state = optimizer.state_dict()
                optimizer = made()
                optimizer.load_state_dict(state)
            weight.grad = torch.ones(50)
            optimizer.step()
        return weight.detach().clone()

    assert torch.equal(run(stop=False), run(stop=True))


@pytest.mark.parametrize(
    ("made", "bound"),
    [
        (lambda: Updates(pulse=-1), "updates: pulse must be zero or a positive number, not -1"),
        (lambda: Updates(noise=1), "give pulse a size"),
        (lambda: Updates(pulse=0.1, most=0), "at least 1"),
        (lambda: Updates(asymmetry=2), r"lie in \[0, 1\]"),
        (lambda: Units(bits=0), r"lie in \[2, 24\]"),
        (lambda: Units(passes=0), "at least 1"),
        (lambda: Units(agitation=0.1), "never lets states settle"),
        (lambda: Units(range=-1), "units: range must be a positive number, not -1"),
        (lambda: Reading(reads=0), "at least 1"),
        (lambda: Reading(noise=-1), "reading: noise must be zero or a positive number, not -1"),
        (lambda: Teaching(strength=-1), "teaching: strength must be zero or a positive number, not -1"),
    ],
)
def test_what_no_circuit_can_have_is_refused(made: object, bound: str) -> None:
    assert callable(made)
    with pytest.raises(ValueError, match=bound):
        made()


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))], ids=["copy", "pickle"]
)
def test_a_copied_optimiser_draws_the_same_pulses(copied: Callable[[Any], Any]) -> None:
    layer = nn.Linear(20, 30)
    made = {layer.weight: Updates(pulse=0.01, noise=0.3).made(layer.weight.detach(), seed=0)}
    optimizer = PulsedOptimizer(torch.optim.SGD(layer.parameters(), 0.1, momentum=0.9), made)
    twin, other = copied((layer, optimizer))
    for net, step in ((layer, optimizer), (twin, other)):
        for _ in range(3):
            step.zero_grad()
            net(torch.ones(4, 20)).square().sum().backward()
            step.step()
    assert torch.equal(layer.weight, twin.weight)
    assert torch.equal(layer.bias, twin.bias)
