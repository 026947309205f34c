"""What equilibrium propagation learns in resistive networks, against finite differences, and where it goes wrong."""

from dataclasses import replace
from typing import final

import pytest
import torch
from torch import Tensor, nn

from dyadnet import CoupledLearning, EquilibriumPropagation, cross_entropy, squared_error
from dyadnet.hardware.circuit import Circuit
from dyadnet.hardware.passivity import passive_bound
from dyadnet.hardware.power import contrast_of_squares
from dyadnet.hardware.resistive import ResistiveNetwork
from dyadnet.loss import AbstractLoss, Strength
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.solver import Plain
from dyadnet.relax.stopping import Count
from dyadnet.rule.equilibrium_propagation import Variant
from dyadnet.rule.nudge import nudged
from tests.hardware.circuits import CIRCUITS, batch, cosine, distance, measured, network, slopes

circuits = pytest.mark.parametrize("circuit", CIRCUITS.values(), ids=CIRCUITS)


def ep(net: ResistiveNetwork, x: Tensor, y: Tensor, beta: float, variant: Variant = "centred") -> dict[Tensor, Tensor]:
    return EquilibriumPropagation(beta, variant).estimate(net, squared_error, x, y).grads


@circuits
@pytest.mark.parametrize(("variant", "order"), [("centred", 2), ("positive", 1), ("negative", 1), ("random-sign", 1)])
def test_its_error_falls_with_the_strength_of_the_nudge(circuit: Circuit, variant: Variant, order: int):
    net, x, y, exact = measured(circuit)
    strong = 0.02 * passive_bound(net)
    far, near = (distance(ep(net, x, y, beta, variant), exact) for beta in (strong, strong / 4))
    assert far < 0.2
    assert far / near == pytest.approx(4**order, rel=0.2)


def test_the_continual_variant_tends_to_the_one_sided_one_as_its_step_falls():
    net, (x, y) = network(Circuit(input_gain=3.0)), batch()
    beta, goal = 0.01, ep(net, x, y, 0.01, "positive")
    gaps = []
    for step in (1e-5, 1e-6):
        rule = EquilibriumPropagation(beta, "continual", step=step)
        gaps.append(distance(rule.estimate(net, squared_error, x, y).grads, goal))
    assert gaps[0] / gaps[1] == pytest.approx(10, rel=0.2)


def test_so_it_is_for_the_cross_entropy():
    net, (x, _) = network(CIRCUITS["amplified"]), batch()
    y = torch.tensor([0, 1, 1, 1])
    (found,) = torch.autograd.grad(cross_entropy(net(x), y).mean(), [net.conductances[0]])
    gaps = [
        float((EquilibriumPropagation(b).estimate(net, cross_entropy, x, y).grads[net.conductances[0]] - found).norm())
        for b in (0.02, 0.005)
    ]
    assert gaps[0] / gaps[1] == pytest.approx(16, rel=0.2)


def test_coupled_learning_tends_to_the_gradient_times_the_stiffness_of_the_outputs():
    """It moves the output by `beta (y - o)`, which takes a current of the outputs' own stiffness."""
    net, (x, y) = network(Circuit(input_gain=3.0), (2, 5, 1)), batch(1, 2, 1)
    grads = CoupledLearning(1e-5).estimate(net, squared_error, x, y).grads
    exact = slopes(net, x, y)
    ratio = [grads[p].flatten() @ g.flatten() / g.flatten().square().sum() for p, g in exact.items()]
    assert float(max(ratio)) == pytest.approx(float(min(ratio)), rel=1e-4)
    assert min(cosine(grads[p], g) for p, g in exact.items()) > 1 - 1e-8
    assert float(ratio[0]) >= passive_bound(net) * (1 - 1e-6)  # with the hidden nodes that diodes leave free


def test_a_batch_learns_the_mean_of_its_samples():
    net, (x, y) = network(Circuit(input_gain=3.0)), batch()
    whole = ep(net, x, y, 0.02)
    singles = [ep(net, x[i : i + 1], y[i : i + 1], 0.02) for i in range(len(x))]
    for p, grad in whole.items():
        torch.testing.assert_close(grad, torch.stack([single[p] for single in singles]).mean(0))


@pytest.mark.parametrize("weights", [[1.0], [0.7, -0.7], [2.0, -0.5, -1.5], [0.3, 0.4]])
@pytest.mark.parametrize("shared", [False, True])
def test_the_form_without_cancellation_is_the_sum_of_squares(weights: list[float], shared: bool):
    phases = len(weights)
    u, v = torch.randn(1 if shared else phases, 5, 4), torch.randn(phases, 5, 3)
    dg, db = contrast_of_squares(u, v, weights)
    plain = [(u[0 if shared else c][:, :, None] - v[c][:, None]).square().sum(0) / 2 for c in range(phases)]
    torch.testing.assert_close(dg, sum(w * part for w, part in zip(weights, plain, strict=True)))
    torch.testing.assert_close(db, -sum(w * v[c].sum(0) for c, w in enumerate(weights)))


def wide(dtype: torch.dtype) -> tuple[ResistiveNetwork, Tensor, Tensor]:
    """The network of the measurement, 1568-64-10 with a gain of 480, and random images, in a user's precision."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    net = ResistiveNetwork([784, 64, 10], Circuit(input_gain=480.0), Relaxation(solver=Plain(), stop=Count(60)))
    x, y = torch.rand(16, 784), nn.functional.one_hot(torch.randint(10, (16,)), 10)
    torch.set_default_dtype(dtype)
    return net.to(dtype), x.to(dtype), y.to(dtype)


def test_in_single_precision_an_update_of_a_tiny_nudge_keeps_its_direction():
    expected = ep(*wide(torch.float64), 1e-4)
    found = ep(*wide(torch.float32), 1e-4)
    for ours, theirs in zip(found.values(), expected.values(), strict=True):
        assert cosine(ours, theirs) > 0.99


def test_as_a_difference_of_mean_squares_it_would_not():
    """Negative control: the squares as they stand, at the same voltages."""
    expected = ep(*wide(torch.float64), 1e-4)
    net, x, y = wide(torch.float32)
    power, wiring = net.own_energy(), net.wire(x)
    free, squares = power.minimise(wiring), []
    for beta in (1e-4, -1e-4):
        states = power.minimise(wiring.again(free.states), nudged(net, squared_error, y, beta, 2)).states
        across = net.sources(x)[:, :, None] - states[0].mean()[:, None]
        squares.append(across.square().mean(0) / 2)
    assert cosine((squares[0] - squares[1]) / 2e-4, next(iter(expected.values()))) < 0.7


# --- the nudge that the circuit does not bear ---


def test_a_centred_nudge_beyond_the_bound_is_refused_and_one_to_the_target_is_not():
    net, (x, y) = network(CIRCUITS["amplified"]), batch()
    bound = passive_bound(net)
    ep(net, x, y, 0.9 * bound)
    for variant in ("centred", "negative"):
        with pytest.raises(ValueError, match=f"more than the circuit bears, {bound:.4g}: take a smaller beta"):
            ep(net, x, y, 1.1 * bound, variant)
    for beta in (1.1 * bound, 1e3 * bound):
        assert all(bool(grad.isfinite().all()) for grad in ep(net, x, y, beta, "positive").values())


def test_labels_that_sum_to_two_halve_the_bound():
    net, (x, _) = network(CIRCUITS["amplified"]), batch()
    bound, twice = 2 * passive_bound(net), 2 * nn.functional.one_hot(torch.tensor([0, 1, 1, 1])).to(x)
    EquilibriumPropagation(0.45 * bound).estimate(net, cross_entropy, x, twice)
    with pytest.raises(ValueError, match=f"more than the circuit bears, {bound:.4g}: take a smaller beta"):
        EquilibriumPropagation(0.55 * bound).estimate(net, cross_entropy, x, twice)


def test_complex_nudges_and_losses_of_ones_own_are_refused():
    net, (x, y) = network(Circuit()), batch()
    with pytest.raises(TypeError, match="a resistive network has an energy of its own"):
        EquilibriumPropagation(0.1, "holomorphic").estimate(net, squared_error, x, y)
    with pytest.raises(ValueError, match="voltages are real"):
        net.check_nudge(squared_error, torch.tensor([1j]))
    with pytest.raises(ValueError, match="a loss of one's own has no proximal step"):
        EquilibriumPropagation(0.1).estimate(net, lambda output, y: (output - y).square().sum(1), x, y)


@final
class Unchecked(AbstractLoss):
    """The squared error, whose proximal step is taken to wherever the sum is stationary."""

    curvature = 1.0

    def __call__(self, output: Tensor, y: Tensor) -> Tensor:
        return squared_error(output, y)

    def gradient(self, output: Tensor, y: Tensor) -> Tensor:
        return output - y

    def proximal(self, a: Tensor, y: Tensor, strength: Strength) -> Tensor:
        return (a + strength * y) / (1 + strength)


def test_without_the_guard_such_an_update_points_the_other_way():
    """The planted violation: updates settle at a saddle, and every layer learns the opposite of the gradient."""
    net, x, y = wide(torch.float64)
    expected = ep(net, x, y, 1e-3)
    with pytest.raises(ValueError, match="away from the target is a negative conductance"):
        EquilibriumPropagation(10.0).estimate(net, Unchecked(), x, y)
    net.circuit = replace(net.circuit, guarded=False)
    found = EquilibriumPropagation(10.0).estimate(net, Unchecked(), x, y)
    assert found.solution is not None
    assert bool(found.solution.converged.all())
    for g in net.conductances:
        assert cosine(found.grads[g], expected[g]) < -0.8
    one_sided = EquilibriumPropagation(10.0, "positive").estimate(net, squared_error, x, y).grads
    for g in net.conductances:
        assert cosine(one_sided[g], expected[g]) > 0.9
