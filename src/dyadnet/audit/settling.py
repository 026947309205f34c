"""How fast states settle: the spectral radius of one pass over the linear network with every slope at `L_f`.

A pass goes `s_k <- (1 - a) s_k + a L_f (W s)_k` through the groups of its schedule. Three cases need no eigenvalue of a
pass. Without loops only `1 - a` is left of a unit at every visit. Odd-even and upward updates of a chain are
successive over-relaxations of a consistently ordered system (Young 1954): with `sigma` the norm of the coupling
between odd and even layers and `mu = L_f sqrt(c) sigma`, the roots of

    z^2 - a mu z + a - 1 = 0

give the eigenvalue `z^2` of largest modulus. In random order the expected state moves as if all L layers updated at
once by `a / L`, L times a pass.
"""

from cmath import sqrt
from collections import Counter

import torch

from dyadnet.audit.spectra import Connections, Vector, spectral_radius
from dyadnet.network.base import AbstractHopfield
from dyadnet.network.layered import Layered
from dyadnet.relax.schedule import AbstractSchedule, BottomUp, Group, OddEven, Parallel, RandomOrder


def settling_rate(
    net: AbstractHopfield, weights: Connections, schedule: AbstractSchedule, factor: float, slope: float
) -> float:
    """Return the factor by which a pass shrinks a distance, in the long run.

    Args:
        net: the network.
        weights: its connections.
        schedule: the order of updates; in random order the rate is that of the expected state.
        factor: how far updates go, `a`.
        slope: of every unit, `L_f`.
    """
    depth = len(weights.rows)
    if isinstance(schedule, RandomOrder):
        return settling_rate(net, weights, Parallel(), factor / depth, slope) ** depth
    groups = list(schedule.one_pass(depth, torch.Generator().manual_seed(0)))
    if net.loop_free():
        visits = Counter(k for group in groups for k in group)
        return abs(1 - factor) ** min(visits[k] for k in weights.rows)
    if isinstance(net, Layered) and isinstance(schedule, OddEven | BottomUp):
        return _over_relaxation(slope * sqrt(net.gain) * weights.eigenvalue, factor)
    return spectral_radius(lambda v: _one_pass(v, weights, groups, net.gain, factor, slope), weights.size)


def _over_relaxation(mu: complex, factor: float) -> float:
    """The spectral radius of over-relaxed updates, `mu` being the largest eigenvalue of simultaneous ones."""
    half = sqrt((factor * mu) ** 2 - 4 * (factor - 1))
    return max(abs(factor * mu + half), abs(factor * mu - half)) ** 2 / 4


def _one_pass(v: Vector, weights: Connections, groups: list[Group], gain: float, factor: float, slope: float) -> Vector:
    """The linear network's state after a pass."""
    v = v.copy()
    for group in groups:
        heard = {k: weights.hear(k, v, 1.0, gain) for k in group}
        for k, part in heard.items():
            v[weights.rows[k]] += factor * (slope * part - v[weights.rows[k]])
    return v
