"""Certificates against dense eigenvalues, and against what relaxations do."""

import pytest
import torch
from torch import nn

from dyadnet import Dense, Layered, OddEven, Parallel, Sweeps, UnitSigmoid
from dyadnet.audit.certificate import certify
from dyadnet.network.base import AbstractNetwork
from dyadnet.relax.relaxation import Relaxation, step_factor
from dyadnet.relax.schedule import AbstractSchedule
from dyadnet.relax.solver import Anderson, Damped, OverRelaxed, Plain
from dyadnet.relax.stopping import Residual
from hopfield import reference
from hopfield.cases import DENSE, LAMBDAS, NETWORKS, as_reference, batch, dense, layered, mlp, pooled, strong_skew

SCHEDULES: dict[str, AbstractSchedule] = {"odd-even": OddEven(), "sweeps": Sweeps(), "parallel": Parallel()}


def using(net: AbstractNetwork, schedule: AbstractSchedule, solver) -> AbstractNetwork:
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


@pytest.mark.parametrize(
    "make",
    [
        lambda: Layered.from_sequential(mlp(gain=5.0), 0.5),
        pytest.param(
            lambda: dense("lower", scale=9.0),
            marks=pytest.mark.xfail(strict=True, reason="only a Layered is known to have no loops"),
        ),
    ],
    ids=["layered", "lower-triangular"],
)
def test_without_loops_the_equilibrium_is_unique_at_any_margin(make):
    found = certify(make(), batch()[0])
    assert found.margin < 0
    assert found.unique


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
    factor = step_factor(solver, net.wire(x[:1]))
    exact = reference.spectral_radius(as_reference(net), groups(schedule, 3), factor, 1.0)
    found = certify(net, x)
    assert found.rate == pytest.approx(exact, rel=0.07, abs=1e-3)
    assert found.settles == (exact < 1) or abs(exact - 1) < 0.07


@pytest.mark.parametrize("name", ["skew", "symmetric", "lam 1/4", "free"])
def test_so_it_is_in_dense_networks(name: str):
    net, (x, _) = using(DENSE[name](), Parallel(), Damped(0.4)), batch()
    exact = reference.spectral_radius(as_reference(net), [(1, 2)], 0.4, 1.0)
    assert certify(net, x).rate == pytest.approx(exact, rel=0.07)


@pytest.mark.xfail(strict=True, reason="60 passes do not outlast the transient growth of a matrix far from normal")
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


@pytest.mark.xfail(strict=True, reason="going part of the way to a minimum is thought not to descend")
def test_it_falls_where_they_go_part_of_the_way():
    """`test_energy` shows that it does."""
    assert certify(using(layered(1.0), OddEven(), Damped(0.5)), batch()[0]).energy_decreases


@pytest.mark.xfail(strict=True, reason="Anderson acceleration is taken for the iteration under it")
def test_no_energy_is_promised_of_accelerated_updates():
    assert not certify(using(layered(1.0), OddEven(), Anderson()), batch()[0]).energy_decreases


@pytest.mark.xfail(strict=True, reason="maps with maxima are not looked for")
def test_no_energy_is_promised_of_maxima():
    """`test_energy` shows one that rises."""
    assert not certify(*pooled(1.0)).energy_decreases


@pytest.mark.xfail(strict=True, reason="units of a dense layer hear one another but update at once")
def test_no_energy_is_promised_of_dense_layers():
    """`test_energy` shows one that rises."""
    assert not certify(using(dense("symmetric"), OddEven(), Plain()), batch()[0]).energy_decreases


# --- what is refused ---


@pytest.mark.parametrize(
    ("activation", "name"), [(nn.SiLU, "silu"), (nn.GELU, r"gelu\(none\)"), (lambda: nn.LeakyReLU(-0.1), "leaky-relu")]
)
@pytest.mark.parametrize("kind", ["layered", "dense"])
def test_activations_that_are_not_monotone_are_refused_by_name(kind: str, activation, name: str):
    net = layered(0.0, activation) if kind == "layered" else Dense(5, 12, 3, "skew", activation=activation())
    with pytest.raises(ValueError, match=f"{name}.* is not monotone: no certificate exists"):
        certify(net, batch()[0])
