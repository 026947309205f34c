"""What a report draws of a network: checked against matrices by hand and energies that fall."""

import json
from itertools import pairwise
from math import inf
from typing import Any

import pytest
import torch
from torch import nn

from dyadnet import Dense, Layered
from dyadnet.energy.hopfield import HopfieldEnergy
from dyadnet.network.feedback import RandomFeedback
from dyadnet.network.lifted import Lifted
from dyadnet.train.portrait import MOST_BINS, NOISE, connectivity, pictures, relaxing


def chain(lam: float, widths: tuple[int, ...] = (4, 3, 2, 2)) -> Layered:
    model = nn.Sequential()
    for below, width in pairwise(widths):
        model.extend([nn.Linear(below, width), nn.Hardtanh(0, 1)])
    return Layered.from_sequential(model[:-1], lam)


def drawn(net: Any) -> tuple[list[str], list[int], torch.Tensor]:
    found = connectivity(net)
    assert found is not None
    json.dumps(found)
    return found["layers"], found["bins"], torch.tensor(found["weights"])


def test_the_blocks_of_a_layered_network_lie_where_they_belong():
    net = chain(0.25)
    maps = [stage.map for stage in net.stages]
    upper = [map_.weight.detach() for map_ in maps[1:] if isinstance(map_, nn.Linear)]
    expected = torch.zeros(7, 7)
    expected[3:5, :3], expected[5:, 3:5] = upper
    expected -= 0.5 * expected.T  # c = 2 lam - 1
    layers, bins, W = drawn(net)
    assert (layers, bins) == (["1", "2", "3"], [3, 2, 2])
    torch.testing.assert_close(W, expected, rtol=6e-3, atol=0)  # three digits


def test_feedback_of_its_own_lies_above_the_diagonal():
    net = chain(0.75).with_feedback(RandomFeedback())
    W = drawn(net)[2]
    assert net.feedback is not None
    torch.testing.assert_close(W[:3, 3:5], 0.5 * net.feedback.B1.T, rtol=6e-3, atol=0)


def test_a_lifted_network_shows_images_beside_what_it_makes_of_them():
    net = Lifted(Layered.from_sequential(nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))))
    images = torch.rand(4, 1, 2, 3)
    found = pictures(net, images)
    json.dumps(found)
    grid, (low, high) = torch.tensor(found["pixels"]), found["range"]
    assert grid.shape == (4 * 2, 4 * 3)
    assert (low, high) == (float(images.min()), float(images.max()))
    torch.testing.assert_close(grid[:2], torch.cat(list(images[:, 0]), 1), rtol=6e-3, atol=0)
    decoded = torch.cat(list(net.reconstruct(images)[:, 0]), 1).clamp(low, high)
    torch.testing.assert_close(grid[2:4], decoded, rtol=6e-3, atol=0)
    assert 0 < (grid[4:6] - grid[:2]).std() < NOISE * (high - low)  # clipped to the range
    assert found["rows"] == ["inputs", "reconstructed", "30% noise", "denoised"]


def test_the_energy_of_a_lifted_network_falls_while_it_relaxes():
    net = Lifted(Layered.from_sequential(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))))
    energies = relaxing(net, torch.randn(4, 6))["energy"]
    assert energies[0] is not None
    assert energies[-1] is not None
    assert energies[-1] < energies[0]


@pytest.mark.parametrize("structure", ["free", "symmetric", "skew", "lower"])
def test_a_dense_network_is_its_whole_connectivity(structure: Any):
    net = Dense(3, 7, 2, structure)
    layers, bins, W = drawn(net)
    assert (layers, bins) == (["hidden", "output"], [5, 2])
    torch.testing.assert_close(W, net.connectivity().detach(), rtol=6e-3, atol=0)


def test_wide_layers_are_averaged_over_bins():
    net = chain(1.0, (4, 200, 400, 10))
    _, bins, W = drawn(net)
    assert sum(bins) <= MOST_BINS + 4
    assert min(bins) == 4
    assert len(W) == sum(bins)
    assert W.isfinite().all()
    torch.testing.assert_close(W, W.T)
    weight = net.stages[1].map.weight  # 400 x 200
    first = weight[: 400 // bins[1] + 1, : 200 // bins[0] + 1].mean()
    assert W[bins[0], 0] == pytest.approx(first.item(), rel=6e-3)


def test_what_is_not_linear_has_no_matrix():
    convolutions = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Flatten())
    model = nn.Sequential(*convolutions, nn.Linear(3, 2))
    assert connectivity(Layered.from_sequential(model, 0.0)) is None
    assert connectivity(Layered.from_sequential(nn.Sequential(nn.Linear(3, 2)), 0.0)) is None


def test_the_energy_of_a_symmetric_network_falls_while_it_relaxes():
    net, x = chain(1.0, (4, 20, 20, 3)), torch.rand(6, 4)
    found = relaxing(net, x)
    residual, energy = found["trace"], found["energy"]
    assert len(residual) == len(energy) == net.relax(x).iterations > 3
    assert residual[-1] <= 1e-5 < residual[1]
    rounding = 1e-4 * max(map(abs, energy))
    assert all(after <= before + rounding for before, after in pairwise(energy))
    assert energy[-1] < energy[0]
    settled = HopfieldEnergy(net).value(x, net.relax(x).states).mean().item()
    assert energy[-1] == pytest.approx(settled, rel=1e-4)


@pytest.mark.parametrize("net", [chain(0.0, (4, 20, 20, 3)), Dense(4, 20, 3, "free")], ids=["skew", "dense"])
def test_without_an_energy_there_is_the_residual_alone(net: Any):
    found = relaxing(net, torch.rand(6, 4))
    assert found.keys() == {"trace"}
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert inf not in found["trace"]
