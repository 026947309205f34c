"""The states of lifted networks: the one least point of their energy, whoever finds it and from where."""

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import Bounds, minimize
from torch import nn
from torch.testing import assert_close

from dyadnet import BottomUp, Layered, OddEven, Parallel, RandomOrder, Sweeps, squared_error
from dyadnet.energy.lrrn import LRRNEnergy
from dyadnet.network.feedback import RandomFeedback
from dyadnet.network.lifted import Lifted, Terms
from dyadnet.network.quadratic import norm_bound
from dyadnet.network.state import AbstractState
from dyadnet.network.substrate import AbstractSubstrate
from dyadnet.relax.relaxation import NotSettled, NotSettledWarning, Relaxation
from dyadnet.relax.schedule import AbstractSchedule
from dyadnet.relax.solver import AbstractSolver, Accelerated, Anderson, Damped, OverRelaxed, Plain
from dyadnet.relax.stopping import Count, Residual
from dyadnet.rule.lrrn import LRRN
from lrrn import reference
from lrrn.cases import (
    EXACT,
    NETWORKS,
    SOME,
    TIGHT,
    activities,
    as_reference,
    batch,
    kkt,
    lifted,
    minima,
    mlp,
    predict,
    tensors,
)

networks = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
some = pytest.mark.parametrize("make", SOME.values(), ids=SOME)

# --- the energy ---


@networks
def test_the_energy_is_that_of_the_equation(make: Callable[[], Lifted]):
    net, (x, _) = make(), batch()
    states = [torch.randn(3, map_.out_features) for map_ in net.maps]
    slow = [as_reference(net).energy(x[i].numpy(), [layer[i].numpy() for layer in states]) for i in range(len(x))]
    assert_close(LRRNEnergy(net).value(x, activities(states)), torch.tensor(slow))


def hessian(net: Lifted) -> torch.Tensor:
    """Of the energy of one sample in all its states, which does not depend on them."""
    widths = [map_.out_features for map_ in net.maps]
    x = torch.zeros(1, net.maps[0].in_features)

    def value(z: torch.Tensor) -> torch.Tensor:
        return net.energy([x, *z.view(1, -1).split(widths, 1)]).sum()

    found = torch.autograd.functional.hessian(value, torch.zeros(sum(widths)))
    assert isinstance(found, torch.Tensor)
    return found


@networks
def test_its_hessian_is_positive_definite(make: Callable[[], Lifted]):
    assert torch.linalg.eigvalsh(hessian(make()))[0] > 1e-3


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_it_is_so_at_any_scale_of_the_weights(scale: float):
    net = lifted(Terms(gamma=1.0, output_reconstructs=True), mlp(widths=(5, 7, 6, 3), scale=scale))
    assert torch.linalg.eigvalsh(hessian(net))[0] > 1e-6


def test_the_bound_of_a_norm_is_one_and_close():
    for units in (1, 20, 300):
        weights = torch.randn(units, 2 * units) / units**0.5
        exact, bound = torch.linalg.matrix_norm(weights @ weights.T, 2), norm_bound(weights @ weights.T)
        assert exact <= bound * (1 + 1e-12)
        assert bound <= 1.2 * exact
    assert norm_bound(torch.zeros(3, 3)) == 0


# --- its least point ---


def test_the_neurons_of_the_reference_find_what_an_optimiser_of_scipy_finds():
    net, (x, _) = lifted(Terms(gamma=0.5, tied=False, biases=True), scale=1.0), batch(1)
    slow, widths = as_reference(net), np.cumsum([map_.out_features for map_ in net.maps])
    low, high = (
        np.concatenate([np.full(m.out_features, b[i]) for m, b in zip(net.maps, slow.box, strict=True)]) for i in (0, 1)
    )
    found = minimize(
        lambda z: slow.energy(x[0].numpy(), np.split(z, widths[:-1])),
        np.ones(widths[-1]),
        bounds=Bounds(low, high),
        method="L-BFGS-B",
        options={"ftol": 1e-15, "gtol": 1e-9},
    )
    assert found.x == pytest.approx(np.concatenate(reference.minimise(slow, x[0].numpy())), abs=1e-5)


@some
def test_free_states_are_the_least_point_that_single_neurons_reach(make: Callable[[], Lifted]):
    net, (x, _) = make(), batch()
    for ours, slow in zip(tensors(net.relax(x).states), minima(net, x), strict=True):
        assert_close(ours, slow, rtol=0, atol=1e-9)
    assert_close(predict(net, x), net.output_gain * minima(net, x)[-1], rtol=0, atol=1e-9)


@some
def test_so_are_clamped_ones(make: Callable[[], Lifted]):
    net, (x, y) = make(), batch()
    energy, wiring = LRRNEnergy(net), net.wire(x)
    solution = energy.minimise(wiring, energy.clamped(y, y))
    for ours, slow in zip(tensors(solution.states), minima(net, x, y / net.output_gain), strict=True):
        assert_close(ours, slow, rtol=0, atol=1e-9)
    assert kkt(net, x, solution.states, clamped=True) < 1e-10


@networks
def test_conditions_of_optimality_hold_to_1e_8_by_default(make: Callable[[], Lifted]):
    net, (x, _) = make(), batch()
    net.relaxation = Lifted(Layered.from_sequential(mlp())).relaxation
    assert kkt(net, x, net.relax(x).states) < 1e-8


def test_hidden_units_lie_in_their_boxes_and_some_at_the_ends():
    net, (x, _) = NETWORKS["hard sigmoid"](), batch(20)
    hidden = torch.cat(tensors(net.relax(3 * x).states)[:-1], 1)
    assert (hidden.min(), hidden.max()) == (0, 1)
    assert bool(((hidden > 0) & (hidden < 1)).any())


SCHEDULES: dict[str, AbstractSchedule] = {
    "odd-even": OddEven(),
    "sweeps": Sweeps(),
    "bottom-up": BottomUp(),
    "random": RandomOrder(),
    "parallel": Parallel(),
}
SOLVERS: dict[str, AbstractSolver] = {
    "plain": Plain(),
    "damped": Damped(0.5),
    "over-relaxed": OverRelaxed(),
    "anderson": Anderson(),
    "accelerated": Accelerated(),
}


@pytest.mark.parametrize(
    ("schedule", "solver"),
    [("odd-even", solver) for solver in SOLVERS]
    + [("sweeps", "plain"), ("sweeps", "accelerated"), ("bottom-up", "accelerated")]
    + [("random", "plain"), ("parallel", "damped"), ("parallel", "accelerated")],
)
def test_neither_the_schedule_nor_the_solver_decides_where_states_settle(schedule: str, solver: str):
    net, (x, _) = lifted(Terms(gamma=0.5)), batch()
    expected = tensors(net.relax(x).states)
    how = Relaxation(SCHEDULES[schedule], SOLVERS[solver], Residual(1e-10, 5000), strict=True)
    for ours, other in zip(tensors(net.relax(x, relaxation=how).states), expected, strict=True):
        assert_close(ours, other, rtol=0, atol=1e-8)


@pytest.mark.parametrize("size", [0.0, 1.0, 100.0])
def test_nor_does_the_start(size: float):
    net, (x, _) = lifted(Terms(gamma=0.5)), batch()
    start = activities([size * torch.randn(3, map_.out_features) for map_ in net.maps])
    for ours, other in zip(tensors(net.relax(x, states=start).states), minima(net, x), strict=True):
        assert_close(ours, other, rtol=0, atol=1e-9)


@some
def test_nor_do_units_that_move_in_turn(make: Callable[[], Lifted]):
    net, (x, _) = make(), batch()
    together, net.units = tensors(net.relax(x).states), "in turn"
    for ours, other in zip(tensors(net.relax(x).states), together, strict=True):
        assert_close(ours, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("units", ["together", "in turn"])
@pytest.mark.parametrize("schedule", [OddEven(), Sweeps(), RandomOrder()])
def test_no_pass_raises_the_energy(units, schedule: AbstractSchedule):
    net, (x, _) = lifted(Terms(gamma=0.5), scale=4.0), batch()
    net.units, values = units, [torch.full((3,), torch.inf)]
    energy = LRRNEnergy(net)
    net.relax(
        x,
        relaxation=Relaxation(schedule, Plain(), Count(40)),
        observe=lambda states, residual: values.append(energy.value(x, states)),
    )
    for before, after in pairwise(values):
        assert bool((after <= before + 1e-12).all())


def test_acceleration_takes_the_root_of_the_passes():
    net, (x, _) = lifted(scale=5.0), batch()
    passes = {
        name: net.relax(x, relaxation=Relaxation(OddEven(), solver, Residual(1e-10, 20000), strict=True)).iterations
        for name, solver in SOLVERS.items()
        if name in ("plain", "accelerated")
    }
    assert passes["accelerated"] < 8 * passes["plain"] ** 0.5
    assert passes["accelerated"] < passes["plain"] / 3


def test_a_sweep_of_units_in_turn_is_the_one_of_the_reference():
    net, (x, _) = lifted(Terms(gamma=1.0), mlp(widths=(5, 7, 3))), batch(1)
    net.units = "in turn"
    slow, z = as_reference(net), [np.zeros(7), np.zeros(3)]
    for i in range(7):
        reference.move(slow, x[0].numpy(), z, 0, i, lambda output: 0.0)
    (layer, _) = tensors(net.relax(x, relaxation=Relaxation(BottomUp(), Plain(), Count(1))).states)
    assert_close(layer[0], torch.tensor(z[0]), rtol=0, atol=1e-10)


@some
def test_a_sample_does_not_depend_on_those_beside_it(make: Callable[[], Lifted]):
    net, (x, _) = make(), batch()
    whole = predict(net, x)
    for i in range(3):
        assert_close(predict(net, x[i : i + 1]), whole[i : i + 1], rtol=0, atol=1e-11)


# --- economy ---


def test_the_quadratics_are_formed_once_for_both_phases(monkeypatch: pytest.MonkeyPatch):
    formed, form = [], Lifted._blocks
    monkeypatch.setattr(Lifted, "_blocks", lambda self, **how: formed.append(1) or form(self, **how))
    LRRN().estimate(lifted(), squared_error, *batch())
    assert len(formed) == 1


def test_solved_states_need_a_single_pass_and_clamped_ones_start_at_the_free():
    net, (x, y) = lifted(), batch()
    free = net.relax(x)
    net.relaxation = replace(EXACT, stop=Residual(1e-9, 3000))
    assert net.relax(x, states=free.states).iterations == 1
    already = LRRN().estimate(net, squared_error, x, predict(net, x), states=free.states)
    assert already.passes == 2
    assert max(float(grad.abs().max()) for grad in already.grads.values()) < 1e-6
    assert LRRN().estimate(net, squared_error, x, y, states=free.states).passes > 2


# --- what is said of states that have not settled ---


def test_unsettled_states_are_told():
    net, (x, y) = lifted(relaxation=Relaxation(solver=Accelerated(), stop=Residual(1e-12, 4))), batch()
    with pytest.warns(NotSettledWarning, match="samples have not settled after 4 passes"):
        predict(net, x)
    with pytest.warns(NotSettledWarning, match="samples"):
        LRRN().estimate(net, squared_error, x, y)
    net.relaxation = replace(net.relaxation, strict=True)
    with pytest.raises(NotSettled, match="allow more passes"):
        predict(net, x)


def test_single_precision_settles_to_its_own_tolerance():
    net, (x, _) = lifted(relaxation=Relaxation(solver=Accelerated(), strict=True)), batch()
    solution = net.float().relax(x.float())
    assert bool((solution.residual <= 1e-5).all())
    assert all(layer.dtype == torch.float32 for layer in tensors(solution.states))
    for ours, exact in zip(tensors(solution.states), minima(net.double(), x), strict=True):
        assert_close(ours.double(), exact, rtol=0, atol=1e-3)


def test_settled_means_the_smallest_change_that_a_full_step_would_make():
    net, (x, _) = (
        lifted(relaxation=Relaxation(solver=Accelerated(), stop=replace(TIGHT, tolerance=1e-6), strict=True)),
        batch(),
    )
    assert 1e-9 < kkt(net, x, net.relax(x).states) < 1e-4


def test_the_lifted_layers_have_no_errors_of_their_own():
    with pytest.raises(TypeError, match="use LRRN"):
        lifted().wire(batch()[0]).gradients()


def test_convolutions_and_other_activations_are_refused_by_name():
    for model, said in (
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2, 2)), "0 Conv2d: .* not of Conv2d"),
        (nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2)), "0 Linear has the activation tanh"),
        (nn.Sequential(nn.Linear(2, 2), nn.LeakyReLU(), nn.Linear(2, 2)), "0 Linear has the activation leaky-relu"),
        (nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.ReLU(), nn.Linear(2, 2)), "Linear, BatchNorm1d"),
    ):
        with pytest.raises(TypeError, match=said):
            Lifted(Layered.from_sequential(model))


# --- as a module ---


def test_copies_and_pickles_compute_the_same_and_learn_by_themselves():
    net, (x, y) = NETWORKS["untied, biases, output too"](), batch()
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(predict(twin, x), predict(net, x))
        grads = LRRN().estimate(twin, squared_error, x, y).grads
        assert set(grads) == set(twin.parameters())
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter += 1
        assert not torch.equal(predict(twin, x), predict(net, x))


def test_moving_it_moves_everything():
    net = NETWORKS["untied, biases, output too"]().to("meta")
    assert {p.device.type for p in net.parameters()} == {"meta"}
    wired = lifted().to(torch.float32).wire(batch()[0].float())
    assert {wired.drive(k).dtype for k in (1, 2, 3)} == {torch.float32}


def test_predictions_ask_for_gradients_only_where_they_are_recorded():
    net, (x, _) = lifted().eval(), batch()
    assert net(x).requires_grad
    assert not predict(net, x).requires_grad
    with torch.inference_mode():
        assert torch.equal(net(x), predict(net, x))


def test_a_relaxation_can_be_watched():
    net, (x, _) = lifted(), batch()
    seen: list[float] = []
    solution = net.relax(x, observe=lambda states, residual: seen.append(float(residual.max())))
    assert seen == solution.trace
    assert len(seen) == solution.iterations


def test_a_chain_with_feedback_weights_is_refused():
    chain = Layered.from_sequential(mlp(), feedback=RandomFeedback())
    with pytest.raises(ValueError, match=r"through the weights themselves: take net\.with_feedback\(None\)"):
        Lifted(chain)


# --- units that are not perfect ---


class Disturbed(AbstractSubstrate):
    """Units that hear `(1 + gain) u + shift`."""

    def __init__(self, gain: float, shift: dict[int, torch.Tensor]) -> None:
        self.gain, self.shift = gain, shift

    def received(self, k: int, drive: torch.Tensor) -> torch.Tensor:
        return (1 + self.gain) * drive + self.shift[k]

    def moved(self, k: int, state: AbstractState, factor: float) -> AbstractState:
        return state

    def read(self, k: int, state: AbstractState) -> AbstractState:
        return state


@pytest.mark.parametrize("units", ["together", "in turn"])
@pytest.mark.parametrize("solver", [Plain(), Accelerated()], ids=["plain", "accelerated"])
def test_what_units_hear_is_disturbed_and_not_where_they_are(units, solver: AbstractSolver):
    """At rest a unit is `f((1 + g) a + n)`, with `a = (r - sum_{j != i} H_ij z_j) / H_ii`, however it got there."""
    net, (x, _) = lifted(Terms(gamma=0.5), scale=2.0), batch()
    net.units, net.relaxation = units, Relaxation(solver=solver, stop=Residual(1e-12, 20_000), strict=True)
    shift = {k: 0.1 * torch.randn(state.mean().shape[1]) for k, state in enumerate(net.relax(x).states, 1)}
    states = [state.mean() for state in net.on(Disturbed(0.05, shift)).relax(x).states]
    z = [s.clone().requires_grad_() for s in states]
    slopes = torch.autograd.grad(net.energy([x, *z]).sum(), z, create_graph=True)
    for k, (slope, s) in enumerate(zip(slopes, states, strict=True), 1):
        rows = [torch.autograd.grad(slope[0, i], z[k - 1], retain_graph=True)[0][0, i] for i in range(s.shape[1])]
        heard = s - slope.detach() / torch.stack(rows)
        assert_close(s, net.activations[k - 1].f(1.05 * heard + shift[k]), rtol=0, atol=1e-9)
