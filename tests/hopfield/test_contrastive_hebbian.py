"""Contrastive Hebbian and coupled learning by their definitions, how they hang together, and where they lead."""

import pytest
import torch

from dyadnet import (
    Backprop,
    ContrastiveHebbian,
    CoupledLearning,
    EquilibriumPropagation,
    Layered,
    cross_entropy,
    squared_error,
)
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.stopping import Count
from hopfield import reference
from hopfield.cases import EXACT, LOSSES, WITH_ENERGY, batch, by_reference, error, grads, layered, mlp, order

VARIANTS = ("positive", "negative", "centred")
networks = pytest.mark.parametrize("name", WITH_ENERGY)

# --- contrastive Hebbian learning ---


@networks
def test_gradients_are_the_contrast_of_the_clamped_and_the_free_energy(name: str):
    net, (x, y) = WITH_ENERGY[name](), batch()
    slow = by_reference(reference.contrastive_hebbian, net, x, y)
    assert error(grads(ContrastiveHebbian(), net, squared_error, x, y), slow) < 1e-10


def test_classes_are_clamped_as_one_hot_outputs_whatever_the_loss():
    net, (x, y) = layered(1.0), batch(loss="cross-entropy")
    rows = torch.eye(3)[y]
    classes = ContrastiveHebbian().estimate(net, cross_entropy, x, y)
    assert error(classes.grads, grads(ContrastiveHebbian(), net, squared_error, x, rows)) == 0
    assert float(classes.loss) == pytest.approx(float(cross_entropy(net(x), y).mean()))


def discounted(discount: float) -> tuple[Layered, Layered]:
    """A network whose feedback is discounted, and the feedforward network of the same weights."""
    model = mlp()
    nets = [Layered.from_sequential(model, lam, relaxation=EXACT) for lam in ((1 + discount) / 2, 0.5)]
    return nets[0], nets[1]


def test_it_tends_to_backpropagation_linearly_in_the_discount():
    def error_at(discount: float) -> float:
        torch.manual_seed(0)
        (net, feedforward), (x, y) = discounted(discount), batch()
        ours = grads(ContrastiveHebbian(), net, squared_error, x, y)
        return error(ours, grads(Backprop(), feedforward, squared_error, x, y))

    assert error_at(1e-3) < 0.01
    assert order(error_at, 1e-3) == pytest.approx(1, abs=0.03)


# --- coupled learning ---


@networks
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_coupled_learning_clamps_the_output_near_its_free_value(name: str, variant, loss: str):
    net, (x, y) = WITH_ENERGY[name](), batch(2, loss=loss)
    slow = by_reference(reference.coupled_learning, net, x, y, 0.3, variant, loss)
    assert error(grads(CoupledLearning(0.3, variant), net, LOSSES[loss], x, y), slow) < 1e-10


@networks
def test_coupled_learning_at_full_clamp_is_contrastive_hebbian_learning(name: str):
    net, (x, y) = WITH_ENERGY[name](), batch()
    full = grads(CoupledLearning(1.0, "positive"), net, squared_error, x, y)
    assert error(full, grads(ContrastiveHebbian(), net, squared_error, x, y)) < 1e-12
    half = grads(CoupledLearning(0.5, "positive"), net, squared_error, x, y)
    assert error(half, grads(ContrastiveHebbian(), net, squared_error, x, y)) > 1e-3


def test_coupled_learning_is_not_a_gradient():
    net, (x, y) = layered(1.0), batch()
    small = grads(CoupledLearning(1e-3), net, squared_error, x, y)
    exact = grads(EquilibriumPropagation(1e-3), net, squared_error, x, y)
    assert error(small, exact) > 0.1


def test_the_centred_variant_is_the_mean_of_the_others():
    net, (x, y) = layered(1.0), batch()
    sides = [grads(CoupledLearning(0.3, variant), net, squared_error, x, y) for variant in ("positive", "negative")]
    centred = grads(CoupledLearning(0.3, "centred"), net, squared_error, x, y)
    assert error(centred, {p: (sides[0][p] + sides[1][p]) / 2 for p in centred}) < 1e-11


# --- what an estimate says, and what is refused ---


@pytest.mark.parametrize("rule", [ContrastiveHebbian(), CoupledLearning()], ids=lambda rule: type(rule).__name__)
def test_a_warm_start_from_the_free_states_changes_nothing_but_the_passes(rule):
    net, (x, y) = layered(1.0), batch()
    cold = rule.estimate(net, squared_error, x, y)
    warm = rule.estimate(net, squared_error, x, y, states=cold.states)
    assert warm.passes == cold.passes - net.relax(x).iterations + 1
    assert error(warm.grads, cold.grads) < 1e-10


def test_a_relaxation_of_ones_own_is_used_in_every_phase():
    net, (x, y) = layered(1.0), batch()
    ten = Relaxation(stop=Count(10))
    for rule in (ContrastiveHebbian(ten), CoupledLearning(relaxation=ten)):
        assert rule.estimate(net, squared_error, x, y).passes == 20


def test_feedforward_networks_have_no_hopfield_energy():
    with pytest.raises(ValueError, match=r"lam=0.5 has no energy: take lam above 1/2, or use Dyadic"):
        ContrastiveHebbian().estimate(layered(0.5), squared_error, *batch())


@pytest.mark.parametrize("beta", [0.0, -0.1, 1.1, float("nan")])
def test_clamps_that_are_none_or_overshoot_are_refused(beta: float):
    with pytest.raises(ValueError, match=r"beta must lie in \(0, 1\]"):
        CoupledLearning(beta)
