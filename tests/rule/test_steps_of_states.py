"""How far states go: by each layer's curvature they come to rest whatever the weights; a fixed step may run away."""

from typing import Any

import pytest
import torch
from torch import nn

from dyadnet import AuxiliaryCoordinates, Layered, PredictiveCoding, squared_error

RULES: tuple[type[Any], ...] = (AuxiliaryCoordinates, PredictiveCoding)


def last_residual(rule: Any, growth: float) -> float:
    """The largest change that a full step would still make, in a network whose weights have grown."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 20), nn.Tanh(), nn.Linear(20, 20), nn.Tanh(), nn.Linear(20, 4)).double()
    with torch.no_grad():
        for linear in (model[2], model[4]):
            linear.weight *= growth
    x, y = torch.randn(16, 12, dtype=torch.float64), torch.randn(16, 4, dtype=torch.float64)
    solution = rule.estimate(Layered.from_sequential(model), squared_error, x, y).solution
    return float(solution.residual.max())


@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("growth", [1.0, 4.0])
def test_steps_by_the_curvature_come_to_rest(kind: Any, momentum: float, growth: float):
    few, many = (last_residual(kind(steps=steps, momentum=momentum), growth) for steps in (20, 300))
    assert many < few / 3 or many < 1e-12


@pytest.mark.parametrize("kind", RULES)
def test_a_fixed_step_does_only_while_weights_are_small(kind: Any):
    assert last_residual(kind(steps=300, step=0.1), 1.0) < 1e-6
    assert not last_residual(kind(steps=300, step=0.1), 8.0) < 1e-2


@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize("step", [0.0, -0.1, float("nan")])
def test_a_step_is_positive(kind: Any, step: float):
    with pytest.raises(ValueError, match="step must be a positive number"):
        kind(step=step)
