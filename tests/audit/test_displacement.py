"""How far outputs are moved, against closed forms of one linear unit."""

import pytest
import torch
from torch import nn

from dyadnet import Backprop, DualPropagation, Dyadic, EquilibriumPropagation, Lagrangian, Layered, squared_error
from dyadnet.audit.displacement import displacement
from dyadnet.rule.base import AbstractRule


def moved(rule: AbstractRule, lam: float) -> float | None:
    """A unit that answers 6 and is told 5."""
    net = Layered.from_sequential(nn.Sequential(nn.Linear(1, 1, bias=False)), lam)
    with torch.no_grad():
        net.stages[0].parameters()[0].fill_(2.0)
    return displacement(rule, net, squared_error, torch.tensor([[3.0]]), torch.tensor([[5.0]]))


@pytest.mark.parametrize(
    ("rule", "lam", "expected"),
    [
        (DualPropagation(0.5), 0.5, 0.5),
        (EquilibriumPropagation(0.5, "positive"), 1.0, 1 - 1 / 1.5),  # (6 + .5 * 5) / 1.5 and 6
        (EquilibriumPropagation(0.5, "centred"), 1.0, 1 / 0.5 - 1 / 1.5),
        (Dyadic(1.0), 1.0, 1 / 0.5 - 1 / 1.5),  # each state nudged by half
        (Dyadic(1.0), 0.0, 1 / 0.5 - 1 / 1.5),
    ],
)
def test_of_one_unit(rule: AbstractRule, lam: float, expected: float) -> None:
    assert moved(rule, lam) == pytest.approx(expected)


@pytest.mark.parametrize("rule", [Backprop(), Lagrangian()])
def test_rules_that_contrast_nothing_move_nothing(rule: AbstractRule) -> None:
    assert moved(rule, 0.5) is None
