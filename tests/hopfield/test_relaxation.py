"""Where relaxations end, how fast, and what they say when they do not."""

import linecache
import warnings
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from dyadnet import BottomUp, Dense, Dyadic, Layered, OddEven, Parallel, RandomOrder, Sweeps, squared_error
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.state import Activity, Pair, distance
from dyadnet.relax.anderson import Mixer
from dyadnet.relax.relaxation import NotSettled, NotSettledWarning, Relaxation, settle
from dyadnet.relax.schedule import AbstractSchedule
from dyadnet.relax.solver import AbstractSolver, Anderson, Damped, OverRelaxed, Plain
from dyadnet.relax.stopping import Count, Residual
from hopfield.cases import (
    EXACT,
    NETWORKS,
    batch,
    dense,
    equilibria,
    layered,
    linear,
    mlp,
    one_vector,
    scaled,
    strong_skew,
)

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "hard sigmoid": lambda: nn.Hardtanh(0, 1),
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
}
SCHEDULES: dict[str, AbstractSchedule] = {
    "odd-even": OddEven(),
    "sweeps": Sweeps(),
    "bottom-up": BottomUp(),
    "parallel": Parallel(),
}
SOLVERS: dict[str, AbstractSolver] = {
    "plain": Plain(),
    "damped": Damped(0.4),
    "over-relaxed": OverRelaxed(),
    "anderson": Anderson(),
}

# --- the equilibrium ---


@pytest.mark.parametrize("name", NETWORKS)
def test_states_are_the_equilibrium_that_small_steps_reach(name: str):
    net, (x, _) = NETWORKS[name](), batch()
    expected = equilibria(net, x)
    solution = net.relax(x)
    assert_close(one_vector(solution.states), expected, rtol=0, atol=1e-10)
    assert_close(net(x), expected[:, -3:], rtol=0, atol=1e-10)


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("name", ["layered, lam 0", "layered, lam 1", "layered, lam 1/2", "skew"])
def test_every_order_and_solver_reaches_the_same_equilibrium(name: str, schedule, solver):
    net, (x, _) = small(name), batch()
    how = Relaxation(schedule, solver, Residual(1e-12, 2000), strict=True)
    expected = equilibria(net, x)
    assert_close(one_vector(net.relax(x, relaxation=how).states), expected, rtol=0, atol=1e-10)


def small(name: str) -> AbstractNetwork:
    """With weights for which undamped updates settle too."""
    net = NETWORKS[name]()
    with torch.no_grad():
        if isinstance(net, Layered):
            for stage in net.stages[1:]:
                linear(stage.map).weight *= 0.5
        elif isinstance(net, Dense):
            net.theta *= 0.8
    return net


@pytest.mark.parametrize("lam", [0.75, 1.0])
def test_random_orders_end_at_the_equilibrium_too(lam: float):
    net, (x, _) = layered(lam), batch()
    expected = equilibria(net, x)
    for seed in range(10):
        solution = settle(
            net.wire(x), net.free, Relaxation(RandomOrder(), strict=True), generator=torch.Generator().manual_seed(seed)
        )
        assert_close(one_vector(solution.states), expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("lam", [0.0, 0.25, 0.75])
def test_where_a_relaxation_starts_does_not_matter_if_the_equilibrium_is_unique(lam: float):
    net, (x, _) = layered(lam), batch()
    starts = [None, [Activity(torch.randn(3, width)) for width in (7, 6, 3)], feedforward_states(net, x)]
    ends = [one_vector(net.relax(x, states=start).states) for start in starts]
    for end in ends[1:]:
        assert_close(end, ends[0], rtol=0, atol=1e-11)


def feedforward_states(net: Layered, x: Tensor) -> list[Activity]:
    """A trained feedforward network as the start of another `lam`."""
    states = []
    for stage in net.stages:
        x = stage.activation.f(stage.map(x)).detach()
        states.append(Activity(x))
    return states


# --- speed ---


def skew_of_norm(norm: float, activation: Callable[[], nn.Module]) -> Layered:
    """Three hidden layers of 40; the coupling of the four maps between layers has that norm."""
    net = Layered.from_sequential(mlp(activation, widths=(10, 40, 40, 40, 10)), 0.0)
    with torch.no_grad():
        for stage in net.stages[1:]:
            linear(stage.map).weight /= torch.linalg.matrix_norm(linear(stage.map).weight, 2)
    scaled(net, norm)
    return net


@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS)
@pytest.mark.parametrize(("norm", "passes"), [(1.0, None), (3.0, 39), (6.0, 79), (12.0, 158)])
def test_strong_skew_networks_settle_with_the_default_settings(norm: float, passes: int | None, activation):
    net, x = skew_of_norm(norm, activation), torch.randn(8, 10)
    solution = net.relax(x)
    assert bool(solution.converged.all())
    assert float(solution.residual.max()) <= 1e-10
    assert passes is None or solution.iterations == pytest.approx(passes, rel=0.15)
    assert_close(net.relax(x, states=solution.states, relaxation=EXACT).states[-1].mean(), net(x), rtol=0, atol=1e-8)


@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS)
@pytest.mark.parametrize("norm", [3.0, 6.0, 12.0])
def test_undamped_they_never_do(norm: float, activation):
    net, x = skew_of_norm(norm, activation), torch.randn(8, 10)
    with pytest.warns(NotSettledWarning):
        solution = net.relax(x, relaxation=Relaxation(solver=Plain()))
    assert not (solution.residual < 0.01).any()  # rectified units run away, to what is not a number


@pytest.mark.parametrize("scale", [1.0, 3.0, 6.0])
def test_dense_skew_networks_settle_with_the_default_settings(scale: float):
    net, x = Dense(10, 60, 10, "skew", scale=scale), torch.randn(4, 10)
    assert bool(net.relax(x).converged.all())


def test_acceleration_saves_passes():
    net, x = Dense(10, 60, 10, "skew", scale=3.0), torch.randn(4, 10)
    passes = {
        type(solver): net.relax(x, relaxation=Relaxation(Parallel(), solver)).iterations
        for solver in (Anderson(), OverRelaxed())
    }
    assert passes[Anderson] < passes[OverRelaxed] / 2


def symmetric_of_norm(norm: float) -> tuple[Layered, Tensor]:
    """Hard-sigmoid units with weights beyond what has a single equilibrium."""
    net = Layered.from_sequential(mlp(lambda: nn.Hardtanh(0, 1), widths=(64, 64, 64, 64, 10)), 1.0)
    scaled(net, norm)
    return net, torch.rand(8, 64)


@pytest.mark.parametrize("norm", [2.0, 3.0, 6.0])
def test_acceleration_saves_passes_where_they_descend_into_one_of_several_minima(norm: float):
    net, x = symmetric_of_norm(norm)
    passes = {
        type(solver): net.relax(x, relaxation=Relaxation(solver=solver, stop=Residual(1e-8, 20000), strict=True))
        for solver in (Anderson(), Plain())
    }
    assert passes[Anderson].iterations < 0.7 * passes[Plain].iterations


def test_unguarded_acceleration_goes_astray_there(monkeypatch):
    net, x = symmetric_of_norm(6.0)
    monkeypatch.setattr(Mixer, "_usable", lambda self, gaps: torch.ones(gaps.shape[:2], dtype=torch.bool))
    with pytest.warns(NotSettledWarning):
        net.relax(x, relaxation=Relaxation(solver=Anderson(), stop=Residual(1e-8, 1000)))


def test_accelerated_samples_do_not_know_of_one_another():
    net, (x, _) = dense("skew", scale=2.0), batch()
    how = Relaxation(Parallel(), Anderson(), Count(15))
    alone = [net.relax(x[i : i + 1], relaxation=how).states[-1].mean() for i in range(3)]
    assert_close(net.relax(x, relaxation=how).states[-1].mean(), torch.cat(alone), rtol=0, atol=1e-9)


# --- robustness ---


def ratio(net: AbstractNetwork, x: Tensor, biases: list[nn.Parameter], size: float) -> Tensor:
    """`|s - s'| / |b - b'|` for two input drives that differ in every unit."""
    before = one_vector(net.relax(x).states)
    moved = 0.0
    with torch.no_grad():
        for bias in biases:
            change = size * torch.randn_like(bias)
            bias += change
            moved += float(change.square().sum())
    after = one_vector(net.relax(x).states)
    return (after - before).norm(dim=1) / moved**0.5


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10**6),
    norm=st.floats(0.1, 8.0),
    size=st.floats(0.01, 3.0),
    widths=st.lists(st.integers(2, 8), min_size=3, max_size=5),
    activation=st.sampled_from(list(ACTIVATIONS)),
)
def test_states_of_layered_skew_networks_never_move_more_than_their_drive(seed, norm, size, widths, activation):
    torch.manual_seed(seed)
    net = Layered.from_sequential(mlp(ACTIVATIONS[activation], widths=widths), 0.0)
    scaled(net, norm)
    biases = [linear(stage.map).bias for stage in net.stages]
    assert float(ratio(net, torch.randn(4, widths[0]), biases, size).max()) <= 1 + 1e-9


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10**6),
    scale=st.floats(0.1, 4.0),
    size=st.floats(0.01, 3.0),
    activation=st.sampled_from(list(ACTIVATIONS)),
)
def test_nor_do_states_of_dense_skew_networks(seed, scale, size, activation):
    torch.manual_seed(seed)
    net = Dense(4, 10, 3, "skew", activation=ACTIVATIONS[activation](), scale=scale)
    assert float(ratio(net, torch.randn(4, 4), [net.bias], size).max()) <= 1 + 1e-9


def test_those_of_symmetric_networks_do():
    net, (x, _) = layered(1.0), batch()
    with torch.no_grad():
        for stage in net.stages:
            linear(stage.map).weight *= 1.1
    assert max(float(ratio(net, x, [linear(s.map).bias for s in net.stages], 0.1).max()) for _ in range(10)) > 1.1


# --- warm starts and stopping ---


@pytest.mark.parametrize("name", ["layered, lam 0", "layered, lam 1", "free"])
def test_a_warm_start_takes_one_look(name: str):
    net, (x, _) = NETWORKS[name](), batch()
    settled = net.relax(x)
    again = net.relax(x, states=settled.states, relaxation=Relaxation(net.relaxation.schedule, net.relaxation.solver))
    assert again.iterations == 1 < settled.iterations
    assert len(again.trace) == 1


def test_convergence_is_told_of_every_sample():
    net, (x, _) = layered(0.0), batch()
    states = [Activity(state.mean().clone()) for state in net.relax(x).states]
    states[0].s[1] += 0.5
    solution = net.relax(x, states=states, relaxation=Relaxation(stop=Count(1)))
    assert solution.converged.tolist() == [True, False, True]
    assert (solution.residual > 1e-10).tolist() == [False, True, False]


@pytest.mark.parametrize("passes", [1, 5, 40])
def test_a_count_stops_exactly_there(passes: int):
    net, (x, _) = layered(0.0), batch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solution = net.relax(x, relaxation=Relaxation(stop=Count(passes)))
    assert solution.iterations == passes
    assert solution.converged.shape == (3,)
    assert bool(solution.converged.all()) == (passes == 40)


def test_a_residual_stops_at_the_first_pass_below_the_tolerance():
    net, (x, _) = layered(0.0), batch()
    solution = net.relax(x, relaxation=Relaxation(stop=Residual(1e-6)))
    assert len(solution.trace) == solution.iterations
    assert solution.trace[-1] <= 1e-6 < min(solution.trace[:-1])
    assert solution.trace[-1] == float(solution.residual.max())


def test_single_precision_settles_at_a_tolerance_of_its_own():
    net, (x, _) = layered(0.0).float(), batch()
    solution = net.relax(x.float(), relaxation=Relaxation())
    assert solution.states[-1].mean().dtype == torch.float32
    assert 1e-10 < float(solution.residual.max()) <= 1e-5


def test_the_residual_is_relative_to_the_size_of_a_layer_or_to_one():
    for size, expected in ((0.5, 0.1), (4.0, 0.025)):
        old, new = Activity(torch.tensor([[0.0, size - 0.1]])), Activity(torch.tensor([[0.0, size]]))
        assert distance(old, new).tolist() == pytest.approx([expected])


def test_going_part_of_the_way_mixes_every_part():
    old = Pair(torch.zeros(1, 1), torch.ones(1, 1), 2.0)
    new = Pair(torch.full((1, 1), 4.0), torch.full((1, 1), 5.0), 2.0)
    plus, minus = new.toward(old, 0.25).parts()
    assert (plus.item(), minus.item()) == (1.0, 2.0)
    assert new.toward(old, 1) is new


# --- what is said ---


def test_states_that_have_not_settled_are_warned_about_with_advice():
    net, (x, _) = strong_skew(), batch()
    said = "^samples have not settled after 7 passes: allow more passes, another solver or smaller weights$"
    with pytest.warns(NotSettledWarning, match=said) as told:
        solution = net.relax(x, relaxation=Relaxation(stop=Residual(most=7)))
    assert not solution.converged.any()
    warning = told[0].message
    assert isinstance(warning, NotSettledWarning)
    assert (warning.missing, warning.residual) == (3, float(solution.residual.max()))


def train(net: Layered, steps: int) -> None:
    """A loop with inputs that differ from step to step."""
    x, y = batch()
    for step in range(steps):
        Dyadic().estimate(net, squared_error, (1.0 + step) * x, y)  # here


def test_all_steps_of_a_loop_say_the_same_of_one_line_which_python_shows_once():
    net = strong_skew()
    net.relaxation = Relaxation(stop=Residual(most=7))
    with pytest.warns(NotSettledWarning) as told:
        train(net, 5)
    assert len(told) >= 5
    ((text, filename, number),) = {(str(one.message), one.filename, one.lineno) for one in told}
    assert text.startswith("samples have not settled after 7 passes")
    assert (filename, linecache.getline(filename, number).rstrip()[-6:]) == (__file__, "# here")
    for _ in range(2):
        with pytest.raises(NotSettledWarning):
            train(net, 1)


def test_a_strict_relaxation_raises_instead():
    net, (x, _) = strong_skew(), batch()
    with pytest.raises(NotSettled, match=r"3 of 3 samples have not settled after 7 passes \(residual .*\): allow"):
        net.relax(x, relaxation=Relaxation(stop=Residual(most=7), strict=True))
    with pytest.raises(NotSettled, match="have not settled after 7 passes"):
        net.relax(x, relaxation=Relaxation(stop=Count(7), strict=True))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Damped(0.0), r"factor must lie in \(0, 2\)"),
        (lambda: Damped(2.0), r"factor must lie in \(0, 2\)"),
        (lambda: Residual(0.0), "positive tolerance"),
        (lambda: Residual(most=0), "at least one pass"),
        (lambda: Count(0), "at least one pass"),
        (lambda: Anderson(0), "memory"),
        (lambda: Anderson(factor=3.0), "factor"),
        (lambda: OverRelaxed(0), "iterations"),
    ],
)
def test_settings_out_of_range_are_refused(make, said: str):
    with pytest.raises(ValueError, match=said):
        make()


def test_solvers_go_as_far_as_they_say():
    wiring = layered(0.0).wire(batch()[0])
    best = wiring.best_factor(OddEven(), 8, 1.05)
    assert Relaxation(solver=Plain()).factor_on(wiring) == 1
    assert Relaxation(solver=Damped(0.3)).factor_on(wiring) == 0.3
    assert Relaxation(solver=OverRelaxed()).factor_on(wiring) == best
    assert Relaxation(solver=Anderson(factor=0.2)).factor_on(wiring) == 0.2
    assert Relaxation(solver=Anderson()).factor_on(wiring) == pytest.approx(best**0.5)
