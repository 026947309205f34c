"""The potentials of lifted layers: what they send and are drawn to are their derivatives."""

import lifted
import pytest
import torch
from cases import ACTIVATIONS
from torch.testing import assert_close

from dyadnet.activation import recognise

PROJECTIONS = ("identity", "relu", "hard sigmoid", "hard tanh", "relu6")
CASES = [(kind, name) for kind in lifted.POTENTIALS for name in ACTIVATIONS if kind not in lifted.PROJECTING] + [
    (kind, name) for kind in lifted.PROJECTING for name in PROJECTIONS
]
cases = pytest.mark.parametrize(("kind", "name"), sorted(CASES))


def potential(kind, name):
    activation = recognise(ACTIVATIONS[name]())
    assert activation is not None
    return lifted.POTENTIALS[kind](activation)


@cases
def test_what_goes_down_is_minus_the_derivative_in_the_drive(kind, name):
    p, s, a = potential(kind, name), torch.randn(50), torch.randn(50, requires_grad=True)
    assert_close(p.sent(s, a.detach()), -torch.autograd.grad(p.value(s, a).sum(), a)[0], rtol=1e-12, atol=1e-14)


@cases
def test_the_target_is_where_a_unit_gradient_step_leads(kind, name):
    """With feedback `v`: the derivative of what the layer shows, times `v`."""
    p, s, a, v = potential(kind, name), torch.randn(50, requires_grad=True), torch.randn(50), torch.randn(50)
    slope = torch.autograd.grad((p.value(s, a) - v * p.shown(s)).sum(), s)[0]
    s = s.detach()
    assert_close(p.rest(a) + p.felt(v, s, p.shown(s)), s - slope, rtol=1e-12, atol=1e-14)


@cases
def test_a_layer_at_rest_has_the_least_potential_and_shows_its_activation(kind, name):
    p, a = potential(kind, name), 2 * torch.randn(50)
    rest = p.allowed(p.rest(a))
    assert_close(p.shown(rest), p.activation.f(a))
    assert bool((p.value(p.allowed(rest + 0.1 * torch.randn(50)), a) >= p.value(rest, a)).all())
    if p.vanishes:
        assert_close(p.value(rest, a), torch.zeros(50), rtol=0, atol=1e-15)
        assert_close(p.sent(rest, a), torch.zeros(50), rtol=0, atol=1e-15)


def test_the_proximal_potential_is_not_zero_at_rest():
    p, a = potential("proximal", "relu"), torch.tensor([-2.0, 1.0])
    assert p.value(p.allowed(a), a).tolist() == [2.0, 0.0]


@pytest.mark.parametrize("name", PROJECTIONS)
def test_the_fenchel_form_is_the_gap_of_youngs_inequality(name):
    """`G(s) + G*(a) - s a`, the conjugate by a search over the range."""
    p, s, a = potential("fenchel", name), torch.randn(20), 2 * torch.randn(20)
    f = p.activation
    s, grid = f.f(s), torch.linspace(max(f.lower, -30), min(f.upper, 30), 400_001)
    conjugate = torch.stack([(grid * one - grid * grid / 2).max() for one in a])
    assert_close(p.value(s, a), s * s / 2 + conjugate - s * a, rtol=0, atol=1e-6)
