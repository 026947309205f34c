"""Unsettled states are counted, sample by sample, and not warned of."""

import json
import warnings
from math import inf, nan

import pytest
import torch

from dyadnet.relax.relaxation import NotSettledWarning, Solution
from dyadnet.train.settling import Tally, counted, finite, unsettled


def solution(*residual: float, passes: int = 3) -> Solution:
    return Solution([], torch.tensor(residual), passes, torch.zeros(len(residual), dtype=torch.bool))


def test_samples_beyond_the_tolerance_and_beyond_numbers_are_unsettled():
    assert unsettled(solution(0.5, 1.0, 1.5, nan, inf), tolerance=1.0) == 3
    assert unsettled(solution(0.0), tolerance=1.0) == 0


def test_an_epoch_is_the_mean_of_its_steps_and_the_worst_of_its_samples():
    tally = Tally(0.1)
    tally.add(solution(0.05, 0.2, passes=4))
    tally.add(solution(0.01, 0.3, 0.0, 0.1, passes=9))
    found = tally.metrics()
    assert found == {"iterations": 6.5, "residual": pytest.approx(0.3), "unconverged": 2 / 6}


def test_an_epoch_without_relaxations_has_no_metrics():
    tally = Tally(0.1)
    tally.add(None)
    assert tally.metrics() == {}


@pytest.mark.parametrize("worst", [nan, inf])
def test_a_residual_that_is_no_number_is_not_forgotten(worst: float):
    tally = Tally(0.1)
    for residual in (0.2, worst, 0.05):
        tally.add(solution(residual))
    assert tally.metrics() == {"iterations": 3, "residual": None, "unconverged": 2 / 3}
    json.dumps(tally.metrics(), allow_nan=False)


def test_only_unsettled_states_are_silent():
    with counted():
        warnings.warn("20 of 100 samples", NotSettledWarning, stacklevel=1)
        with pytest.warns(UserWarning, match="another"):
            warnings.warn("another", stacklevel=1)
    with pytest.warns(NotSettledWarning):
        warnings.warn("20 of 100 samples", NotSettledWarning, stacklevel=1)


def test_json_holds_finite_numbers_only():
    assert [finite(value) for value in (1.5, nan, inf, None)] == [1.5, None, None, None]
