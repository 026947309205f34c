"""Spectral norms by power iteration, against singular values of the dense Jacobian."""

import pytest
import torch
from cases import NETWORKS, problem
from torch import Tensor, nn
from torch.testing import assert_close

from dyadnet import Layered
from dyadnet.relax.spectral import spectral_norms


def dense_norms(net: Layered, x: Tensor) -> list[list[float]]:
    """Largest singular value of every map's Jacobian, sample by sample."""
    found = []
    for stage in net.stages:
        jacobians = [torch.autograd.functional.jacobian(stage.map, sample[None]) for sample in x]
        found.append(
            [
                float(torch.linalg.svdvals(j.reshape(-1, sample.numel()))[0])
                for j, sample in zip(jacobians, x, strict=True)
            ]
        )
        x = stage.activation.f(stage.map(x)).detach()
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_norms_are_the_largest_singular_values_at_the_free_activities(name):
    case = NETWORKS[name]()
    norms = spectral_norms(case.net, case.x, iterations=100)
    for norm, expected in zip(norms, dense_norms(case.net, case.x), strict=True):
        assert_close(norm.flatten(), torch.tensor(expected), rtol=5e-3, atol=0)  # some values lie close together


def test_one_dominant_direction_is_found_to_rounding():
    layer = nn.Linear(6, 4)
    left, right = torch.linalg.qr(torch.randn(4, 4))[0], torch.linalg.qr(torch.randn(6, 6))[0]
    layer.weight.data = left @ torch.diag(torch.tensor([3.0, 1.0, 0.5, 0.1])) @ right[:4]
    case = problem(nn.Sequential(layer), 6)  # scales weights by 1.6
    assert_close(spectral_norms(case.net, case.x)[0], torch.full((4, 1), 4.8), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", NETWORKS)
def test_estimates_grow_towards_the_norm_from_below(name):
    case = NETWORKS[name]()
    estimates = [spectral_norms(case.net, case.x, iterations=n) for n in (1, 3, 30)]
    for few, more, most, exact in zip(*estimates, dense_norms(case.net, case.x), strict=True):
        assert (few <= more * (1 + 1e-12)).all()
        assert (more <= most * (1 + 1e-12)).all()
        assert (most.flatten() <= torch.tensor(exact) * (1 + 1e-12)).all()
        assert (few.flatten() < torch.tensor(exact)).any()


@pytest.mark.parametrize("name", NETWORKS)
def test_norms_broadcast_to_the_state_below_and_nothing_is_changed(name):
    case = NETWORKS[name]()
    before = torch.get_rng_state()
    state = case.x
    for stage, norm in zip(case.net.stages, spectral_norms(case.net, case.x), strict=True):
        assert norm.shape == (len(state), *[1] * (state.dim() - 1))
        state = stage.activation.f(stage.map(state))
    assert torch.equal(torch.get_rng_state(), before)


def test_starting_vectors_come_from_the_generator():
    case = NETWORKS["relu mlp"]()
    drawn = [
        spectral_norms(case.net, case.x, iterations=1, generator=torch.Generator().manual_seed(seed))[0]
        for seed in (1, 1, 2)
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert_close(spectral_norms(case.net, case.x), spectral_norms(case.net, case.x), rtol=0, atol=0)


def test_the_estimate_of_a_sample_does_not_depend_on_its_batch():
    case = NETWORKS["relu mlp"]()
    whole = spectral_norms(case.net, case.x, iterations=2)
    last = spectral_norms(case.net, case.x[-1:], iterations=2)
    for batched, alone in zip(whole, last, strict=True):
        assert_close(batched[-1:], alone, rtol=1e-12, atol=0)


def test_a_map_without_weights_has_norm_zero():
    layer = nn.Linear(5, 4)
    nn.init.zeros_(layer.weight)
    case = problem(nn.Sequential(layer), 5)
    assert spectral_norms(case.net, case.x)[0].eq(0).all()


def test_dtype_is_that_of_the_network():
    case = NETWORKS["conv-pool"]()
    assert all(norm.dtype == torch.float32 for norm in spectral_norms(case.net.float(), case.x.float()))


@pytest.mark.parametrize("name", NETWORKS)
def test_those_of_lower_maps_may_be_left_out(name):
    case = NETWORKS[name]()
    assert_close(spectral_norms(case.net, case.x, lowest=2), spectral_norms(case.net, case.x)[1:], rtol=0, atol=0)
