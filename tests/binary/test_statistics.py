"""Batch statistics of other weights: those of the batches, all else as it was, and as it was again afterwards."""

import torch
from torch import nn

from dyadnet.binary.statistics import reestimated


def test_statistics_are_the_means_over_batches_and_go_afterwards() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, affine=False), nn.Dropout(0.5), nn.Linear(4, 2))
    batches = [torch.randn(8, 3) for _ in range(5)]
    net(torch.randn(16, 3))
    before, norm = {k: v.clone() for k, v in net.state_dict().items()}, net[1]
    hidden = [net[0](x).detach() for x in batches]
    with reestimated(net, iter(batches)):
        torch.testing.assert_close(norm.running_mean, torch.stack([h.mean(0) for h in hidden]).mean(0))
        torch.testing.assert_close(norm.running_var, torch.stack([h.var(0) for h in hidden]).mean(0))
        assert norm.momentum == 0.1
        assert all(module.training for module in net.modules())
    after = net.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())


def test_layers_above_see_what_the_layers_below_normalise_by_their_own_batch() -> None:
    net = nn.Sequential(nn.BatchNorm1d(2, affine=False), nn.ReLU(), nn.BatchNorm1d(2, affine=False)).eval()
    x = 3 + 2 * torch.randn(4000, 2)
    with reestimated(net, [x]):
        torch.testing.assert_close(net(x).mean(0), torch.zeros(2), atol=1e-3, rtol=0)
        assert not net[0].training


def test_a_network_without_batch_normalisation_reads_no_batch() -> None:
    def never():
        raise AssertionError
        yield

    with reestimated(nn.Linear(2, 2), never()):
        pass
