"""Message passing: what a layer is told and when, how often a map is evaluated, and what is refused."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from cases import NETWORKS, SCHEDULES, mlp, problem
from torch import Tensor, nn
from torch.testing import assert_close

from dyadnet import (
    BottomUp,
    DualPropagation,
    Lagrangian,
    Layered,
    OddEven,
    Parallel,
    RandomOrder,
    Sweeps,
    cross_entropy,
)
from dyadnet.network.state import AbstractState, Activity
from dyadnet.relax.propagate import propagate
from dyadnet.relax.schedule import AbstractSchedule

all_schedules = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


@dataclass(frozen=True, eq=False)
class Told(AbstractState):
    """A layer that keeps what it was told, sends `s` up and `e` down."""

    s: Tensor
    e: Tensor | None

    def mean(self) -> Tensor:
        return self.s

    def error(self) -> Tensor | None:
        return self.e


class Counting(nn.Module):
    """A map that counts its evaluations."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.calls = inner, 0

    def forward(self, s: Tensor) -> Tensor:
        self.calls += 1
        return self.inner(s)


def counting_case():
    model = nn.Sequential(
        Counting(nn.Linear(5, 7)), nn.Tanh(), Counting(nn.Linear(7, 6)), nn.Tanh(), Counting(nn.Linear(6, 4))
    )
    return problem(model, 5), [module for module in model if isinstance(module, Counting)]


@pytest.mark.parametrize("rule", [Lagrangian(), DualPropagation()], ids=["lagrangian", "dual propagation"])
def test_one_sweep_evaluates_every_map_once(rule):
    case, maps = counting_case()
    rule.estimate(case.net, cross_entropy, case.x, case.y)
    assert [module.calls for module in maps] == [1, 1, 1]


def test_a_map_is_evaluated_again_only_when_the_state_below_was_renewed():
    case, maps = counting_case()
    DualPropagation(schedule=BottomUp()).estimate(case.net, cross_entropy, case.x, case.y)
    assert [module.calls for module in maps] == [1, 3, 3]


@pytest.mark.parametrize(("schedule", "own"), [(BottomUp(), 0), (Sweeps(passes=2), 0), (OddEven(), 1), (Parallel(), 1)])
def test_a_prediction_takes_a_pass_of_its_own_where_no_error_free_pass_came_first(schedule, own):
    case, maps = counting_case()
    DualPropagation(schedule=schedule).estimate(case.net, cross_entropy, case.x, case.y)
    assert maps[0].calls == 1 + own  # the inputs never change
    warm = DualPropagation().estimate(case.net, cross_entropy, case.x, case.y)
    found = DualPropagation(schedule=schedule).estimate(case.net, cross_entropy, case.x, case.y, states=warm.states)
    assert_close(found.output, case.net(case.x))


def test_messages_are_the_map_of_the_mean_below_and_the_transpose_of_the_error_above():
    first, second = nn.Linear(3, 2), nn.Linear(2, 4)
    net, x = Layered.from_sequential(nn.Sequential(first, nn.Tanh(), second)), torch.randn(5, 3)
    s, e = {1: torch.randn(5, 2), 2: torch.randn(5, 4)}, {1: torch.randn(5, 2), 2: torch.randn(5, 4)}
    told: list[tuple[int, Tensor, Tensor | None, AbstractState | None]] = []

    def neuron(k, drive, feedback, before):
        told.append((k, drive, feedback, before))
        return Told(s[k], e[k])

    reached = propagate(net, x, neuron, Sweeps())
    assert [k for k, *_ in told] == [1, 2, 1]
    assert_close(told[0][1], first(x).detach())
    assert told[0][2:] == (None, None)  # no error above yet, no state before
    assert_close(told[1][1], second(s[1]).detach())
    assert told[1][2] is None  # nothing is above the output
    assert_close(told[2][2], e[2] @ second.weight.detach())
    assert isinstance(told[2][3], Told)
    assert_close(reached.output, second(s[1]).detach())
    expected = {
        first.weight: e[1].T @ x,
        first.bias: e[1].sum(0),
        second.weight: e[2].T @ s[1],
        second.bias: e[2].sum(0),
    }
    assert_close({id(p): g for p, g in reached.grads.items()}, {id(p): g for p, g in expected.items()})


class InOrder(AbstractSchedule):
    """Any order that a test asks for."""

    def __init__(self, *groups: tuple[int, ...]) -> None:
        self.groups = groups

    passes = 1

    def one_pass(self, depth: int, generator: torch.Generator) -> Iterator[tuple[int, ...]]:
        return iter(self.groups)

    def needed(self, depth: int) -> int:
        return 1

    def default(self, depth: int) -> int:
        return 1


def test_feedback_comes_through_the_map_where_its_mean_last_travelled_up():
    """The map of layer 2 squares, so that its transpose tells where it was taken."""

    class Square(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.ones(3))

        def forward(self, s: Tensor) -> Tensor:
            return self.gain * s.square()

    net = Layered.from_sequential(nn.Sequential(nn.Linear(3, 3), nn.Tanh(), Square()))
    sent = iter(torch.tensor([1.0, 5.0, 7.0, 9.0, 11.0, 13.0]))
    feedbacks = []

    def neuron(k, drive, feedback, before):
        feedbacks.append(feedback)
        return Told(torch.full_like(drive, float(next(sent))), torch.ones_like(drive))

    reached = propagate(net, torch.randn(2, 3), neuron, InOrder((1,), (2,), (1,), (1,), (2,), (1,)))
    # means of layer 1: 1, then 7 and 9 unheard of above until the next visit of layer 2
    assert [None if feedback is None else float(feedback[0, 0]) for feedback in feedbacks] == [
        None,
        None,
        2,
        2,
        None,
        18,
    ]
    gain = next(iter(net.stages[1].map.parameters()))
    assert reached.grads[gain].tolist() == [2 * 81.0] * 3


def test_the_layers_of_a_group_see_what_the_others_had_before():
    net, x = Layered.from_sequential(mlp()), torch.randn(2, 5)
    seen = []

    def neuron(k, drive, feedback, before):
        seen.append((k, drive))
        return Told(torch.full((2, [7, 6, 4][k - 1]), float(k)), None)

    propagate(net, x, neuron, Parallel())
    silent = net.stages[1].map(torch.zeros(2, 7)).detach()
    assert [k for k, _ in seen[:3]] == [1, 2, 3]
    assert_close(seen[1][1], silent)  # layer 1 was at rest when the group began
    assert_close(seen[4][1], net.stages[1].map(torch.ones(2, 7)).detach())


def test_a_layer_that_was_never_visited_is_at_rest_and_learns_nothing():
    model, x = mlp(), torch.randn(2, 5)
    net, top = Layered.from_sequential(model), model[4]
    assert isinstance(top, nn.Linear)

    reached = propagate(net, x, lambda k, drive, *_: Told(drive, torch.ones_like(drive)), InOrder((3,)))
    assert reached.states is not None
    assert all(isinstance(state, Activity) for state in reached.states[:2])
    assert_close(reached.output, top.bias.detach().expand(2, 4))
    silent = [p for stage in net.stages[:2] for p in stage.parameters()]
    assert all(reached.grads[p].eq(0).all() for p in silent)
    assert reached.grads[top.bias].tolist() == [2.0] * 4


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_states_at_rest_are_silent_and_of_the_shapes_of_the_activities(make):
    case = make()
    x = case.x
    for stage, state in zip(case.net.stages, case.net.wire(case.x).silent().values(), strict=True):
        x = stage.activation.f(stage.map(x))
        assert state.mean().shape == x.shape
        assert state.mean().eq(0).all()
        assert state.error() is None


@all_schedules
def test_states_that_are_handed_in_are_where_it_starts(schedule):
    case = NETWORKS["conv-pool"]()
    rule = DualPropagation(alpha=0, schedule=schedule)
    cold = rule.estimate(case.net, cross_entropy, case.x, case.y)
    warm = rule.estimate(case.net, cross_entropy, case.x, case.y, states=cold.states)
    assert cold.states is not None
    assert warm.states is not None
    for before, after in zip(cold.states, warm.states, strict=True):
        assert_close(after.mean(), before.mean(), rtol=1e-12, atol=1e-12)
        assert_close(after.error(), before.error(), rtol=1e-10, atol=1e-12)
    for parameter in cold.grads:
        assert_close(warm.grads[parameter], cold.grads[parameter], rtol=1e-10, atol=1e-12)


def test_states_from_another_batch_are_forgotten_by_a_rule_without_loops():
    case = NETWORKS["relu mlp"]()
    rule = Lagrangian(Sweeps(2))
    other = rule.estimate(case.net, cross_entropy, torch.randn_like(case.x), case.y.flip(0)).states
    cold, warm = (case.estimate(rule, cross_entropy, states=states) for states in (None, other))
    assert_close(warm, cold, rtol=1e-12, atol=1e-14)


def test_states_of_another_network_or_batch_are_refused():
    case = NETWORKS["conv-pool"]()
    states = list(DualPropagation().estimate(case.net, cross_entropy, case.x, case.y).states or ())
    with pytest.raises(ValueError, match="2 states were given for a network of 3 stages"):
        DualPropagation().estimate(case.net, cross_entropy, case.x, case.y, states=states[1:])
    with pytest.raises(ValueError, match="batch of 4, not of 3"):
        DualPropagation().estimate(case.net, cross_entropy, case.x[:3], case.y[:3], states=states)


@pytest.mark.parametrize("rule", [Lagrangian(RandomOrder(12)), DualPropagation(schedule=RandomOrder(12))], ids=repr)
def test_a_random_order_is_drawn_from_the_generator_alone(rule):
    case = NETWORKS["relu mlp"]()
    orders = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed + 10)
        orders.append(case.estimate(rule, cross_entropy, generator=torch.Generator().manual_seed(seed)))
    assert_close(orders[0], orders[1], rtol=0, atol=0)
    assert_close(orders[0], orders[2], rtol=1e-3, atol=1e-3)


def test_an_input_that_does_not_fit_is_refused_by_the_name_of_the_stage():
    case = NETWORKS["relu mlp"]()
    with pytest.raises(ValueError, match=r"0 Linear cannot take states of shape \(4, 3\)"):
        DualPropagation().estimate(case.net, cross_entropy, torch.randn(4, 3), case.y)


def test_states_are_not_of_half_precision_under_autocast():
    case = NETWORKS["conv-pool"]()
    net = case.net.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        step = DualPropagation().estimate(net, cross_entropy, case.x.float(), case.y)
    assert step.output.dtype == torch.float32
    assert all(state.mean().dtype == torch.float32 for state in step.states or ())


def test_a_warm_start_evaluates_a_map_that_changes_twice_and_is_refused_while_training():
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 4))
    case = problem(model, 5)
    states = DualPropagation().estimate(case.net, cross_entropy, case.x, case.y).states
    with pytest.raises(ValueError, match="3 BatchNorm1d"):
        DualPropagation().estimate(case.net, cross_entropy, case.x, case.y, states=states)


def test_a_random_order_that_reaches_the_output_once_is_refused_while_training_too():
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 4))
    case, rule = problem(model, 5), Lagrangian(RandomOrder(2))
    seed = next(
        seed
        for seed in range(100)
        if [k for (k,) in rule.schedule.order(3, torch.Generator().manual_seed(seed))].count(3) == 1
    )
    with pytest.raises(ValueError, match="3 BatchNorm1d"):
        rule.estimate(case.net, cross_entropy, case.x, case.y, generator=torch.Generator().manual_seed(seed))
