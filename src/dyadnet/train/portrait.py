"""What a report draws of a network with feedback: how its states relax, and how it is connected."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from dyadnet.energy.base import AbstractEnergy, AbstractMinimiser
from dyadnet.energy.hopfield import HopfieldEnergy
from dyadnet.energy.lrrn import LRRNEnergy
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.dense import Dense
from dyadnet.network.layered import Layered
from dyadnet.network.lifted import Lifted
from dyadnet.network.state import AbstractState
from dyadnet.train.settling import finite

NOISE = 0.3  # of the range of the images
MOST_BINS = 64  # rows and columns of the connectivity: a report holds every one of their products


def relaxing(net: AbstractNetwork, x: Tensor) -> dict[str, list[float | None]]:
    """Return the largest residual after every pass and, where the network has one, the mean energy of the batch.

    Args:
        net: a network with feedback, in eval mode.
        x: inputs `(batch, ...)`, whose states relax freely from silence.
    """
    residuals: list[float] = []
    energies: list[float] = []
    energy = _energy(net)

    def observe(states: Sequence[AbstractState], residual: Tensor) -> None:
        residuals.append(float(residual.max()))
        if energy is not None:
            energies.append(float(energy.value(x, states).mean()))

    net.relax(x, observe=observe)
    traces = {"trace": residuals} | ({"energy": energies} if energy else {})
    return {name: [finite(_rounded(value, 5)) for value in values] for name, values in traces.items()}


def _energy(net: AbstractNetwork) -> AbstractEnergy | None:
    """The energy that a network descends, if any."""
    if isinstance(net, Lifted):
        return LRRNEnergy(net)
    if isinstance(net, AbstractMinimiser):
        return net.own_energy()
    return None if net.energy_missing() else HopfieldEnergy(net)


def connectivity(net: AbstractNetwork) -> dict[str, Any] | None:
    """Return the matrix `W` between the units of a network, layer by layer, as thesis figure 4.1 shows it.

    Wide layers are cut into bins, over which weights are averaged: symmetric and skew connections stay so. None for a
    network whose maps between layers are not linear.

    Returns:
        `layers`, their names; `bins`, in how many each is cut; `weights`, the rows of the binned matrix.
    """
    blocks = _blocks(net)
    if blocks is None:
        return None
    layers, widths, given = blocks
    share = min(1.0, MOST_BINS / sum(widths))
    bins = [min(width, max(4, round(share * width))) for width in widths]
    ends = [0, *accumulate(bins)]
    W = torch.zeros(ends[-1], ends[-1])
    for (k, j), block in given.items():
        pooled = nn.functional.adaptive_avg_pool2d(block.detach().float().cpu()[None], (bins[k], bins[j]))
        W[ends[k] : ends[k + 1], ends[j] : ends[j + 1]] = pooled[0]
    weights = [[_rounded(weight, 3) for weight in row] for row in W.tolist()]
    return {"layers": layers, "bins": bins, "weights": weights}


@torch.no_grad()
def pictures(net: Lifted, images: Tensor) -> dict[str, Any]:
    """Return what a lifted network reconstructs of images, and of noisy ones, side by side.

    Args:
        net: the network, in eval mode.
        images: `(batch, channels, height, width)`; the mean of the channels is shown.

    Returns:
        `rows`, their names; `range`, the values that are black and white; `pixels`, all rows as one picture.
    """
    low, high = float(images.min()), float(images.max())
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)).to(images)
    noisy = images + NOISE * (high - low) * noise
    kinds = {"inputs": images, "reconstructed": net.reconstruct(images)}
    kinds |= {f"{NOISE:.0%} noise": noisy, "denoised": net.reconstruct(noisy)}
    rows = torch.cat([torch.cat(list(kind.mean(1).float().cpu()), 1) for kind in kinds.values()])
    pixels = [[_rounded(value, 3) for value in row] for row in rows.clamp(low, high).tolist()]
    return {"rows": list(kinds), "range": [low, high], "pixels": pixels}


def _blocks(net: AbstractNetwork) -> tuple[list[str], list[int], dict[tuple[int, int], Tensor]] | None:
    """Name the layers, with their widths and what each receives from each, counted from 0."""
    if isinstance(net, Dense):
        names, widths = ["hidden", "output"], [len(net.bias) - net.outputs, net.outputs]
        halves = [rows.split(widths, 1) for rows in net.connectivity().split(widths)]
        return names, widths, {(k, j): halves[k][j] for k in range(2) for j in range(2)}
    maps = [stage.map for stage in net.stages[1:]] if isinstance(net, Layered) else []
    linear = [map_ for map_ in maps if type(map_) is nn.Linear]
    if not isinstance(net, Layered) or not linear or len(linear) < len(maps):
        return None
    blocks: dict[tuple[int, int], Tensor] = {}
    instead = {} if net.feedback is None else net.feedback.detours()
    for k, map_ in enumerate(linear, 1):
        blocks |= {(k, k - 1): map_.weight, (k - 1, k): net.gain * instead.get(map_, map_.weight).T}
    names = [str(k) for k in range(1, len(net.stages) + 1)]
    return names, [linear[0].in_features, *(map_.out_features for map_ in linear)], blocks


def _rounded(value: float, digits: int) -> float:
    """A value with so many significant digits."""
    return float(f"{value:.{digits}g}")
