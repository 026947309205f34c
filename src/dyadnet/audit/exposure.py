"""All that a trained network is asked: how far its prediction can move, and what attacks and noise leave of it.

States settle more finely than while training, so that what moves is the equilibrium and not the way there: to 1e-5 for
Lipschitz constants, which compare near outputs, and to 1e-4 for accuracies.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dyadnet.audit.attack import PIXELS, Box, accuracy
from dyadnet.audit.bounds import Lipschitz, certified_radius, lipschitz
from dyadnet.audit.robustness import SIZES, Kind, Trial, robustness
from dyadnet.network.base import AbstractNetwork
from dyadnet.relax.stopping import AbstractStop, Residual

RADII = (0.05, 0.1, 0.25, 0.5)
FINE, COARSE = Residual(1e-5, 1000), Residual(1e-4, 300)
LOOKED_AT = 50


@dataclass(frozen=True)
class Exposure:
    """What a network withstands.

    Attributes:
        accuracy: of the samples as they are.
        lipschitz: constants of the prediction, in the unit of the network's inputs.
        certified: of every radius, the share of samples that no change within it, Euclidean and in units of the box,
            puts into another class.
        trials: accuracies under attacks and noise.
        missing: of every kind of trial that is not defined for the network, why.
    """

    accuracy: float
    lipschitz: Lipschitz
    certified: dict[str, float]
    trials: list[Trial]
    missing: dict[Kind, str]


def expose(
    net: AbstractNetwork,
    x: Tensor,
    y: Tensor,
    *,
    box: Box = PIXELS,
    looked_at: int = LOOKED_AT,
    sizes: Mapping[Kind, tuple[float, ...]] = SIZES,
) -> Exposure:
    """Return what a network withstands.

    Args:
        net: the network, in eval mode; as it was when this returns.
        x: inputs `(batch, ...)`, in the box, two or more.
        y: integer classes `(batch,)`.
        box: of valid inputs.
        looked_at: at so many of the inputs Lipschitz constants are estimated; all are attacked.
        sizes: of attacks and noise.

    >>> from dyadnet import Layered
    >>> net = Layered.from_sequential(torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False)))
    >>> _ = net.stages[0].map.weight.data.copy_(torch.eye(2))
    >>> found = expose(net, torch.tensor([[0.9, 0.1], [0.4, 0.6]]), torch.tensor([0, 1]))
    >>> found.certified                                             # 0.8 / sqrt(2) and 0.2 / sqrt(2)
    {'0.05': 1.0, '0.1': 1.0, '0.25': 0.5, '0.5': 0.5}
    >>> found.missing
    {'units': 'noise on units is that of units below the output, and there are none'}
    """
    with settling(net, FINE):
        found = lipschitz(net, x[:looked_at])
        radii = certified_radius(net, x, y, found.bound) / float(torch.as_tensor(box.unit).max())
    trials: list[Trial] = []
    missing: dict[Kind, str] = {}
    with settling(net, COARSE):
        for kind, of_kind in sizes.items():
            try:
                trials += robustness(net, x, y, {kind: of_kind}, box=box)
            except (TypeError, ValueError) as error:  # no gradients in the inputs, no hidden units
                missing[kind] = str(error)
        right = accuracy(net, x, y)
    certified = {f"{radius:g}": float((radii >= radius).double().mean()) for radius in RADII}
    return Exposure(right, found, certified, trials, missing)


@contextmanager
def settling(net: AbstractNetwork, stop: AbstractStop) -> Iterator[None]:
    """Let the states of a network settle to another stopping rule for a while."""
    own = net.relaxation
    net.relaxation = replace(own, stop=stop)
    try:
        yield
    finally:
        net.relaxation = own
