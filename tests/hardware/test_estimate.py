"""Estimates of energy and latency against numbers worked out by hand."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from dyadnet import (
    LRRN,
    Backprop,
    ContrastiveHebbian,
    CoupledLearning,
    DualPropagation,
    Dyadic,
    EquilibriumPropagation,
    Layered,
    squared_error,
)
from dyadnet.audit import cost as counting
from dyadnet.audit.trace import record
from dyadnet.hardware import merits
from dyadnet.hardware.cost_of_circuits import Gyrator, Resistive, slowest, static_power
from dyadnet.hardware.cost_of_machines import Digital, Optical
from dyadnet.hardware.costs import AbstractCosts, Converters, settling_constants, thermal_capacitance, thermal_noise
from dyadnet.hardware.estimate import Estimate, estimate
from dyadnet.hardware.figure import Figure, given
from dyadnet.hardware.workload import NetworkKind, Phases, Workload, phases_of

ALL: dict[str, AbstractCosts] = {
    "resistive": Resistive(),
    "gyrator": Gyrator(),
    "optical": Optical(),
    "digital": Digital(),
}


def work(
    widths: tuple[int, ...] = (784, 512, 10),
    network: NetworkKind = "hopfield",
    passes: float = 50,
    batch: int = 16,
    phases: Phases | None = None,
) -> Workload:
    return Workload(widths, network, passes, batch, phases or Phases(2))


def point(quantity: str, value: float, unit: str) -> Figure:
    return given(quantity, value, value, unit)


def found(result: Estimate, task: str, part: str, quantity: str, column: str = "projected") -> tuple[float, float]:
    (cost,) = (
        cost
        for cost in result.costs
        if (cost.task, cost.part, cost.figure.quantity, cost.column) == (task, part, quantity, column)
    )
    return cost.figure.low, cost.figure.high


# --- worked examples ---


def test_a_crossbar_of_1568_by_512_at_a_microsiemens_and_100_mv_takes_8_mw():
    power = static_power(1568 * 512, point("g", 1e-6, "S"), point("dv", 0.1, "V"))
    assert power.low == pytest.approx(8.03e-3, rel=1e-3)
    energy = power.low * 100e-9
    assert energy == pytest.approx(0.803e-9, rel=1e-3)
    assert energy / (1568 * 512) == pytest.approx(1e-15)


def test_the_same_crossbar_with_its_outputs_in_the_whole_estimate():
    costs = Resistive(
        conductance=point("g", 1e-6, "S"), drop=point("dv", 0.1, "V"), settling=point("settling", 1e-7, "s")
    )
    result = estimate(costs, work())
    energy = (1568 * 512 + 512 * 10) * 1e-6 * 0.1**2 * 1e-7
    assert found(result, "inference", "relaxation", "energy") == pytest.approx((energy, energy))
    assert found(result, "inference", "relaxation", "latency") == pytest.approx((1e-7, 1e-7))
    assert found(result, "training step", "relaxation", "energy") == pytest.approx((32 * energy, 32 * energy))


def test_an_optical_machine_of_1000_units_takes_a_microsecond_or_30_ns_and_a_fifth_of_a_microjoule():
    result = estimate(Optical(), work((100, 990, 10)))
    assert found(result, "inference", "relaxation", "latency", "built") == pytest.approx((1e-6, 1e-6))
    assert found(result, "inference", "relaxation", "latency") == pytest.approx((30e-9, 30e-9))
    assert found(result, "inference", "relaxation", "energy") == pytest.approx((0.2e-6, 0.2e-6))
    assert found(result, "inference", "read-out", "latency", "built") == pytest.approx((8.9e-6, 8.9e-6))


def test_eight_bits_need_three_femtofarads_and_a_picofarad_has_64_microvolts_of_noise():
    assert thermal_capacitance(8) == pytest.approx(3.26e-15, rel=1e-3)
    assert thermal_capacitance(12) == pytest.approx(0.83e-12, rel=0.01)
    assert thermal_capacitance(8, swing=2.0) == pytest.approx(thermal_capacitance(8) / 4)
    assert [thermal_noise(c) for c in (1e-12, 1e-13, 1e-14)] == pytest.approx([64e-6, 203e-6, 643e-6], rel=0.01)
    noise, needed = Resistive().bounds(work())
    assert (noise.low, noise.high) == pytest.approx((64.4e-6, 203.5e-6), rel=1e-3)
    assert needed.low == pytest.approx(3.26e-15, rel=1e-3)


# --- formulas ---


def test_a_resistive_network_settles_with_its_slowest_pattern_and_its_energy_knows_no_conductance():
    costs = Resistive(conductance=point("g", 2e-6, "S"), capacitance=point("C", 1e-12, "F"), drop=point("v", 0.05, "V"))
    result, k = estimate(costs, work()), math.log(1e3)
    rate = (1578 + 512) / 2 - math.sqrt(((1578 - 512) / 2) ** 2 + 512 * 10)  # of [[1578, -a], [-a, 512]], a^2 = 5120
    latency = k * 1e-12 / (rate * 2e-6)
    assert found(result, "inference", "relaxation", "latency") == pytest.approx((latency, latency))
    devices = 2 * 784 * 512 + 512 * 10
    energy = devices * 2e-6 * 0.05**2 * latency
    assert found(result, "inference", "relaxation", "energy") == pytest.approx((energy, energy))
    quicker = estimate(replace(costs, conductance=point("g", 8e-6, "S")), work())
    assert found(quicker, "inference", "relaxation", "energy") == pytest.approx((energy, energy))


@pytest.mark.parametrize("settling", [None, 1e-7])
def test_a_gyrator_network_dissipates_in_leaks_and_transconductors_until_the_leaks_have_settled_it(
    settling: float | None,
):
    costs = Gyrator(
        leak=point("g", 1e-6, "S"),
        gyration=point("gamma", 3e-6, "S"),
        drop=point("v", 0.1, "V"),
        supply=point("V", 1.0, "V"),
        capacitance=point("C", 1e-12, "F"),
        settling=None if settling is None else point("settling", settling, "s"),
    )
    result = estimate(costs, work((4, 3, 2)))
    latency = math.log(1e3) * 1e-6 if settling is None else settling
    assert found(result, "inference", "relaxation", "latency")[0] == pytest.approx(latency)
    leaks = 5 * 1e-6 * 0.1**2 * latency
    assert found(result, "inference", "relaxation", "energy of leaks")[0] == pytest.approx(leaks)
    amplifiers = (4 * 3 + 2 * 3 * 2) * 3e-6 * 0.1 * 1.0 * latency
    assert found(result, "inference", "relaxation", "energy of couplings")[0] == pytest.approx(amplifiers)


def test_a_step_takes_all_samples_and_phases_one_after_another_and_writes_once():
    small = work((4, 3, 2), batch=7, phases=Phases(3))
    result = estimate(Resistive(), small)
    once, step = (found(result, task, "relaxation", "latency") for task in ("inference", "training step"))
    assert step == pytest.approx(tuple(21 * end for end in once))
    converters = Converters(8)
    reads = 21 * 5 * 256 * converters.step.low
    assert found(result, "training step", "read-out", "energy")[0] == pytest.approx(reads)
    inputs = 7 * 2 * 4 * 256 * converters.step.low
    assert found(result, "training step", "inputs", "energy")[0] == pytest.approx(inputs)
    writes = (2 * 4 * 3 + 3 * 2) * merits.WRITE.high
    assert found(result, "training step", "update", "energy")[1] == pytest.approx(writes)
    assert found(result, "training step", "update", "latency")[1] == pytest.approx((8 + 5) * merits.ROW.high)


def test_a_bit_more_doubles_the_energy_of_converters():
    eight, nine = (
        found(estimate(Resistive(converters=Converters(bits)), work()), "inference", "read-out", "energy")
        for bits in (8, 9)
    )
    assert nine == pytest.approx(tuple(2 * end for end in eight))


def test_a_digital_computer_takes_two_operations_a_product():
    result = estimate(Digital(), work((784, 512, 10), passes=50, batch=1, phases=Phases(2)))
    products = 784 * 512 + 50 * 2 * 512 * 10
    assert found(result, "inference", "relaxation", "energy") == pytest.approx(
        (2 * products / 5e12, 2 * products / 4e12)
    )
    gradient = 2 * 2 * (784 * 512 + 512 * 10)
    assert found(result, "training step", "update", "energy of gradient")[1] == pytest.approx(gradient / 4e12)


def test_weights_do_not_learn_from_a_free_phase_between_two_nudged_ones():
    gradients = {
        variant: found(
            estimate(
                Digital(), work((784, 512, 10), phases=phases_of(EquilibriumPropagation(variant=variant), "hopfield"))
            ),
            "training step",
            "update",
            "energy of gradient",
        )
        for variant in ("centred", "positive")
    }
    assert gradients["centred"] == pytest.approx(gradients["positive"])


def test_backpropagation_takes_three_times_a_forward_pass_but_for_the_errors_of_inputs():
    chain = work((784, 512, 10), "mlp", 1, 1, phases_of(Backprop(), "mlp"))
    result = estimate(Digital(), chain)
    forward = found(result, "training step", "relaxation", "energy")[0]
    gradient = found(result, "training step", "update", "energy of gradient")[0]
    weights, first = 784 * 512 + 512 * 10, 784 * 512
    assert (forward + gradient) * 5e12 / 2 == pytest.approx(3 * weights - first)


@pytest.mark.parametrize("rule", [Backprop(), DualPropagation()], ids=["backprop", "dual-propagation"])
@pytest.mark.parametrize("widths", [(7, 5, 3), (6, 5, 4, 3)])
def test_a_step_takes_a_digital_computer_the_products_that_are_counted_when_it_is_made(widths, rule):
    layers = [nn.Linear(*pair) for pair in pairwise(widths)]
    parts = [part for layer in layers[:-1] for part in (layer, nn.ReLU())]
    net = Layered.from_sequential(nn.Sequential(*parts, layers[-1]))
    x, y = torch.rand(4, widths[0]), torch.rand(4, widths[-1])
    _, trace = record(lambda: rule.estimate(net, squared_error, x, y))
    costs = Digital(efficiency=point("operations a joule", 2.0, "Op/J"))  # a joule a product
    result = estimate(costs, work(widths, "mlp", 1, 4, phases_of(rule, "mlp")))
    counted = found(result, "training step", "relaxation", "energy")[0]
    counted += found(result, "training step", "update", "energy of gradient")[0]
    assert counted == pytest.approx(counting.cost(trace).multiply_adds)


def test_dyads_that_relax_together_take_a_digital_computer_the_products_with_inputs_once():
    dense = work((5, 7, 3), "dense", phases=Phases(1, states=2))
    assert dense.products == 50 + 2 * 50 * 90


def test_dyads_that_relax_together_take_an_optical_machine_of_twice_the_units():
    one, two = (
        found(estimate(Optical(), work(phases=p)), "training step", "relaxation", "energy")[0]
        for p in (Phases(1), Phases(1, states=2))
    )
    assert two == pytest.approx(4 * one)


def test_a_dense_network_has_all_its_couplings():
    dense = work((5, 7, 3), "dense")
    assert (dense.units, dense.couplings, dense.input_weights) == (10, 45, 50)
    assert dense.products == 50 + 50 * 90


@pytest.mark.parametrize("widths", [(7, 5, 3), (6, 5, 4, 3), (3, 9, 9, 9, 2)])
@pytest.mark.parametrize("network", ["hopfield", "dense"])
def test_the_slowest_pattern_of_voltages_is_that_of_the_conductance_matrix(widths: tuple[int, ...], network: Any):
    """Of every device and every node, inputs twice and held."""
    layer = torch.tensor([k for k, width in enumerate((2 * widths[0], *widths[1:])) for _ in range(width)])
    joined = (layer[:, None] - layer).abs() == 1
    if network == "dense":
        joined = ~torch.eye(len(layer), dtype=torch.bool)
    laplacian = joined.sum(1).diag().double() - joined.double()
    free = layer > 0
    least = torch.linalg.eigvalsh(laplacian[free][:, free])[0]
    assert slowest(work(widths, network)) == pytest.approx(float(least))


def test_activities_of_an_mlp_go_up_once_however_often_errors_go_down():
    once, often = (estimate(Digital(), work(network="mlp", passes=passes)) for passes in (1, 10))
    assert found(once, "inference", "relaxation", "energy") == found(often, "inference", "relaxation", "energy")
    steps = [found(result, "training step", "relaxation", "energy")[0] for result in (once, often)]
    assert steps[1] > steps[0]


def test_an_mlp_takes_an_optical_machine_one_turn_a_layer():
    assert work((784, 512, 512, 10), "mlp", 1).turns == 3
    assert work((784, 512, 512, 10), "hopfield", 40).turns == 40


# --- what figures are worth ---


@pytest.mark.parametrize("name", ALL)
def test_every_number_has_a_source_and_a_status_and_sums_stay_in_their_column(name: str):
    result = estimate(ALL[name], work())
    record = result.record()
    assert {cost["status"] for cost in record["costs"]} <= {"measured", "built", "projected", "assumed"}
    assert all(each["source"] and each["unit"] for each in [*record["costs"], *record["bounds"], *record["figures"]])
    for cost in result.costs:
        if cost.part == "sum":
            rows = [
                other.figure
                for other in result.costs
                if (other.task, other.column, other.figure.unit) == (cost.task, cost.column, cost.figure.unit)
                and other is not cost
            ]
            assert cost.figure.high == pytest.approx(sum(row.high for row in rows))


def test_the_optical_latency_that_was_built_never_meets_the_projected_efficiency():
    costs = estimate(Optical(), work()).costs
    for cost in costs:
        if cost.column == "built":
            assert cost.figure.unit == "s"
            assert "projected" not in cost.figure.source
    assert {cost.figure.status for cost in costs if cost.figure.unit == "J"} == {"projected", "assumed"}


# --- phases ---


@pytest.mark.parametrize(
    ("rule", "network", "phases"),
    [
        (EquilibriumPropagation(), "hopfield", Phases(3, energy=True, spared=1)),
        (EquilibriumPropagation(variant="positive"), "hopfield", Phases(2, energy=True)),
        (ContrastiveHebbian(), "dense", Phases(2, energy=True)),
        (CoupledLearning(), "hopfield", Phases(3, energy=True, spared=1)),
        (CoupledLearning(variant="positive"), "hopfield", Phases(2, energy=True)),
        (Dyadic(), "hopfield", Phases(2)),
        (Dyadic(), "dense", Phases(1, states=2)),
        (Dyadic(form="two-phase"), "dense", Phases(2)),
        (DualPropagation(), "mlp", Phases(1, states=2)),
        (Backprop(), "mlp", Phases(1, derivatives=True)),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value,
)
def test_rules_relax_their_phases(rule, network: NetworkKind, phases: Phases):
    assert phases_of(rule, network) == phases


@pytest.mark.parametrize("rule", [LRRN(), EquilibriumPropagation(variant="holomorphic")])
def test_rules_that_nothing_is_known_of_are_refused(rule):
    with pytest.raises(ValueError, match="no estimate"):
        phases_of(rule, "hopfield")


# --- what is refused ---


@pytest.mark.parametrize(
    ("name", "asked", "complaint"),
    [
        ("resistive", work(phases=Phases(1, derivatives=True)), "backprop needs derivatives"),
        ("optical", work(phases=Phases(1, derivatives=True)), "backprop needs derivatives"),
        ("resistive", work(network="mlp"), "a resistive network has feedback"),
        ("gyrator", work(network="mlp"), "a gyrator network has feedback"),
        ("resistive", work(phases=Phases(1, states=2)), "holds one state a unit"),
        ("gyrator", work(phases=Phases(3, energy=True)), "no energy to learn from"),
    ],
)
def test_what_a_substrate_cannot_do_is_refused(name: str, asked: Workload, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        estimate(ALL[name], asked)


def test_unphysical_settings_are_refused():
    for bits in (0, 25):
        with pytest.raises(ValueError, match="1 to 24 bits"):
            Converters(bits)
    for tolerance in (0.0, 1.0):
        with pytest.raises(ValueError, match=r"must lie in \(0, 1\)"):
            settling_constants(tolerance)
    for change in ({"widths": (4, 2)}, {"widths": (4, 0, 2)}, {"passes": 0.5}, {"batch": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            work(**change)  # pyright: ignore[reportArgumentType]
