"""A chip changes nothing where its device is perfect, and what it should where it is not."""

import itertools
from dataclasses import replace
from math import sqrt

import pytest
import torch

from dyadnet import Backprop, DualPropagation, EquilibriumPropagation, Lagrangian, RecurrentBackprop
from dyadnet.hardware.chip import Chip, OnChip
from dyadnet.hardware.device import Device
from dyadnet.hardware.synapses import Synapses
from dyadnet.hardware.teaching import Teaching
from dyadnet.hardware.units import Reading, Units
from dyadnet.hardware.updates import Updates
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.state import Activity
from dyadnet.rule.base import AbstractRule, Estimate
from tests.hardware.specimens import LOSS, batch, cases, layered

READ = {name for name in cases() if name != "backprop"}


def flat(step: Estimate) -> torch.Tensor:
    return torch.cat([g.flatten() for g in step.grads.values()])


def on_chip(name: str, device: Device, seed: int = 0, draw: int = 0) -> torch.Tensor:
    rule, net = cases()[name]
    generator = torch.Generator().manual_seed(draw)
    return flat(OnChip(rule, Chip(device, net, seed)).estimate(net, LOSS, *batch(), generator=generator))


@pytest.mark.parametrize("name", cases())
def test_a_perfect_device_changes_no_bit(name: str) -> None:
    rule, net = cases()[name]
    clean = rule.estimate(net, LOSS, *batch(), generator=torch.Generator().manual_seed(0))
    assert torch.equal(on_chip(name, Device()), flat(clean))


@pytest.mark.parametrize("name", sorted(READ))
def test_read_noise_reaches_every_rule_and_goes_with_its_size(name: str) -> None:
    clean = on_chip(name, Device())
    far = [(on_chip(name, Device(reading=Reading(noise=size))) - clean).norm() for size in (1e-4, 1e-5, 1e-6)]
    assert far[0] > 0
    for larger, smaller in itertools.pairwise(far):
        assert larger / smaller == pytest.approx(10, rel=0.05)


@pytest.mark.parametrize("name", cases())
def test_weights_of_the_chip_reach_every_rule_and_those_wanted_stay(name: str) -> None:
    rule, net = cases()[name]
    before = [p.clone() for p in net.parameters()]
    chip = Chip(Device(synapses=Synapses(mismatch=0.1)), net)
    clean = flat(rule.estimate(net, LOSS, *batch()))
    assert not torch.allclose(flat(OnChip(rule, chip).estimate(net, LOSS, *batch())), clean, rtol=1e-3)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


def test_weights_come_back_after_an_error() -> None:
    net = layered(0.5)
    before, chip = net.stages[0].parameters()[0].clone(), Chip(Device(synapses=Synapses(bits=2)), net)

    def interrupted() -> None:
        with chip.written():
            assert not torch.equal(net.stages[0].parameters()[0], before)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        interrupted()
    assert torch.equal(net.stages[0].parameters()[0], before)


@pytest.mark.parametrize(
    "device",
    [
        Device(reading=Reading(noise=0.01)),
        Device(synapses=Synapses(programming=(0.02,))),
        Device(units=Units(agitation=0.01, passes=10)),
        Device(teaching=Teaching(target=0.1)),
    ],
    ids=lambda device: next(iter(device.sources())),
)
def test_what_differs_from_time_to_time_follows_the_generator(device: Device) -> None:
    name = "equilibrium propagation"
    assert torch.equal(on_chip(name, device, draw=3), on_chip(name, device, draw=3))
    assert not torch.equal(on_chip(name, device, draw=3), on_chip(name, device, draw=4))
    assert torch.equal(on_chip(name, device, seed=1, draw=3), on_chip(name, device, seed=2, draw=3))


def gradients_of_a_loop(chip: Chip, seed: int | None, net: AbstractNetwork, steps: int) -> torch.Tensor:
    """The gradients that a plain loop adds, one row a step."""
    rule, (x, y), found = OnChip(EquilibriumPropagation(), chip, seed), batch(), []
    for _ in range(steps):
        net.zero_grad()
        rule.backward(net, LOSS, x, y)
        found.append(torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None]))
    return torch.stack(found)


def test_a_plain_loop_has_new_noise_in_every_step_which_averages_out_and_comes_again_with_the_specimen() -> None:
    net, device, steps = layered(1.0), Device(reading=Reading(noise=0.01)), 64
    first, again, other = (gradients_of_a_loop(Chip(device, net, seed), None, net, steps) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len({float(row.norm()) for row in first}) == steps
    clean = gradients_of_a_loop(Chip(Device(), net), None, net, 1)[0]
    once, mean = (first - clean).norm(dim=1).mean(), (first.mean(0) - clean).norm()
    assert float(once / mean) == pytest.approx(8, rel=0.35)  # the root of 64; of some dozen gradients


def test_with_a_seed_the_noise_of_all_steps_is_one() -> None:
    net, device = layered(1.0), Device(reading=Reading(noise=0.01))
    chip = Chip(device, net, 1)
    found = gradients_of_a_loop(chip, 3, net, 4)
    assert torch.equal(found, found[:1].expand_as(found))
    assert torch.equal(chip.generator.get_state(), Chip(device, net, 1).generator.get_state())
    handed = OnChip(EquilibriumPropagation(), chip).estimate(
        net, LOSS, *batch(), generator=torch.Generator().manual_seed(3)
    )
    assert torch.equal(flat(handed), found[0])


@pytest.mark.parametrize(
    "device",
    [
        Device(synapses=Synapses(mismatch=0.05)),
        Device(synapses=Synapses(twin=0.05)),
        Device(synapses=Synapses(stuck=0.2)),
        Device(synapses=Synapses(drift=0.05, drift_spread=0.02, age=100)),
        Device(units=Units(gain=0.1)),
        Device(units=Units(offset=0.1)),
        Device(teaching=Teaching(strength=0.1)),
    ],
    ids=lambda device: next(iter(device.sources())),
)
def test_what_differs_from_specimen_to_specimen_follows_the_seed(device: Device) -> None:
    name = "equilibrium propagation"
    assert torch.equal(on_chip(name, device, seed=1, draw=3), on_chip(name, device, seed=1, draw=4))
    assert not torch.equal(on_chip(name, device, seed=1), on_chip(name, device, seed=2))
    assert not torch.equal(on_chip(name, device, seed=1), on_chip(name, Device()))


@pytest.mark.parametrize("name", ["equilibrium propagation", "dual propagation"])
def test_averaged_readings_err_less_by_the_root_of_their_number(name: str) -> None:
    def spread(reads: int) -> float:
        device = Device(reading=Reading(noise=1e-3, reads=reads))
        drawn = torch.stack([on_chip(name, device, draw=draw) for draw in range(60)])
        return float(drawn.var(0).sum().sqrt())

    # 60 draws of some dozen gradients: the ratio of standard deviations is within 10 % with 99 %
    assert spread(1) / spread(16) == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("beta", [0.05, 0.5])
def test_noise_on_states_counts_over_beta(beta: float) -> None:
    """Each phase is read with noise; the contrast is divided by `2 beta`."""
    net, noise = layered(1.0), 1e-4
    rule, (x, y) = EquilibriumPropagation(beta), batch()
    chip = Chip(Device(reading=Reading(noise=noise)), net)
    last = net.stages[-1].parameters()[1]  # a bias learns the mean of the output's difference alone
    drawn = torch.stack(
        [
            OnChip(rule, chip).estimate(net, LOSS, x, y, generator=torch.Generator().manual_seed(i)).grads[last]
            for i in range(120)
        ]
    )
    expected = noise * sqrt(2) / (2 * beta) / sqrt(len(x))
    # 360 values: their standard deviation is within 12 % with 99.9 %
    assert float(drawn.std(0).square().mean().sqrt()) == pytest.approx(expected, rel=0.12)


def test_a_stronger_nudge_bears_more_noise() -> None:
    net, device = layered(1.0), Device(reading=Reading(noise=0.05))

    def agreement(rule: AbstractRule) -> float:
        exact, found = (r.estimate(net, LOSS, *batch()) for r in (RecurrentBackprop(), OnChip(rule, Chip(device, net))))
        return float(torch.cosine_similarity(flat(exact), flat(found), 0))

    assert agreement(EquilibriumPropagation(0.5)) > agreement(EquilibriumPropagation(0.05))


def test_too_strong_a_nudge_by_error() -> None:
    """Errors of strength act as that strength would, where the weights of the phases are not changed."""
    net, (x, y), beta = layered(1.0), batch(), 1e-3
    chip = Chip(Device(teaching=Teaching(strength=0.3)), net)
    drawn = torch.randn(2, generator=torch.Generator().manual_seed(chip.of_teaching), dtype=torch.get_default_dtype())
    towards = 1 + 0.3 * float(drawn[0])
    rule = EquilibriumPropagation(beta, variant="positive")
    off = flat(OnChip(rule, chip).estimate(net, LOSS, x, y))
    actual = flat(EquilibriumPropagation(beta * towards, variant="positive").estimate(net, LOSS, x, y)) * towards
    torch.testing.assert_close(off, actual, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["lagrangian", "dual propagation", "recurrent backprop", "equilibrium propagation"])
def test_a_loss_of_ones_own_is_taught_as_the_same_one_of_the_library_is(name: str) -> None:
    rule, net = cases()[name]
    x, y = batch()
    chip = Chip(Device(teaching=Teaching(strength=0.1, target=0.1)), net)

    def own(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (output - torch.nn.functional.one_hot(y, 3)).square().sum(1) / 2

    ours, theirs = (flat(OnChip(rule, chip, seed=0).estimate(net, loss, x, y)) for loss in (own, LOSS))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["equilibrium propagation", "equilibrium propagation, positive", "contrastive hebbian"]
)
def test_two_circuits_side_by_side(name: str) -> None:
    """The phases of a contrast settle on weights that differ, and not by the nudge alone."""
    clean, off = on_chip(name, Device()), on_chip(name, Device(synapses=Synapses(twin=0.01)))
    assert (off - clean).norm() > 0.002 * clean.norm()
    less = on_chip(name, Device(synapses=Synapses(twin=0.001)))
    assert (less - clean).norm() == pytest.approx(float((off - clean).norm()) / 10, rel=0.1)


def test_the_free_phase_of_two_circuits_runs_on_the_first() -> None:
    rule, net = EquilibriumPropagation(0.1, "positive"), layered(1.0)
    (x, y), chip = batch(), Chip(Device(synapses=Synapses(twin=0.1)), net)
    step = OnChip(rule, chip).estimate(net, LOSS, x, y)
    torch.testing.assert_close(step.output, net(x).detach())
    with chip.beside():
        second = net.relax(x).states[-1].mean()
        nudged = EquilibriumPropagation(0.1, "positive").estimate(net, LOSS, x, y)
    assert not torch.allclose(second, step.output, rtol=1e-3)
    assert not torch.allclose(flat(nudged), flat(step), rtol=1e-2)


def test_offsets_are_added_in_units_of_the_estimate() -> None:
    rule, net = DualPropagation(), layered(0.5)
    clean = rule.estimate(net, LOSS, *batch()).grads
    chip = Chip(Device(updates=Updates(offset=0.1)), net, grads=clean)
    off = OnChip(rule, chip).estimate(net, LOSS, *batch()).grads
    for p, g in clean.items():
        moved = off[p] - g
        if p.dim() == 1:
            assert not moved.any()
        else:
            assert 0.05 < float(moved.square().mean().sqrt() / g.square().mean().sqrt()) < 0.15
    with pytest.raises(ValueError, match="hand in an estimate"):
        Chip(Device(updates=Updates(offset=0.1)), net)


def test_a_prediction_is_that_of_the_chip() -> None:
    net, (x, _) = layered(0.5), batch()
    chip = Chip(Device(synapses=Synapses(bits=3), units=Units(gain=0.1)), net)
    with chip.written():
        circuit = chip.circuit(net, torch.Generator())
        slow = x
        for k, stage in enumerate(net.stages, 1):
            assert circuit.substrate is not None
            slow = stage.activation.f(circuit.substrate.received(k, stage.map(slow)))
    torch.testing.assert_close(chip.predict(net, x), slow.detach())


def test_agitation_has_the_stationary_variance_that_is_stated() -> None:
    """A unit that hears nothing, moved 4000 times by steps of 0.3."""
    net = layered(1.0)
    chip = Chip(Device(units=Units(agitation=0.2, passes=1)), net)
    substrate = chip.circuit(net, torch.Generator().manual_seed(0)).substrate
    assert substrate is not None
    state, seen = Activity(torch.zeros(64, 8)), []
    for number in range(400):
        state = substrate.moved(1, Activity(0.7 * state.mean()), 0.3)
        if number >= 50:
            seen.append(state.mean())
    # 512 independent chains: the variance is known to within 2 % with 99.9 %
    assert float(torch.stack(seen).var()) == pytest.approx(0.04, rel=0.03)


def test_the_relaxation_is_cut_off() -> None:
    net = layered(1.0)
    chip = Chip(Device(units=Units(passes=3)), net)
    step = OnChip(EquilibriumPropagation(), chip).estimate(net, LOSS, *batch())
    assert step.passes == 6


def test_a_ratio_of_backpropagation_in_messages_bears_what_autograd_does_not_meet() -> None:
    net = layered(0.5)
    device = Device(units=Units(offset=0.1))
    off = flat(OnChip(Lagrangian(), Chip(device, net)).estimate(net, LOSS, *batch()))
    assert not torch.allclose(off, flat(Lagrangian().estimate(net, LOSS, *batch())))


def test_sources_are_named() -> None:
    device = replace(Device(), reading=Reading(noise=0.1)).replaced(**{"synapses.bits": 3})
    agitated = {"units.agitation": 0.1, "units.passes": 9}  # the first may only go with the second
    assert Device().replaced(**agitated).sources() == agitated
    assert device.sources() == {"synapses.bits": 3, "reading.noise": 0.1}
    with pytest.raises(ValueError, match=r"no setting 'reading\.colour'"):
        device.replaced(**{"reading.colour": 1})


def test_a_chip_carries_the_network_that_it_was_made_for_and_no_other() -> None:
    net, other, (x, y) = layered(1.0), layered(1.0), batch()
    rule = OnChip(EquilibriumPropagation(), Chip(Device(synapses=Synapses(bits=2)), net))
    with pytest.raises(ValueError, match="the chip holds the weights of another network"):
        rule.estimate(other, LOSS, x, y)
    rule.estimate(net.with_lam(0.75), LOSS, x, y)  # shares them


def test_backpropagation_has_no_units_that_could_be_imperfect() -> None:
    net = layered(0.5)
    with pytest.raises(ValueError, match="backprop meets no units, readings or nudges, only weights: take lagrangian"):
        OnChip(Backprop(), Chip(Device(reading=Reading(noise=0.5)), net))
    with pytest.raises(ValueError, match="backprop meets no units, readings or nudges"):
        OnChip(Backprop(), Chip(Device(teaching=Teaching(target=0.5)), net))
    OnChip(Backprop(), Chip(Device(synapses=Synapses(bits=4)), net))
