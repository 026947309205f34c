"""The same weights under another `lam`, and as a densely connected network."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from dyadnet import Dense, Dyadic, Layered, OddEven, RecurrentBackprop, cross_entropy, squared_error
from dyadnet.audit.certificate import certify
from dyadnet.network.linearisation import Gradients
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.solver import Damped
from hopfield.cases import (
    EXACT,
    EXACT_DENSE,
    LAMBDAS,
    as_reference,
    batch,
    grads,
    layer_rows,
    layered,
    linear,
    mlp,
    one_vector,
)

lambdas = pytest.mark.parametrize("lam", LAMBDAS)
STRUCTURES = {0.0: "skew", 0.25: "interpolated", 0.5: "lower", 0.75: "interpolated", 1.0: "symmetric"}

# --- another lam ---


@lambdas
def test_another_lam_shares_the_stages_and_all_that_they_learn(lam: float):
    net = layered(0.5)
    twin = net.with_lam(lam, EXACT)
    assert (twin.lam, twin.gain, twin.relaxation) == (lam, 2 * lam - 1, EXACT)
    assert [id(p) for p in twin.parameters()] == [id(p) for p in net.parameters()]
    assert list(twin.state_dict()) == list(net.state_dict())
    x, _ = batch()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(0.5)
    fresh = Layered.from_sequential(nn.Sequential(*net.children()), lam, relaxation=EXACT)
    assert_close(twin(x), fresh(x), rtol=0, atol=0)


def test_the_network_itself_keeps_its_lam():
    net, (x, _) = layered(0.5), batch()
    before = net(x)
    twin = net.with_lam(0.0)
    assert net.lam == 0.5
    assert_close(net(x), before, rtol=0, atol=0)
    assert not torch.allclose(twin(x), before, atol=0.01)
    assert_close(twin.with_lam(0.5)(x), before, rtol=0, atol=0)


def test_its_relaxation_and_mode_are_kept_unless_told_otherwise():
    how = Relaxation(OddEven(), Damped(0.3))
    net = Layered.from_sequential(mlp(), 0.5, relaxation=how).eval()
    twin = net.with_lam(0.0)
    assert twin.relaxation is how
    assert not any(module.training for module in twin.modules())


def test_a_module_in_two_places_stays_in_both():
    shared = nn.Linear(4, 4)
    net = Layered.from_sequential(nn.Sequential(shared, nn.Tanh(), shared, nn.Tanh(), nn.Linear(4, 2)))
    twin = net.with_lam(0.25)
    assert twin.stages[0].map is twin.stages[1].map is shared
    assert len(list(twin.parameters())) == 4


@pytest.mark.parametrize("lam", [-0.1, 1.1, float("nan")])
def test_a_lam_outside_its_range_is_refused(lam: float):
    with pytest.raises(ValueError, match=r"lam must lie in \[0, 1\]"):
        layered(0.5).with_lam(lam)


def test_from_feedforward_to_skew_by_steps_while_learning():
    """One optimiser, whose moments go on."""
    net, (x, y) = layered(0.5), batch(8)
    optimizer = torch.optim.Adam(net.parameters(), 0.03)
    losses = []
    for step in range(25):
        now = net.with_lam(max(0.0, 0.5 - step / 40), EXACT)
        optimizer.zero_grad()
        losses.append(float(Dyadic(0.1).backward(now, squared_error, x, y).loss))
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]
    assert certify(net.with_lam(0.0), x).lipschitz_states == 1


# --- a chain as a densely connected network ---


def opened(lam: float) -> list[str | None]:
    """The structures that a chain of this `lam` can have."""
    return [None, "free", "interpolated", *([STRUCTURES[lam]] if STRUCTURES[lam] != "interpolated" else [])]


twins = pytest.mark.parametrize(
    ("lam", "structure"), [(lam, structure) for lam in LAMBDAS for structure in opened(lam)]
)


def as_chain(net: Layered, gradients: Gradients, twin: Dense) -> Gradients:
    """The gradients of the dense twin, those of the chain's parameters only."""
    found, rows = {}, layer_rows(net)
    for k, (stage, here) in enumerate(zip(net.stages, rows, strict=True)):
        weight = gradients[twin.theta][here, rows[k - 1]] if k > 0 else gradients[twin.theta_0][here]
        found[linear(stage.map).weight], found[linear(stage.map).bias] = weight, gradients[twin.bias][here]
    return found


@twins
def test_a_chain_and_its_dense_twin_have_the_same_equilibria(lam: float, structure):
    net, (x, _) = layered(lam), batch()
    twin = Dense.from_layered(net, structure, relaxation=EXACT_DENSE)
    assert_close(one_vector(twin.relax(x).states), one_vector(net.relax(x).states), rtol=0, atol=1e-10)
    assert_close(twin(x), net(x), rtol=0, atol=1e-10)
    assert_close(twin.connectivity().detach(), torch.tensor(as_reference(net).W), rtol=0, atol=0)


@lambdas
@pytest.mark.parametrize("loss", [squared_error, cross_entropy], ids=["squared error", "cross-entropy"])
def test_and_the_same_exact_gradients(lam: float, loss):
    net = layered(lam)
    x, y = batch(loss="cross-entropy" if loss is cross_entropy else "squared error")
    twin = Dense.from_layered(net, relaxation=EXACT_DENSE)
    ours, theirs = (grads(RecurrentBackprop(), each, loss, x, y) for each in (net, twin))
    for parameter, gradient in as_chain(net, theirs, twin).items():
        assert_close(ours[parameter], gradient, rtol=0, atol=1e-9)


@twins
def test_only_what_the_structure_opens_can_learn(lam: float, structure):
    net, (x, y) = layered(lam), batch()
    twin = Dense.from_layered(net, structure, relaxation=EXACT_DENSE)
    found = grads(Dyadic(0.1), twin, squared_error, x, y)[twin.theta]
    chain = torch.tensor(as_reference(net).exists)
    expected = {None: chain, "free": ~torch.eye(16, dtype=torch.bool)}.get(
        structure, torch.ones(16, 16).tril(-1).bool()
    )
    assert torch.equal(twin.mask, expected)
    assert not found[~expected].any()
    assert structure is None or bool(found[expected & ~chain].any())


def test_it_learns_on_from_where_the_chain_was():
    net, (x, y) = layered(0.5), batch(8)
    twin = Dense.from_layered(net, "free")
    optimizer = torch.optim.Adam(twin.parameters(), 0.05)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        losses.append(float(RecurrentBackprop().backward(twin, squared_error, x, y).loss))
        optimizer.step()
    assert losses[0] == pytest.approx(squared_error(net(x), y).mean().item(), rel=1e-8)
    assert losses[-1] < 0.5 * losses[0]


def test_weights_are_copies():
    net, (x, _) = layered(0.0), batch()
    before = net(x)
    twin = Dense.from_layered(net)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert_close(net(x), before, rtol=0, atol=0)


def test_precision_activations_and_certificate_are_those_of_the_chain():
    net = Layered.from_sequential(mlp(nn.Sigmoid, gain=0.3).float(), 0.75)
    twin = Dense.from_layered(net)
    assert {p.dtype for p in twin.parameters()} == {torch.float32}
    assert [activation.name for activation in twin.activations] == ["sigmoid", "identity"]
    x = batch()[0].float()
    ours, theirs = certify(net, x), certify(twin, x)
    assert theirs.margin == pytest.approx(ours.margin, abs=1e-6)
    assert (theirs.unique, theirs.lipschitz_states) == (True, pytest.approx(ours.lipschitz_states))


def test_flattened_images_and_maps_without_bias_are_linear_too():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4, bias=False), nn.Tanh(), nn.Linear(4, 2))
    net, x = Layered.from_sequential(model, 0.25, relaxation=EXACT), torch.randn(3, 3, 2, 2)
    assert_close(Dense.from_layered(net, relaxation=EXACT_DENSE)(x), net(x), rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2)), "0 Conv2d .* but Conv2d"),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)), "Linear, Linear"),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.ReLU(), nn.Linear(4, 2)), "Linear, LayerNorm"),
        (
            lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)),
            "2 Linear has the activation tanh and 0 Linear has relu",
        ),
    ],
    ids=["convolution", "two maps", "normalisation", "two activations"],
)
def test_chains_that_are_no_matrix_are_refused_by_name(model: Callable[[], nn.Sequential], said: str):
    with pytest.raises(TypeError, match=said):
        Dense.from_layered(Layered.from_sequential(model()))


@pytest.mark.parametrize(("lam", "structure"), [(0.5, "symmetric"), (0.0, "symmetric"), (0.25, "lower"), (1.0, "skew")])
def test_a_structure_of_another_symmetry_is_refused(lam: float, structure):
    with pytest.raises(ValueError, match=f"lam={lam:g} is not structure='{structure}': change it by with_lam"):
        Dense.from_layered(layered(lam), structure)


def test_a_chain_without_hidden_units_is_refused():
    with pytest.raises(ValueError, match="3 units cannot have 3 outputs"):
        Dense.from_layered(Layered.from_sequential(mlp(widths=(5, 3))))
