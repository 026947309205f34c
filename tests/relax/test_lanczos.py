"""Norms by Lanczos iteration, against singular values."""

from math import isnan

import pytest
import torch
from torch import Tensor

from dyadnet.relax.lanczos import norm_from_below


def found(A: Tensor, iterations: int) -> float:
    return norm_from_below(lambda v: A.T @ (A @ v), torch.randn(A.shape[1]), iterations)


@pytest.mark.parametrize("shape", [(7, 7), (3, 9), (9, 3), (1, 1)])
def test_as_many_steps_as_the_vector_is_long_give_the_norm(shape: tuple[int, int]):
    A = torch.randn(shape)
    assert found(A, shape[1]) == pytest.approx(float(torch.linalg.matrix_norm(A, 2)), rel=1e-10)
    assert found(A, 10 * shape[1]) == pytest.approx(float(torch.linalg.matrix_norm(A, 2)), rel=1e-10)


def test_twelve_steps_come_close_from_below_where_power_iteration_does_not():
    worst, power = 1.0, 1.0
    for _ in range(50):
        A = torch.randn(60, 40)
        norm = float(torch.linalg.matrix_norm(A, 2))
        share = found(A, 12) / norm
        assert share <= 1 + 1e-12
        worst = min(worst, share)
        v = torch.randn(40)
        for _ in range(12):
            v = A.T @ (A @ (v / v.norm()))
        power = min(power, float(v.norm()) ** 0.5 / norm)
    assert worst > 0.97
    assert power < 0.96


def test_a_start_in_an_invariant_subspace_gives_the_norm_there():
    A = torch.diag(torch.tensor([5.0, 2.0, 1.0]))
    assert norm_from_below(lambda v: A @ (A @ v), torch.tensor([0.0, 1.0, 0.0]), 3) >= 2.0


def test_nothing_has_norm_zero():
    assert found(torch.zeros(4, 4), 4) == 0


def test_what_has_left_the_numbers_has_no_norm():
    A = torch.tensor([[1.0, torch.inf], [0.0, 1.0]])
    assert isnan(norm_from_below(lambda v: A.T @ (A @ v), torch.ones(2), 2))
