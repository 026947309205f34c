"""Extreme eigenvalues against NumPy's, below and above the size from which iteration takes over."""

from math import isnan

import numpy as np
import pytest
import torch
from torch import nn

from dyadnet import Dense, Layered
from dyadnet.audit.spectra import DENSE_UP_TO, Apply, connections, largest_eigenvalue, map_norm, spectral_radius
from dyadnet.network.linearise import linearise

sizes = pytest.mark.parametrize("size", [1, 2, 3, DENSE_UP_TO, DENSE_UP_TO + 50])


def random(size: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((size, size)) / size**0.5


def product(matrix: np.ndarray) -> Apply:
    return lambda v: matrix @ v


@sizes
def test_the_largest_eigenvalue_of_a_symmetric_matrix(size: int):
    matrix = random(size) + random(size).T
    found = largest_eigenvalue(product(matrix), size)
    assert found == pytest.approx(np.linalg.eigvalsh(matrix)[-1], rel=1e-12)
    assert largest_eigenvalue(product(matrix - 9 * np.eye(size)), size) == pytest.approx(found - 9)


@sizes
def test_the_spectral_radius_of_any_matrix(size: int):
    exact = abs(np.linalg.eigvals(random(size))).max()
    assert spectral_radius(product(random(size)), size) == pytest.approx(exact, rel=1e-9)


@sizes
@pytest.mark.parametrize("factor", [0.0, -0.5])
def test_multiples_of_the_unit_matrix(size: int, factor: float):
    assert spectral_radius(lambda v: factor * v, size) == pytest.approx(-factor)
    assert largest_eigenvalue(lambda v: factor * v, size) == pytest.approx(factor)


def test_many_eigenvalues_of_one_modulus_are_not_found_but_in_small_matrices():
    """A cyclic shift has the roots of unity."""
    assert spectral_radius(lambda v: np.roll(v, 1), DENSE_UP_TO) == pytest.approx(1)
    assert isnan(spectral_radius(lambda v: np.roll(v, 1), 10 * DENSE_UP_TO))


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Linear(7, 4), (7,)),
        (nn.Linear(DENSE_UP_TO + 20, 30), (DENSE_UP_TO + 20,)),
        (nn.Conv2d(2, 3, 3, stride=2, padding=1), (2, 6, 6)),
        (nn.Sequential(nn.Conv2d(2, 3, 3), nn.AvgPool2d(2)), (2, 11, 11)),
        (nn.Sequential(nn.Conv2d(2, 3, 3), nn.MaxPool2d(2), nn.Flatten()), (2, 6, 6)),
    ],
    ids=["linear", "large linear", "convolution", "averages", "maxima"],
)
def test_the_norm_of_a_map_is_that_of_its_jacobian(module: nn.Module, shape: tuple[int, ...]):
    module, below = module.double(), torch.randn(1, *shape)
    jacobian = torch.autograd.functional.jacobian(module, below).reshape(-1, below.numel())
    found = map_norm(linearise(module, lambda: below), below)
    assert found == pytest.approx(float(torch.linalg.matrix_norm(jacobian, 2)))


def test_a_map_without_weights_has_norm_zero():
    layer = nn.Linear(5, 4)
    nn.init.zeros_(layer.weight)
    assert map_norm(linearise(layer, lambda: torch.zeros(1, 5)), torch.zeros(1, 5)) == 0


@pytest.mark.parametrize("structure", ["free", "skew"])
def test_the_connections_of_a_dense_network_are_its_matrix(structure):
    net = Dense(5, 12, 3, structure)
    weights, v = connections(net, torch.zeros(1, 5)), np.random.default_rng(0).standard_normal(12)
    theta, W = net.masked().detach().numpy(), net.connectivity().detach().numpy()
    np.testing.assert_allclose(weights.apply(v, 1.0, net.gain), W @ v, atol=1e-12)
    np.testing.assert_allclose(weights.apply(v, 0.3, 0.7), (0.3 * theta + 0.7 * theta.T) @ v, atol=1e-12)
    np.testing.assert_allclose(weights.hear(2, v, 1.0, net.gain), (W @ v)[-3:], atol=1e-12)


def test_those_of_a_chain_are_its_weights_in_blocks():
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    weights = connections(Layered.from_sequential(model, 0.0), torch.zeros(1, 5))
    assert (weights.size, weights.rows) == (9, {1: slice(0, 4), 2: slice(4, 7), 3: slice(7, 9)})
    theta = np.zeros((9, 9))
    theta[4:7, 0:4] = model[2].weight.detach().numpy()  # pyright: ignore
    theta[7:9, 4:7] = model[4].weight.detach().numpy()  # pyright: ignore
    found = np.stack([weights.apply(unit, 1.0, -1.0) for unit in np.eye(9)], axis=1)
    np.testing.assert_allclose(found, theta - theta.T, atol=1e-12)
    assert weights.eigenvalue == pytest.approx(np.linalg.eigvalsh(theta + theta.T)[-1])
