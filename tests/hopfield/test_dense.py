"""Densely connected networks: the structure of their connections, their equilibria, and what is refused."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from dyadnet import Dense, Dyadic, Layered, Parallel, squared_error
from dyadnet.relax.solver import Anderson
from hopfield.cases import DENSE, EXACT_DENSE, batch, dense, equilibria, error, grads, one_vector

networks = pytest.mark.parametrize("name", DENSE)


# --- structure ---


@networks
def test_no_unit_hears_itself(name: str):
    assert not DENSE[name]().connectivity().diagonal().any()


def test_structures_are_what_they_are_called():
    W = {name: make().connectivity().detach() for name, make in DENSE.items()}
    assert_close(W["symmetric"], W["symmetric"].T, rtol=0, atol=0)
    assert_close(W["skew"], -W["skew"].T, rtol=0, atol=0)
    assert not W["lower-triangular"].triu().any()
    assert bool((W["free"] != 0).sum() == 12 * 11)
    below, above = W["lam 1/4"].tril(), W["lam 1/4"].triu()
    assert_close(above.T, -0.5 * below)


@pytest.mark.parametrize("lam", [0.0, 0.5, 1.0])
def test_interpolated_connections_run_from_skew_through_lower_triangular_to_symmetric(lam: float):
    structure = {0.0: "skew", 0.5: "lower", 1.0: "symmetric"}[lam]
    torch.manual_seed(0)
    one = Dense(5, 12, 3, "interpolated", lam=lam)
    torch.manual_seed(0)
    other = Dense(5, 12, 3, structure)
    assert_close(one.connectivity(), other.connectivity(), rtol=0, atol=0)


@pytest.mark.parametrize("structure", ["free", "lower", "symmetric", "skew"])
def test_connections_start_with_the_norm_asked_for(structure):
    W = Dense(5, 30, 3, structure, scale=4.0).connectivity().detach()
    assert torch.linalg.svdvals(W)[0].item() == pytest.approx(4.0)


def test_a_mask_of_ones_own_says_which_connections_exist():
    mask = torch.zeros(12, 12, dtype=torch.bool)
    mask[3, 1] = mask[1, 3] = mask[11, 3] = True
    net = Dense(5, 12, 3, mask=mask)
    assert bool(((net.connectivity() != 0) == mask).all())
    assert torch.linalg.svdvals(net.connectivity().detach())[0].item() == pytest.approx(0.9)


def test_entries_outside_the_mask_neither_count_nor_learn():
    net, (x, y) = dense("skew"), batch()
    before, found = net(x), grads(Dyadic(0.3), net, squared_error, x, y)
    assert not found[net.theta].triu().any()
    with torch.no_grad():
        net.theta += torch.ones(12, 12).triu()
    assert_close(net(x), before, rtol=0, atol=0)
    assert error(grads(Dyadic(0.3), net, squared_error, x, y), found) == 0


def test_a_layered_network_is_a_dense_one_with_blocks():
    """Two layers of hidden units and one of outputs, as figure 4.1 of the thesis draws them."""
    mask = torch.zeros(9, 9, dtype=torch.bool)
    mask[3:6, 0:3] = mask[6:9, 3:6] = True
    net = Dense(5, 9, 3, "skew", mask=mask, activation=nn.Tanh(), scale=2.0, relaxation=EXACT_DENSE)
    model = nn.Sequential(nn.Linear(5, 3), nn.Tanh(), nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
    with torch.no_grad():
        net.theta_0[3:] = 0.0
        for k, layer in enumerate((model[0], model[2], model[4])):
            rows = slice(3 * k, 3 * k + 3)
            layer.weight.copy_(net.theta_0[rows] if k == 0 else net.theta[rows, 3 * k - 3 : 3 * k])  # pyright: ignore
            layer.bias.copy_(net.bias[rows])  # pyright: ignore
    x, y = batch()
    layered = Layered.from_sequential(model, 0.0)
    assert_close(layered(x), net(x), rtol=0, atol=1e-9)
    ours, theirs = (grads(Dyadic(0.3), each, squared_error, x, y) for each in (layered, net))
    assert_close(ours[model[4].weight], theirs[net.theta][6:9, 3:6], rtol=0, atol=1e-9)  # pyright: ignore
    assert_close(ours[model[0].weight], theirs[net.theta_0][0:3], rtol=0, atol=1e-9)  # pyright: ignore


def test_only_lower_triangular_connections_have_no_cycles():
    assert [name for name, make in DENSE.items() if make().loop_free()] == ["lower-triangular"]


def test_layers_whose_units_hear_only_the_other_layer_are_bipartite():
    mask = torch.zeros(12, 12, dtype=torch.bool)
    mask[9:, :9] = True
    assert Dense(5, 12, 3, "symmetric", mask=mask).bipartite()
    for i, j in ((1, 0), (11, 10)):
        more = mask.clone()
        more[i, j] = True
        assert not Dense(5, 12, 3, "symmetric", mask=more).bipartite()


# --- equilibria ---


@networks
def test_outputs_are_those_of_the_equilibrium(name: str):
    net, (x, _) = DENSE[name](), batch()
    expected = equilibria(net, x)
    assert_close(one_vector(net.relax(x).states), expected, rtol=0, atol=1e-10)
    assert_close(net(x), expected[:, -3:], rtol=0, atol=1e-10)


def test_images_are_flattened():
    net, x = Dense(8, 12, 3), torch.randn(2, 2, 2, 2)
    assert_close(net(x), net(x.flatten(1)), rtol=0, atol=0)


def test_the_default_is_simultaneous_updates_with_anderson_acceleration():
    relaxation = Dense(5, 12, 3).relaxation
    assert relaxation.schedule == Parallel()
    assert relaxation.solver == Anderson()


def test_everything_about_it_is_saved_and_loaded():
    net, other = dense("free"), dense("free")
    other.load_state_dict(net.state_dict())
    x, _ = batch()
    assert_close(other(x), net(x), rtol=0, atol=0)
    assert set(net.state_dict()) == {"theta", "theta_0", "bias", "mask"}


# --- what is refused ---


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"outputs": 12}, "12 units cannot have 12 outputs"),
        ({"outputs": 0}, "12 units cannot have 0 outputs"),
        ({"lam": 0.25}, "lam belongs to structure='interpolated', not to 'free'"),
        ({"structure": "interpolated", "lam": 1.5}, r"lam must lie in \[0, 1\], not 1.5"),
        ({"mask": torch.ones(12, 12)}, r"a mask must be a boolean \(12, 12\), not torch.float32 \(12, 12\)"),
        ({"mask": torch.ones(3, 3, dtype=torch.bool)}, r"a mask must be a boolean \(12, 12\)"),
        ({"mask": torch.ones(12, 12, dtype=torch.bool)}, "self-connections"),
    ],
)
def test_what_cannot_be_is_refused(options, said: str):
    with pytest.raises(ValueError, match=said):
        Dense(**{"inputs": 5, "units": 12, "outputs": 3, **options})


def test_activations_that_the_library_does_not_know_are_refused():
    with pytest.raises(TypeError, match="Softmax is not an activation"):
        Dense(5, 12, 3, activation=nn.Softmax(dim=1))


def test_inputs_of_another_size_are_refused():
    with pytest.raises((ValueError, RuntimeError)):
        Dense(5, 12, 3)(torch.zeros(2, 4))
