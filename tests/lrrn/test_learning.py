"""What lifted networks learn: the derivatives of their least energies, and where those lead."""

import warnings
from collections.abc import Callable
from math import log2

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.testing import assert_close

from dyadnet import (
    Backprop,
    ContrastiveHebbian,
    Dense,
    DualPropagation,
    Dyadic,
    EquilibriumPropagation,
    Lagrangian,
    Layered,
    RecurrentBackprop,
    alignment,
    cross_entropy,
    squared_error,
)
from dyadnet.data.loading import load
from dyadnet.energy.lrrn import LRRNEnergy
from dyadnet.loss import AbstractLoss
from dyadnet.network.lifted import Lifted, Terms
from dyadnet.network.linearisation import Gradients
from dyadnet.relax.relaxation import NotSettledWarning, Relaxation
from dyadnet.relax.solver import Accelerated, Plain
from dyadnet.relax.stopping import Count, Residual
from dyadnet.rule.lrrn import LRRN
from lrrn import reference
from lrrn.cases import LEARNING, NETWORKS, SOME, batch, by_reference, error, lifted, minima, mlp, predict

networks = pytest.mark.parametrize("make", SOME.values(), ids=SOME)


def least(net: Lifted, x: Tensor, y: Tensor | None = None) -> Tensor:
    """The least energy of every sample, outputs held at their targets if there are any."""
    energy, wiring = LRRNEnergy(net), net.wire(x)
    return energy.value(x, energy.minimise(wiring, None if y is None else energy.clamped(y, y)).states)


def contrast(net: Lifted, x: Tensor, y: Tensor) -> Tensor:
    """J of clamped outputs, `(batch,)`."""
    return net.output_gain**2 / net.terms.regression * (least(net, x, y) - least(net, x))


def nudged(net: Lifted, x: Tensor, y: Tensor, beta: float, loss: AbstractLoss = squared_error) -> Tensor:
    """J of nudged outputs, `(batch,)`."""
    energy, wiring = LRRNEnergy(net), net.wire(x)
    states = energy.minimise(wiring, energy.nudged(wiring, loss, y, beta)).states
    taught = energy.value(x, states) + beta * loss(net.output_gain * states[-1].mean(), y)
    return (taught - least(net, x)) / beta


def assert_is_derivative(value: Callable[[], Tensor], gradients: Gradients, tolerance: float) -> None:
    """The gradients agree with central differences along a random direction of all parameters at once."""
    size, step = torch.cat([gradient.flatten() for gradient in gradients.values()]).norm(), 3e-5
    directions = {p: torch.randn_like(p) / p.numel() ** 0.5 for p in gradients}
    ends: list[float] = []
    for sign in (1, -2, 1):  # ahead, back, and where it was
        with torch.no_grad():
            for parameter, direction in directions.items():
                parameter += sign * step * direction
        if len(ends) < 2:
            ends.append(float(value()))
    slope = float(sum((gradients[p] * direction).sum() for p, direction in directions.items()))
    assert abs(slope - (ends[0] - ends[1]) / (2 * step)) < tolerance * float(size)


# --- the gradient ---


@networks
def test_clamped_learning_descends_the_contrast_of_energies(make: Callable[[], Lifted]):
    net, (x, y) = make(), batch()
    grads = LRRN().estimate(net, squared_error, x, y).grads
    assert set(grads) == set(net.parameters())
    assert_is_derivative(lambda: contrast(net, x, y).mean(), grads, 1e-7)


@networks
def test_nudged_learning_descends_its_own(make: Callable[[], Lifted]):
    net, (x, y) = make(), batch()
    grads = LRRN(0.7).estimate(net, squared_error, x, y).grads
    assert_is_derivative(lambda: nudged(net, x, y, 0.7).mean(), grads, 1e-7)


@networks
def test_unsupervised_learning_descends_the_free_energy_in_units_of_the_lowest_layer(make: Callable[[], Lifted]):
    net, (x, y) = make(), batch()
    unit = net.terms.gamma ** (net.depth - 1)
    step = LRRN(supervised=False).estimate(net, squared_error, x, y)
    assert_is_derivative(lambda: unit * least(net, x).mean(), step.grads, 1e-7)
    assert float(step.loss) == pytest.approx(float(unit * least(net, x).mean()))


@pytest.mark.parametrize("name", ["tied, output too", "untied, biases, output too"])
@pytest.mark.parametrize(
    ("rule", "slow", "options"),
    [
        (LRRN(), reference.clamped, ()),
        (LRRN(0.7), reference.nudged, (0.7,)),
        (LRRN(supervised=False), reference.unsupervised, ()),
    ],
    ids=["clamped", "nudged", "unsupervised"],
)
def test_every_parameter_learns_what_the_reference_says(name: str, rule, slow, options):
    net, (x, y) = NETWORKS[name](), batch(2)
    assert error(rule.estimate(net, squared_error, x, y).grads, by_reference(slow, net, x, y, *options)) < 1e-6


def test_the_nudge_of_the_cross_entropy_is_its_own_too():
    net, (x, _), y = (
        lifted(Terms(gamma=0.5, output_reconstructs=True), output_gain=3.0),
        batch(),
        torch.tensor([2, 0, 1]),
    )
    grads = LRRN(0.7).estimate(net, cross_entropy, x, y).grads
    assert_is_derivative(lambda: nudged(net, x, y, 0.7, cross_entropy).mean(), grads, 1e-7)


@pytest.mark.parametrize("make", [NETWORKS["tied, output too"], NETWORKS["untied"]], ids=["tied", "untied"])
def test_the_contrast_is_never_negative_and_zero_where_the_output_is_the_target(make: Callable[[], Lifted]):
    net, (x, y) = make(), batch()
    for value in (contrast(net, x, y), nudged(net, x, y, 0.7)):
        assert bool((value > 0).all())
    assert contrast(net, x, predict(net, x)).abs().max() < 1e-10


# --- where it leads ---


def loss_of_the_chain_of_encoders(net: Lifted, x: Tensor, y: Tensor) -> Tensor:
    """The squared error of layers that each minimise their own autoencoder, as a differentiable function."""
    z = x
    for k in range(1, net.depth):
        hessian, sent = net.autoencoder(k).upper()
        drive = z @ net.autoencoder(k).coupling().T + sent
        with torch.no_grad():
            states, step = torch.zeros_like(drive), 1 / torch.linalg.matrix_norm(hessian, 2)
            for _ in range(5000):
                states = (states - step * (states @ hessian - drive)).relu()
        on = (states > 0).to(z.dtype)
        solved = on[:, :, None] * hessian * on[:, None] + torch.diag_embed(1 - on)
        z = torch.linalg.solve(solved, on * drive)
    return squared_error(net.maps[-1](z), y).mean()


LIMITS = {
    "tied": lambda gamma: Terms(gamma),
    "untied, biases": lambda gamma: Terms(gamma, reconstruction=0.5, tied=False, biases=True),
    "regression alone": lambda gamma: Terms(gamma, reconstruction=0.0),
}


@pytest.mark.parametrize("name", LIMITS)
def test_without_feedback_it_is_backpropagation_through_the_chain_of_encoders_linearly_in_gamma(name: str):
    def error_at(gamma: float) -> float:
        torch.manual_seed(1)
        net, (x, y) = lifted(LIMITS[name](gamma)), batch()
        wanted = list(net.parameters())
        exact = torch.autograd.grad(loss_of_the_chain_of_encoders(net, x, y), wanted)
        return error(LRRN().estimate(net, squared_error, x, y).grads, dict(zip(wanted, exact, strict=True)))

    errors = error_at(1e-3), error_at(5e-4)
    assert errors[0] < 0.05
    assert log2(errors[0] / errors[1]) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("reconstruction", "backpropagation"), [(0.0, True), (1.0, False)])
def test_that_is_backpropagation_of_the_plain_chain_for_regression_alone_only(reconstruction, backpropagation):
    model, (x, y) = mlp(), batch()
    net = lifted(Terms(1e-4, reconstruction=reconstruction), model)
    exact = Backprop().estimate(Layered.from_sequential(model), squared_error, x, y).grads
    found = error(LRRN().estimate(net, squared_error, x, y).grads, exact)
    assert found < 0.01 if backpropagation else found > 0.3


@networks
def test_the_prediction_is_differentiable_in_the_parameters_and_in_the_inputs(make: Callable[[], Lifted]):
    net, (x, y) = make(), batch()
    step = Backprop().estimate(net, squared_error, x, y)
    assert_is_derivative(lambda: squared_error(predict(net, x), y).mean(), step.grads, 1e-6)
    moving = x.clone().requires_grad_()
    slope = torch.autograd.grad(squared_error(net(moving), y).mean(), moving)[0]
    assert_is_derivative(lambda: squared_error(predict(net, moving), y).mean(), {moving: slope}, 1e-6)


def test_weak_nudges_teach_the_gradient_of_the_loss_linearly_in_beta():
    loss = cross_entropy
    net, (x, _), y = lifted(Terms(gamma=0.5), output_gain=2.0), batch(), torch.tensor([2, 0, 1])
    exact = Backprop().estimate(net, loss, x, y)

    def error_at(beta: float) -> float:
        return error(LRRN(beta).estimate(net, loss, x, y).grads, exact.grads)

    errors = error_at(1e-3), error_at(5e-4)
    assert errors[0] < 0.01
    assert log2(errors[0] / errors[1]) == pytest.approx(1, abs=0.05)
    step = LRRN(1e-3).estimate(net, loss, x, y)
    assert_close(step.output, predict(net, x), rtol=0, atol=1e-11)
    assert float(step.loss) == pytest.approx(float(exact.loss))


def test_alignment_is_with_that_gradient():
    net, (x, y) = lifted(Terms(gamma=0.5)), batch()
    found = alignment(LRRN(1e-3), net, squared_error, x, y)
    assert [layer.layer for layer in found] == ["0 Linear", "2 Linear", "4 Linear"]
    assert all(layer.cosine > 0.9999 for layer in found)
    assert 0 < min(layer.cosine for layer in alignment(LRRN(), net, squared_error, x, y)) < 0.9999


def test_the_smallness_of_a_slope_does_not_matter():
    net, (x, y) = lifted(Terms(gamma=0.5), relaxation=Relaxation(solver=Accelerated(), strict=True)), batch()
    exact = Backprop().estimate(net, squared_error, x, y).grads
    net.float()
    moving = x.float().requires_grad_()
    (1e-6 * squared_error(net(moving), y.float()).mean()).backward()
    for parameter, gradient in exact.items():
        assert_close(1e6 * parameter.grad, gradient.float(), rtol=1e-3, atol=1e-3 * float(gradient.abs().max()))
    assert moving.grad is not None
    assert moving.grad.abs().max() > 0


def test_frozen_parameters_have_no_derivative():
    net, (x, y) = lifted(), batch()
    net.maps[0].weight.requires_grad_(False)
    squared_error(net(x), y).mean().backward()
    assert net.maps[0].weight.grad is None
    assert net.maps[1].weight.grad is not None


def test_strong_nudges_are_clamps():
    net, (x, y) = lifted(Terms(gamma=0.5), output_gain=2.0), batch()
    clamped = LRRN().estimate(net, squared_error, x, y).grads
    strong = LRRN(1e7).estimate(net, squared_error, x, y).grads
    assert error({p: 1e7 * grad for p, grad in strong.items()}, {p: grad / 4 for p, grad in clamped.items()}) < 1e-5


def test_classes_are_clamped_as_one_hot_outputs_whatever_the_loss():
    net, (x, _), y = lifted(), batch(), torch.tensor([2, 0, 1])
    classes = LRRN().estimate(net, cross_entropy, x, y)
    assert error(classes.grads, LRRN().estimate(net, squared_error, x, torch.eye(3)[y]).grads) == 0
    assert float(classes.loss) == pytest.approx(float(cross_entropy(predict(net, x), y).mean()))


# --- unsupervised ---


def autoencoder(inputs: int, units: int, scale: float) -> Lifted:
    """One linear layer without biases that regresses and reconstructs; its singular values are all `scale`."""
    linear = nn.Linear(inputs, units, bias=False)
    nn.init.orthogonal_(linear.weight, gain=scale)
    return lifted(Terms(output_reconstructs=True), nn.Sequential(linear), relaxation=LEARNING)


def test_the_least_energy_of_a_linear_autoencoder_is_that_of_its_singular_values():
    net, x = autoencoder(8, 4, 1.0), torch.randn(6, 8)
    _, s, directions = torch.linalg.svd(net.maps[0].weight.detach())
    s, parts = torch.cat([s, torch.zeros(4)]), x @ directions.T
    expected = ((1 - s**2) ** 2 / (2 * (1 + s**2)) * parts**2).sum(1)
    assert_close(least(net, x), expected, rtol=1e-5, atol=1e-9)


def learned(net: Lifted, x: Tensor, steps: int) -> tuple[Tensor, float]:
    """The singular values that unsupervised learning ends with, and the energy that it leaves."""
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        step = LRRN(supervised=False).backward(net, squared_error, x, x)
        optimizer.step()
    return torch.linalg.svdvals(net.maps[0].weight.detach()), float(step.loss)


def test_it_learns_an_orthonormal_code_of_data_of_low_rank():
    net, x = autoencoder(8, 4, 0.2), torch.randn(60, 4) @ torch.randn(4, 8) / 2
    values, energy = learned(net, x, 120)
    assert_close(values, torch.ones(4), rtol=0, atol=0.01)
    assert energy < 1e-3
    assert_close(net.reconstruct(x), x, rtol=0, atol=0.05)


def test_but_directions_that_start_above_the_root_of_three_may_turn_away_from_the_data():
    """A turn of one towards the data `x` by a small angle costs `(angle x)^2/2 [ (1 - s^2)^2 / (1 + s^2) - 1 ]`."""
    net, x = autoencoder(8, 4, 4.0), torch.randn(60, 4) @ torch.randn(4, 8) / 2
    values, energy = learned(net, x, 50)
    assert values[0] > 3**0.5
    assert energy > 0.1


def test_a_regression_output_does_not_learn_without_teaching_and_others_do():
    net, (x, y) = lifted(Terms(biases=True)), batch()
    grads = LRRN(supervised=False).estimate(net, squared_error, x, y).grads
    silent = {p for p, grad in grads.items() if grad.abs().max() < 1e-9}
    assert silent == set(net.maps[-1].parameters())


def test_pre_training_and_training_are_two_rules_on_one_network():
    net, x = (
        lifted(Terms(tied=False, biases=True), relaxation=LEARNING),
        torch.randn(40, 5),
    )
    y = torch.stack([x.sum(1), x[:, 0].abs(), x[:, 1] * x[:, 2]], 1)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.04)

    def fall(rule: LRRN) -> float:
        values = []
        for _ in range(12):
            optimizer.zero_grad()
            values.append(float(rule.backward(net, squared_error, x, y).loss))
            optimizer.step()
        return values[-1] / values[0]

    assert fall(LRRN(supervised=False)) < 0.7
    assert fall(LRRN()) < 0.6


# --- reconstruction ---


def test_an_orthonormal_code_reconstructs_images_in_their_shape_and_takes_noise_away():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 4, bias=False), nn.Identity(), nn.Linear(4, 2))
    linear = model[1]
    assert isinstance(linear, nn.Linear)
    basis = torch.linalg.qr(torch.randn(16, 4))[0]
    linear.weight = nn.Parameter(basis.T.contiguous())
    net, clean = lifted(model=model, terms=Terms(1e-6)), (torch.randn(5, 4) @ basis.T).view(5, 1, 4, 4)
    assert_close(net.reconstruct(clean), clean, rtol=0, atol=1e-5)
    noise = torch.randn(5, 1, 4, 4)
    left = net.reconstruct(clean + noise) - clean
    assert_close(left.flatten(1), noise.flatten(1) @ basis @ basis.T, rtol=0, atol=1e-4)
    assert left.norm() < 0.8 * noise.norm()


def test_a_layer_further_up_is_decoded_layer_by_layer():
    net, (x, _) = lifted(Terms(gamma=0.5, tied=False, biases=True)), batch()
    (_, second, _) = minima(net, x)
    lower = (second @ net.V[1].T + net.c[1]).relu()
    assert_close(net.reconstruct(x, layer=2), (lower @ net.V[0].T + net.c[0]).detach(), rtol=0, atol=1e-8)


@pytest.mark.parametrize("layer", [0, 3, 4])
def test_what_is_not_reconstructed_from_says_so(layer: int):
    with pytest.raises(ValueError, match=f"nothing is reconstructed from layer {layer}"):
        lifted().reconstruct(batch()[0], layer=layer)


def test_nor_is_anything_by_regression_alone():
    with pytest.raises(ValueError, match="nothing is reconstructed from layer 1"):
        lifted(Terms(reconstruction=0.0)).reconstruct(batch()[0])


# --- the network and its parameters ---


def test_a_plain_chain_is_trained_as_the_lifted_one_that_shares_its_modules():
    chain, (x, y) = Layered.from_sequential(mlp()), batch()
    net = Lifted(chain)
    assert list(net.state_dict()) == list(chain.state_dict())
    ours, theirs = (LRRN().estimate(n, squared_error, x, y) for n in (chain, net))
    assert error(ours.grads, theirs.grads) == 0
    assert set(ours.grads) == set(chain.parameters())
    assert torch.equal(ours.output, predict(net, x))
    assert (chain(x) - predict(net, x)).abs().max() > 0.1


def test_weights_of_its_own_start_as_the_transpose_and_are_saved():
    chain, (x, _) = Layered.from_sequential(mlp()), batch()
    tied, own = Lifted(chain), Lifted(chain, Terms(tied=False, biases=True))
    assert_close(predict(own, x), predict(tied, x), rtol=0, atol=1e-8)
    added = [name for name in own.state_dict() if name not in tied.state_dict()]
    assert added == ["V.0", "V.1", "c.0", "c.1"]
    assert [len(parameters) for _, parameters in own.groups()] == [4, 4, 2]
    assert {p for _, parameters in own.groups() for p in parameters} == set(own.parameters())
    other = Lifted(Layered.from_sequential(mlp()), Terms(tied=False, biases=True))
    other.load_state_dict(own.state_dict())
    assert torch.equal(predict(other, x), predict(own, x))


@pytest.mark.parametrize("rule", [LRRN(0.5), LRRN(supervised=False)])
def test_frozen_parameters_get_no_gradient_and_do_not_change_the_others(rule: LRRN):
    net, (x, y) = lifted(Terms(tied=False, biases=True)), batch()
    before = rule.estimate(net, squared_error, x, y).grads
    frozen = [net.maps[0].weight, net.V[1], net.c[0]]
    for parameter in frozen:
        parameter.requires_grad_(False)
    after = rule.estimate(net, squared_error, x, y).grads
    assert set(after) == set(before) - set(frozen)
    assert error(after, {p: before[p] for p in after}) < 1e-12


@pytest.mark.parametrize("rule", [LRRN(0.5), LRRN(supervised=False)])
def test_the_gradient_of_a_batch_is_the_mean_over_its_samples_and_changes_nothing(rule: LRRN):
    net, (x, y) = lifted(Terms(tied=False)), batch()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    whole = rule.estimate(net, squared_error, x, y).grads
    single = [rule.estimate(net, squared_error, x[i : i + 1], y[i : i + 1]).grads for i in range(3)]
    assert error({p: sum(g[p] for g in single) / 3 for p in whole}, whole) < 1e-8
    assert_close(dict(net.state_dict()), before, rtol=0, atol=0)
    assert all(p.grad is None for p in net.parameters())


def test_states_are_the_free_ones_and_start_the_next_estimate():
    net, (x, y) = lifted(), batch()
    step = LRRN().estimate(net, squared_error, x, y)
    assert step.states is not None
    for state, slow in zip(step.states, minima(net, x), strict=True):
        assert_close(state.mean(), slow, rtol=0, atol=1e-9)
    again = LRRN().estimate(net, squared_error, x, y, states=step.states)
    assert again.passes < step.passes
    assert error(again.grads, step.grads) < 1e-8
    assert LRRN().estimate(net, squared_error, x, y, keep_states=False).states is None


# --- what is refused ---


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Terms(gamma=0.0), "gamma must lie in"),
        (lambda: Terms(gamma=1.5), "gamma must lie in"),
        (lambda: Terms(gamma=float("nan")), "gamma must lie in"),
        (lambda: Terms(regression=0.0), "regression must be a positive number"),
        (lambda: Terms(reconstruction=-1.0), "reconstruction must be zero or a positive number, not -1.0"),
        (lambda: Terms(reconstruction=0.0, tied=False), "leave tied, biases and output_reconstructs alone"),
        (lambda: LRRN(beta=0.0), "beta must be a positive number"),
        (lambda: LRRN(beta=0.5, supervised=False), "has no output to nudge"),
        (lambda: Lifted(Layered.from_sequential(mlp(), lam=1.0)), "a feedforward chain, not one of lam=1"),
        (lambda: lifted(output_gain=0.0), "output_gain must be a positive number"),
        (lambda: predict(lifted(), torch.zeros(2, 6)), "0 Linear takes 5 inputs, but x has 6"),
    ],
)
def test_settings_without_a_meaning_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_feedback_below_the_tolerance_of_the_inference_is_refused():
    (x, y), chain = batch(), Layered.from_sequential(mlp().float())
    net = Lifted(chain, Terms(gamma=1e-3))
    with pytest.raises(ValueError, match=r"lowest of 3 layers feels the target by a factor of 1e-06, .* 1e-05"):
        LRRN().estimate(net, squared_error, x.float(), y.float())
    LRRN(supervised=False).estimate(net, squared_error, x.float(), y.float())
    LRRN(relaxation=Relaxation(solver=Accelerated(), stop=Count(50))).estimate(net, squared_error, x.float(), y.float())


def test_a_loss_of_ones_own_clamps_but_does_not_nudge():
    def own(output: Tensor, y: Tensor) -> Tensor:
        return (output - y).abs().sum(1)

    net, (x, y) = lifted(), batch()
    assert float(LRRN().estimate(net, own, x, y).loss) == pytest.approx(float(own(predict(net, x), y).mean()))
    with pytest.raises(ValueError, match="clamp it, without beta"):
        LRRN(0.5).estimate(net, own, x, y)


def test_other_networks_are_refused():
    for net in (Dense(5, 9, 3, "symmetric"), Layered.from_sequential(mlp(), lam=0.0)):
        with pytest.raises((TypeError, ValueError), match=r"feedforward"):
            LRRN().estimate(net, squared_error, *batch())


@pytest.mark.parametrize(
    "rule",
    [
        Lagrangian(),
        DualPropagation(),
        Dyadic(),
        RecurrentBackprop(),
        EquilibriumPropagation(),
        ContrastiveHebbian(),
    ],
    ids=lambda rule: type(rule).__name__,
)
def test_other_rules_say_that_they_do_not_apply(rule):
    with pytest.raises((TypeError, ValueError), match="use LRRN"):
        rule.estimate(lifted(), squared_error, *batch())


# --- learning ---


def accuracy(net: Lifted, x: Tensor, y: Tensor) -> float:
    return float((predict(net, x).argmax(1) == y).double().mean())


def trained(relaxation: Relaxation) -> float:
    """The accuracy on digits after two epochs of clamped learning, predicted by settled states."""
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    data, stop = load("digits"), Residual(1e-5, 500)
    x, y = data.train.images.float().flatten(1) / 16, data.train.labels
    net = Lifted(
        Layered.from_sequential(
            nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        )
    )
    net.relaxation = Relaxation(solver=Accelerated(), stop=stop)
    optimizer = torch.optim.Adam(net.parameters(), lr=6e-3)
    for _ in range(2):
        for rows in torch.randperm(len(x)).split(128):
            optimizer.zero_grad()
            LRRN(relaxation=relaxation).backward(net, squared_error, x[rows], y[rows])
            optimizer.step()
    return accuracy(net, data.test.images.float().flatten(1) / 16, data.test.labels)


def test_digits_are_learned_from_settled_states_and_less_from_a_few_plain_steps():
    settled = trained(Relaxation(solver=Accelerated(), stop=Residual(1e-4, 500), strict=True))
    with warnings.catch_warnings(action="ignore", category=NotSettledWarning):
        truncated = trained(Relaxation(solver=Plain(), stop=Count(8)))
    assert settled > 0.9
    assert truncated < 0.88


def test_the_derivative_is_in_the_parameters_of_the_forward_pass():
    """Others may be lent to the network for that alone, as `functional_call` does."""
    net, (x, y) = lifted(), batch()
    lent = {name: (1.1 * p.detach()).requires_grad_() for name, p in net.named_parameters()}
    found = torch.autograd.grad((functional_call(net, lent, (x,)) - y).square().sum() / 2, list(lent.values()))
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(1.1)
    exact = torch.autograd.grad((net(x) - y).square().sum() / 2, list(net.parameters()))
    assert max(float(e.abs().max()) for e in exact) > 0.01
    for ours, theirs in zip(found, exact, strict=True):
        assert_close(ours, theirs)


def test_weights_that_change_before_the_backward_pass_are_noticed():
    net, (x, _) = lifted(), batch()
    loss = net(x).square().sum()
    with torch.no_grad():
        next(net.parameters()).mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
