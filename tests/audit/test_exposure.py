"""What a network withstands, all at once: certified radii in units of the box, and reasons for what is not known."""

from math import inf, sqrt

import pytest
import torch
from everywhere import NETWORKS, linear
from torch import Tensor, nn

from dyadnet import Layered
from dyadnet.audit.attack import Box
from dyadnet.audit.exposure import FINE, RADII, expose, settling
from dyadnet.network.energetic import AbstractNeuronEnergy, Energetic
from dyadnet.network.feedback import RandomFeedback

FEW = {"fast gradient": (0.0, 0.05), "units": (0.0, 0.1)}


def test_certified_radii_are_those_of_two_linear_scores_in_the_largest_unit():
    x, y = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.4, 0.6]]), torch.tensor([0, 1, 0])
    for unit in (1.0, torch.tensor([0.5, 2.0])):
        found = expose(linear(torch.eye(2)), x, y, box=Box(unit=unit), sizes={})
        radii = [0.8 / sqrt(2), 0.2 / sqrt(2), 0.0]  # the last one is in the wrong class
        largest = float(torch.as_tensor(unit).max())
        shares = [sum(radius >= limit * largest for radius in radii) / 3 for limit in RADII]
        assert list(found.certified.values()) == pytest.approx(shares)
        assert found.accuracy == pytest.approx(2 / 3)
        assert found.trials == []


@pytest.mark.parametrize("kind", ["feedforward", "skew", "lifted"])
def test_a_network_is_left_as_it_was(kind: str):
    net, x, y = NETWORKS[kind](), torch.rand(5, 2, 3), torch.tensor([0, 1, 2, 1, 0])
    own = net.relaxation
    with settling(net, FINE):
        assert net.relaxation.stop == FINE
        assert (net.relaxation.schedule, net.relaxation.solver) == (own.schedule, own.solver)
    found = expose(net, x, y, looked_at=3, sizes=FEW)
    assert net.relaxation == own
    assert found.missing == {}
    assert [trial.accuracy for trial in found.trials if trial.size == 0] == [found.accuracy] * 2
    assert found.lipschitz.pairs <= found.lipschitz.bound < inf


class Chain(AbstractNeuronEnergy):
    """`E_k = 1/2 (s_k - s_{k-1})^2`, from one input to three units in a row, of which the last two are outputs."""

    def energies(self, s: Tensor, mean: Tensor, x: Tensor) -> Tensor:
        return (s - torch.cat([x, mean[:, :2]], 1)).square() / 2

    def minimiser(self, mean: Tensor, x: Tensor, tilt: Tensor) -> Tensor:
        return torch.cat([x, mean[:, :2]], 1) + tilt


def astray() -> Layered:
    """Means go down through weights of their own."""
    model = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 2))
    return Layered.from_sequential(model, 0.75).with_feedback(RandomFeedback())


@pytest.mark.parametrize(
    ("make", "bound", "gradients"),
    [
        (astray, "weights of their own", "through the transpose"),
        (lambda: Energetic(Chain(), 3, 2), "energies of their own", "energies"),
    ],
)
def test_what_is_not_defined_is_missing_with_its_reason(make, bound: str, gradients: str):
    found = expose(make(), torch.rand(4, 1), torch.tensor([0, 1, 0, 1]), sizes=FEW)
    constants = found.lipschitz
    assert (constants.bound, constants.driven, constants.steepest, constants.mean) == (inf, None, None, None)
    assert bound in constants.source
    assert constants.pairs > 0
    assert constants.unknown is not None
    assert gradients in constants.unknown
    assert found.missing.pop("fast gradient") == constants.unknown
    assert [trial.kind for trial in found.trials] == ["units"] * 2
    assert found.missing == {}
    assert set(found.certified.values()) == {0.0}
