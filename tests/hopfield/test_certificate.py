"""Certificates against dense eigenvalues, and against what relaxations do."""

from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dyadnet import BottomUp, Dense, Layered, OddEven, Parallel, RandomOrder, Sweeps
from dyadnet.activation import UnitSigmoid
from dyadnet.audit.certificate import certify
from dyadnet.energy.hopfield import HopfieldEnergy
from dyadnet.network.base import AbstractHopfield
from dyadnet.network.state import Activity
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.schedule import AbstractSchedule
from dyadnet.relax.solver import Anderson, Damped, OverRelaxed, Plain
from dyadnet.relax.stopping import Count, Residual
from hopfield import reference
from hopfield.cases import (
    DENSE,
    LAMBDAS,
    LAYERED,
    NETWORKS,
    as_reference,
    batch,
    dense,
    layered,
    mlp,
    pooled,
    strong_skew,
)

SCHEDULES: dict[str, AbstractSchedule] = {
    "odd-even": OddEven(),
    "sweeps": Sweeps(),
    "bottom-up": BottomUp(),
    "parallel": Parallel(),
}


def using(net: AbstractHopfield, schedule: AbstractSchedule, solver) -> AbstractHopfield:
    net.relaxation = Relaxation(schedule, solver)
    return net


def groups(schedule: AbstractSchedule, depth: int) -> list[tuple[int, ...]]:
    return list(schedule.one_pass(depth, torch.Generator()))


# --- margin ---


@pytest.mark.parametrize("name", NETWORKS)
def test_the_margin_is_that_of_the_dense_eigenvalues(name: str):
    net = NETWORKS[name]()
    found = certify(net, batch()[0])
    margin = reference.spectral_margin(as_reference(net), 1.0)
    assert found.margin == pytest.approx(margin, abs=1e-9)
    assert found.lipschitz_states == (pytest.approx(1 / margin) if margin > 0 else None)
    assert found.unique or margin <= 0


@pytest.mark.parametrize(
    ("activation", "slope"), [(nn.Sigmoid, 0.25), (UnitSigmoid, 1.0), (lambda: nn.LeakyReLU(2.0), 2.0)]
)
def test_the_margin_allows_for_the_steepest_activation(activation, slope: float):
    """The linear readout has slope 1."""
    model = mlp(activation, gain=0.3)
    tanh = nn.Sequential(model[0], nn.Tanh(), model[2], nn.Tanh(), model[4])
    margin = reference.spectral_margin(as_reference(Layered.from_sequential(tanh, 1.0)), max(slope, 1.0))
    assert certify(Layered.from_sequential(model, 1.0), batch()[0]).margin == pytest.approx(margin, abs=1e-9)


@pytest.mark.parametrize("make", [strong_skew, lambda: dense("skew", scale=50.0)], ids=["layered", "dense"])
def test_skew_networks_are_lipschitz_with_constant_1_however_large_their_weights(make):
    found = certify(make(), batch()[0])
    assert (found.margin, found.unique, found.lipschitz_states) == (1.0, True, 1.0)


def test_large_symmetric_networks_are_certified_nothing():
    found = certify(dense("symmetric", scale=3.0), batch()[0])
    assert found.margin < 0
    assert not found.unique
    assert found.lipschitz_states is None


def without_loops() -> Dense:
    """Connections in an order of units that is not that of their numbers."""
    order = torch.randperm(12)
    mask = torch.ones(12, 12, dtype=torch.bool).tril(-1)[order][:, order]
    return Dense(5, 12, 3, "free", mask=mask, scale=9.0, activation=nn.Tanh())


ACYCLIC = {
    "layered": lambda: Layered.from_sequential(mlp(gain=5.0), 0.5),
    "lower-triangular": lambda: dense("lower", scale=9.0),
    "interpolated": lambda: dense("interpolated", scale=9.0),
    "by its mask": without_loops,
}


@pytest.mark.parametrize("make", ACYCLIC.values(), ids=ACYCLIC)
def test_without_loops_the_equilibrium_is_unique_at_any_margin(make):
    found = certify(make(), batch()[0])
    assert found.margin < 0
    assert found.unique
    assert found.lipschitz_states is None


@pytest.mark.parametrize("make", ACYCLIC.values(), ids=ACYCLIC)
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_without_loops_undamped_updates_arrive_in_finitely_many_passes(make, schedule):
    net = using(make(), schedule, Plain())
    assert certify(net, batch()[0]).rate == 0
    assert net.relax(batch()[0]).iterations <= 13


def test_one_connection_back_makes_a_loop():
    mask = without_loops().mask
    from_, to = mask.nonzero()[0].tolist()
    mask[to, from_] = True
    looped = Dense(5, 12, 3, "free", mask=mask, scale=9.0, activation=nn.Tanh())
    assert not certify(looped, batch()[0]).unique


def test_feedback_along_the_same_connections_makes_loops():
    net = Dense(5, 12, 3, "symmetric", mask=without_loops().mask.tril(), scale=9.0)
    assert not certify(net, batch()[0]).unique


def test_the_smallest_network_is_solved_densely():
    net = Dense(1, 2, 1, "symmetric", scale=0.5)
    assert certify(net, torch.zeros(1, 1)).margin == pytest.approx(0.5)


@pytest.mark.parametrize("lam", [0.25, 1.0])
def test_pooling_is_taken_at_its_switches(lam: float):
    net, x = pooled(lam)
    wiring = net.wire(x).probe()
    like = [wiring.state(k).mean() for k in range(1, 4)]
    rows = []
    for unit in torch.eye(sum(s.numel() for s in like)):
        parts = unit.split([s.numel() for s in like])
        vectors = {k: part.view_as(s) for k, (part, s) in enumerate(zip(parts, like, strict=True), 1)}
        sent = [wiring.couple(k, vectors, 1.0, net.gain) for k in vectors]
        rows.append(torch.cat([part.flatten() for part in sent if part is not None]))
    W = torch.stack(rows).T
    assert certify(net, x).margin == pytest.approx(1 - float(torch.linalg.eigvalsh((W + W.T) / 2)[-1]), abs=1e-9)


# --- rate ---


@pytest.mark.parametrize("lam", LAMBDAS)
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("solver", [Plain(), Damped(0.4), OverRelaxed()], ids=lambda solver: type(solver).__name__)
def test_the_rate_is_the_spectral_radius_of_a_pass(lam: float, schedule, solver):
    net, (x, _) = using(layered(lam), schedule, solver), batch()
    factor = net.relaxation.factor_on(net.wire(x[:1]))
    exact = reference.spectral_radius(as_reference(net), groups(schedule, 3), factor, 1.0)
    found = certify(net, x)
    assert found.rate == pytest.approx(exact, rel=1e-6, abs=1e-4)  # without loops, the reference is inexact
    assert found.settles == (exact < 1)


@pytest.mark.parametrize("name", ["skew", "symmetric", "lam 1/4", "free"])
def test_so_it_is_in_dense_networks(name: str):
    net, (x, _) = using(DENSE[name](), Parallel(), Damped(0.4)), batch()
    exact = reference.spectral_radius(as_reference(net), [(1, 2)], 0.4, 1.0)
    assert certify(net, x).rate == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("widths", [(5, 4), (5, 7, 3), (5, 7, 6, 4, 3), (5, 70, 90, 80, 3)])
@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("factor", [0.2, 1.0, 1.6])
@pytest.mark.parametrize("schedule", [OddEven(), BottomUp(), Sweeps()], ids=lambda schedule: type(schedule).__name__)
def test_so_it_is_in_chains_of_any_depth_and_width(widths, lam: float, factor: float, schedule):
    """The last has more units than are solved densely."""
    net = using(Layered.from_sequential(mlp(widths=widths, gain=0.6), lam), schedule, Damped(factor))
    exact = reference.spectral_radius(as_reference(net), groups(schedule, len(widths) - 1), factor, 1.0)
    assert certify(net, batch(1)[0]).rate == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("structure", ["free", "symmetric", "skew"])
def test_so_it_is_in_large_dense_networks(structure):
    net = Dense(5, 300, 3, structure, relaxation=Relaxation(Parallel(), Damped(0.7)))
    found, slow = certify(net, batch()[0]), as_reference(net)
    assert found.rate == pytest.approx(reference.spectral_radius(slow, [(1, 2)], 0.7, 1.0), rel=1e-6)
    assert found.margin == pytest.approx(reference.spectral_margin(slow, 1.0), abs=1e-9)


def test_the_slope_of_the_activations_counts():
    net = using(layered(0.75, lambda: nn.LeakyReLU(1.5)), OddEven(), Plain())
    exact = reference.spectral_radius(as_reference(net), groups(OddEven(), 3), 1.0, 1.5)
    assert certify(net, batch()[0]).rate == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("name", ["layered, lam 1/4", "layered, lam 1/2", "layered, lam 1", "skew"])
def test_in_random_order_it_is_that_of_the_expected_state(name: str):
    net = using(NETWORKS[name](), RandomOrder(), Damped(0.6))
    slow, layers = as_reference(net), int(as_reference(net).layer.max())
    units = len(slow.b)
    one_draw = np.zeros((units, units))
    for k in range(1, layers + 1):
        visited = np.diag((slow.layer == k).astype(float))
        one_draw += (np.eye(units) + 0.6 * visited @ (slow.W - np.eye(units))) / layers
    exact = abs(np.linalg.eigvals(np.linalg.matrix_power(one_draw, layers))).max()
    assert certify(net, batch()[0]).rate == pytest.approx(exact, rel=1e-3)  # defective without feedback


def test_under_acceleration_it_is_that_of_the_iteration_underneath():
    net = dense("skew")
    accelerated = certify(using(net, Parallel(), Anderson(factor=0.3)), batch()[0])
    assert accelerated == certify(using(net, Parallel(), Damped(0.3)), batch()[0])


def test_damped_updates_of_a_lower_triangular_network_settle():
    net = using(dense("lower", scale=9.0), Parallel(), Damped(0.03))
    assert certify(net, batch()[0]).rate == pytest.approx(0.97, rel=0.01)  # every eigenvalue of a pass


@pytest.mark.parametrize(("solver", "settles"), [(OverRelaxed(), True), (Plain(), False), (Damped(0.5), False)])
def test_it_tells_which_solver_reaches_the_equilibrium_of_a_strong_skew_network(solver, settles: bool):
    net, (x, _) = using(strong_skew(), OddEven(), solver), batch()
    found = certify(net, x)
    assert found.settles == settles
    net.relaxation = Relaxation(OddEven(), solver, Residual(most=1000))
    if settles:
        assert bool(net.relax(x).converged.all())
    else:
        with pytest.warns(UserWarning, match="have not settled"):
            net.relax(x)


def test_relaxations_shrink_their_residual_at_the_certified_rate():
    """On a network whose units are all linear, the only one for which the rate is exact."""
    net, (x, _) = using(layered(0.0, lambda: nn.LeakyReLU(1.0)), OddEven(), Damped(0.4)), batch(1)
    trace = net.relax(x).trace
    assert (trace[-1] / trace[-31]) ** (1 / 30) == pytest.approx(certify(net, x).rate, rel=0.02)


# --- energy ---


@pytest.mark.parametrize(
    ("make", "decreases"),
    [
        (lambda: using(layered(1.0), OddEven(), OverRelaxed()), True),
        (lambda: using(layered(0.75), Sweeps(), Plain()), True),
        (lambda: using(layered(1.0), Parallel(), Plain()), False),
        (lambda: using(layered(1.0), OddEven(), Damped(1.5)), False),
        (lambda: using(layered(0.5), OddEven(), Plain()), False),
        (lambda: using(layered(0.0), OddEven(), Plain()), False),
        (lambda: using(dense("symmetric"), Parallel(), Plain()), False),
        (lambda: using(dense("skew"), OddEven(), Plain()), False),
    ],
)
def test_the_energy_falls_where_layers_minimise_it_one_after_another(make, decreases: bool):
    assert certify(make(), batch()[0]).energy_decreases == decreases


def test_it_falls_where_they_go_part_of_the_way():
    """`test_energy` shows that it does."""
    assert certify(using(layered(1.0), OddEven(), Damped(0.5)), batch()[0]).energy_decreases


def test_no_energy_is_promised_of_accelerated_updates():
    assert not certify(using(layered(1.0), OddEven(), Anderson()), batch()[0]).energy_decreases


def test_no_energy_is_promised_of_maxima():
    """`test_energy` shows one that rises."""
    assert not certify(*pooled(1.0)).energy_decreases


def test_no_energy_is_promised_of_dense_layers():
    """`test_energy` shows one that rises."""
    assert not certify(using(dense("symmetric"), OddEven(), Plain()), batch()[0]).energy_decreases


def apart(structure: Literal["symmetric", "skew"]) -> Dense:
    """Hidden units that hear the outputs only."""
    mask = torch.zeros(12, 12, dtype=torch.bool)
    mask[9:, :9] = True
    return Dense(5, 12, 3, structure, mask=mask, scale=4.0, activation=nn.Tanh())


def deep_pooled(schedule: AbstractSchedule, activation: nn.Module, *, above: bool) -> tuple[Layered, Tensor]:
    """Maxima of convolutions, or convolutions of maxima."""
    second = [nn.Conv2d(2, 2, 3, padding=1), nn.MaxPool2d(2)]
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), activation, *(second if above else second[::-1]), activation, nn.Flatten()
    )
    model.append(nn.Linear(8, 3))
    return using(Layered.from_sequential(model, 1.0), schedule, Plain()), torch.randn(2, 1, 4, 4)


ENERGIES = {
    "dense, layers apart": (lambda: (using(apart("symmetric"), OddEven(), Plain()), batch()[0]), True),
    "dense, at once": (lambda: (using(apart("symmetric"), Parallel(), Plain()), batch()[0]), False),
    "dense, skew": (lambda: (using(apart("skew"), OddEven(), Plain()), batch()[0]), False),
    "linear, over-relaxed": (lambda: (using(layered(1.0, nn.Identity), Sweeps(), Damped(1.9)), batch()[0]), True),
    "maxima, relu": (lambda: deep_pooled(OddEven(), nn.ReLU(), above=True), True),
    "maxima, hard sigmoid": (lambda: deep_pooled(BottomUp(), nn.Hardtanh(0, 1), above=True), True),
    "maxima, tanh": (lambda: deep_pooled(OddEven(), nn.Tanh(), above=True), False),
    "maxima, sweeps": (lambda: deep_pooled(Sweeps(), nn.ReLU(), above=True), False),
    "maxima, random": (lambda: deep_pooled(RandomOrder(), nn.ReLU(), above=True), False),
    "differences of maxima": (lambda: deep_pooled(OddEven(), nn.ReLU(), above=False), False),
}


@pytest.mark.parametrize(("make", "decreases"), ENERGIES.values(), ids=ENERGIES)
def test_it_falls_where_no_unit_of_a_group_hears_another_and_maps_are_affine_or_convex(make, decreases: bool):
    assert certify(*make()).energy_decreases == decreases


def rises(net: AbstractHopfield, x: Tensor, passes: int = 20) -> bool:
    """Whether the energy ever rises in one relaxation from anywhere."""
    energy = HopfieldEnergy(net)
    like = net.relax(x, relaxation=Relaxation(stop=Count(1))).states
    start = [Activity(a.f(torch.randn_like(s.mean()))) for a, s in zip(net.activations, like, strict=True)]
    values = [energy.value(x, start)]
    how = Relaxation(net.relaxation.schedule, net.relaxation.solver, Count(passes))
    net.relax(x, states=start, relaxation=how, observe=lambda states, _: values.append(energy.value(x, states)))
    found = torch.stack(values)
    return bool((found[1:] - found[:-1] > 1e-12 * (1 + found.abs().max())).any())


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    lam=st.floats(0.55, 1.0),
    gain=st.floats(0.1, 4.0),
    hidden=st.sampled_from([nn.Tanh, nn.ReLU, nn.Identity, lambda: nn.LeakyReLU(0.2)]),
    schedule=st.sampled_from([*SCHEDULES.values(), RandomOrder()]),
    solver=st.sampled_from([Plain(), Damped(0.5), Damped(1.5), OverRelaxed(), Anderson(3)]),
)
def test_where_it_is_said_to_fall_it_never_rises(seed: int, lam: float, gain: float, hidden, schedule, solver):
    torch.manual_seed(seed)
    net = using(Layered.from_sequential(mlp(hidden, gain=gain), lam), schedule, solver)
    x, _ = batch()
    assert not (certify(net, x).energy_decreases and rises(net, x))


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), name=st.sampled_from([name for name, (_, falls) in ENERGIES.items() if falls]))
def test_nor_does_that_of_the_special_cases(seed: int, name: str):
    torch.manual_seed(seed)
    assert not rises(*ENERGIES[name][0]())


# --- whatever the network ---


@pytest.mark.parametrize("name", [*LAYERED, "skew", "symmetric", "free"])
def test_single_precision_changes_nothing_that_matters(name: str):
    net, (x, _) = NETWORKS[name](), batch()
    double, single = certify(net, x), certify(net.float(), x.float())
    assert single.rate == pytest.approx(double.rate, rel=1e-3, abs=1e-6)
    assert single.margin == pytest.approx(double.margin, abs=1e-5)
    assert (single.unique, single.energy_decreases) == (double.unique, double.energy_decreases)


def test_networks_are_left_as_they_are():
    net, (x, _) = layered(0.25), batch()
    before, state = {name: p.clone() for name, p in net.state_dict().items()}, torch.get_rng_state()
    assert certify(net, x) == certify(net, x)
    assert all(torch.equal(before[name], p) for name, p in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


# --- what is refused ---


@pytest.mark.parametrize(
    ("activation", "name"), [(nn.SiLU, "silu"), (nn.GELU, r"gelu\(none\)"), (lambda: nn.LeakyReLU(-0.1), "leaky-relu")]
)
@pytest.mark.parametrize("kind", ["layered", "dense"])
def test_activations_that_are_not_monotone_are_refused_by_name(kind: str, activation, name: str):
    net = layered(0.0, activation) if kind == "layered" else Dense(5, 12, 3, "skew", activation=activation())
    with pytest.raises(ValueError, match=f"{name}.* is not monotone: no certificate exists"):
        certify(net, batch()[0])


def test_maps_that_change_at_every_visit_are_refused():
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, 3))
    with pytest.raises(ValueError, match="2 Dropout gives another map at every visit"):
        certify(Layered.from_sequential(model, 0.0), batch()[0])
