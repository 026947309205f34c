"""Schedules: who is visited when, and how few visits carry an error to the lowest layer."""

from collections import Counter
from collections.abc import Sequence

import pytest
import torch
from cases import SCHEDULES
from hypothesis import given
from hypothesis import strategies as st

from dyadnet import BottomUp, OddEven, Parallel, RandomOrder, Sweeps
from dyadnet.relax.schedule import AbstractSchedule

depths = st.integers(1, 7)
all_schedules = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


def learning(order: Sequence[tuple[int, ...]], depth: int) -> set[int]:
    """The layers that know of the error of a prediction in the end, by following who could have told whom.

    A layer's activity is that of the input once it was visited after the layer below had its own; it knows of the
    error once visited after the layer above did.
    """
    active, informed = {0}, set()
    for group in order:
        newly_active = {k for k in group if k - 1 in active}
        newly_informed = {k for k in group if (k == depth and k in newly_active) or k + 1 in informed}
        active |= newly_active
        informed |= newly_informed
    return informed


@given(depth=depths)
@pytest.mark.parametrize("schedule", [Sweeps(), BottomUp(), OddEven(), Parallel()], ids=repr)
def test_the_default_passes_carry_the_error_to_the_lowest_layer(schedule, depth):
    assert learning(list(schedule.order(depth)), depth) == set(range(1, depth + 1))


def without_its_last_pass(schedule: AbstractSchedule, depth: int) -> list[tuple[int, ...]]:
    """The groups of a schedule but for its last pass, which no user can ask for."""
    groups, passes = list(schedule.order(depth)), schedule.count(depth)
    return groups[: len(groups) * (passes - 1) // passes]


@given(depth=st.integers(2, 7))
@pytest.mark.parametrize("schedule", [Sweeps(), BottomUp(), OddEven(), Parallel()], ids=repr)
def test_one_pass_less_does_not(schedule, depth):
    assert 1 not in learning(without_its_last_pass(schedule, depth), depth)


@pytest.mark.parametrize(
    ("schedule", "needed"),
    [(Sweeps(0), 1), (BottomUp(3), 4), (OddEven(3), 4), (Parallel(6), 7), (RandomOrder(1), 2), (BottomUp(-1), 4)],
    ids=repr,
)
def test_too_few_passes_are_refused_with_a_sentence(schedule, needed):
    for call in (schedule.count, lambda depth: list(schedule.order(depth))):
        with pytest.raises(ValueError, match=rf"needs {needed} passes .* not {schedule.passes}$") as caught:
            call(4)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("schedule", "groups"),
    [
        (Sweeps(), [(1,), (2,), (3,), (4,), (3,), (2,), (1,)]),
        (Sweeps(2), [(1,), (2,), (3,), (4,), (3,), (2,), (1,)] * 2),
        (BottomUp(), [(1,), (2,), (3,), (4,)] * 4),
        (BottomUp(5), [(1,), (2,), (3,), (4,)] * 5),
        (OddEven(), [(1, 3), (2, 4)] * 4),
        (Parallel(), [(1, 2, 3, 4)] * 7),
    ],
    ids=repr,
)
def test_groups_come_in_the_order_that_the_name_says(schedule, groups):
    assert list(schedule.order(4)) == groups


@given(depth=depths)
@all_schedules
def test_a_pass_visits_as_many_layers_as_there_are(schedule, depth):
    visits = sum(len(group) for group in schedule.order(depth))
    per_pass = 2 * depth - 1 if isinstance(schedule, Sweeps) else depth
    assert visits == per_pass * schedule.count(depth)


@given(depth=depths)
@all_schedules
def test_layers_count_from_one_to_the_output(schedule, depth):
    groups = list(schedule.order(depth))
    assert {k for group in groups for k in group} <= set(range(1, depth + 1))
    assert all(groups)
    assert all(len(set(group)) == len(group) for group in groups)


def test_a_random_order_is_a_function_of_its_generator():
    draws = [list(RandomOrder().order(5, torch.Generator().manual_seed(seed))) for seed in (1, 1, 2)]
    assert draws[0] == draws[1]
    assert draws[0] != draws[2]
    assert list(RandomOrder().order(5)) == list(RandomOrder().order(5))


def test_a_random_order_draws_layers_uniformly_and_leaves_the_global_state_alone():
    before = torch.get_rng_state()
    counts = Counter(k for (k,) in RandomOrder(2000).order(4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(abs(counts[k] - 2000) < 5 * 2000**0.5 for k in range(1, 5))


def test_a_random_order_has_told_every_layer_after_2l_minus_1_passes_on_average():
    depth, needed = 3, []
    for seed in range(300):
        order = list(RandomOrder(60).order(depth, torch.Generator().manual_seed(seed)))
        needed.append(next(i for i in range(len(order) + 1) if 1 in learning(order[:i], depth)) / depth)
    assert sum(needed) / len(needed) == pytest.approx(2 * depth - 1, rel=0.1)
