"""How far a prediction can move, from above and from below, and how far inputs may move before a class is lost.

    |f(x) - f(x')|  <=  L |x - x'|

`L` is certified where a theorem gives one: the margin of the monotone operator, or the product of slopes and norms
where nothing feeds back (`certificate.py`), and what regression and reconstruction leave of the weights
(`lipschitz.py`). The estimates from below are those of `sensitivity.py`, and one more: pairs of inputs that gradients
drive apart,

    x'  ->  max |f(x') - f(x)| / |x' - x| .

Two outputs differ by at most `sqrt(2)` times the Euclidean distance of the vectors they belong to. So no input within

    r(x)  =  ( f_y(x) - max_{j != y} f_j(x) ) / ( sqrt(2) L )

of `x` is put into another class (Tsuzuku et al. 2018).
"""

from dataclasses import dataclass
from math import inf, sqrt

import torch
from torch import Tensor

from dyadnet.audit.attack import margin
from dyadnet.audit.certificate import certify
from dyadnet.audit.lipschitz import lipschitz_bounds
from dyadnet.audit.rows import floored, lengths, over
from dyadnet.audit.sensitivity import between, input_gradient, lipschitz_estimate
from dyadnet.network.base import AbstractHopfield, AbstractNetwork
from dyadnet.network.layered import Layered
from dyadnet.network.lifted import Lifted


@dataclass(frozen=True)
class Lipschitz:
    """The Lipschitz constant of a network's prediction, between what inputs show and what is certain.

    Attributes:
        bound: no pair of inputs moves the prediction further; infinite where nothing is known.
        source: what the bound rests on.
        pairs: the largest ratio between two of the samples.
        steepest, mean: the largest ratio at one sample, and the mean over samples.
        driven: the largest ratio found by driving inputs along gradients.
        unknown: why there are no gradients in the inputs, where there are none; then the last three are None.
    """

    bound: float
    source: str
    pairs: float
    steepest: float | None = None
    mean: float | None = None
    driven: float | None = None
    unknown: str | None = None


def lipschitz(net: AbstractNetwork, x: Tensor, *, steps: int = 20) -> Lipschitz:
    """Return the Lipschitz constant of a network's prediction, from above and from below.

    Args:
        net: the network.
        x: inputs `(batch, ...)`, two or more.
        steps: gradients that drive an input away from its sample.

    >>> from dyadnet import Layered
    >>> net = Layered.from_sequential(torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False)))
    >>> _ = net.stages[0].map.weight.data.copy_(torch.diag(torch.tensor([3.0, 1.0])))
    >>> found = lipschitz(net, torch.tensor([[0.0, 0.0], [0.0, 1.0]]))
    >>> found.bound, found.source, found.pairs, round(found.driven, 1)
    (3.0, 'slopes and norms', 1.0, 3.0)
    """
    bound, source = certified_bound(net, x)
    try:
        seen = lipschitz_estimate(net, x)
        return Lipschitz(bound, source, seen.pairs, seen.steepest, seen.mean, float(driven(net, x, steps).max()))
    except (TypeError, ValueError) as error:
        return Lipschitz(bound, source, between(net, x), unknown=str(error))


@torch.no_grad()
def certified_bound(net: AbstractNetwork, x: Tensor) -> tuple[float, str]:
    """Return an upper bound of the Lipschitz constant of the prediction, and what it rests on.

    Args:
        net: the network.
        x: any inputs `(batch, ...)`.
    """
    if not isinstance(net, AbstractHopfield | Lifted):
        return inf, "neurons with energies of their own"
    try:
        net.check_perfect("a bound")
        if isinstance(net, Lifted):
            return lipschitz_bounds(net).output, "reconstruction" if net.terms.reconstruction else "regression"
        found = certify(net, x[:1]).lipschitz_inputs
    except ValueError as error:  # an activation that is not monotone, feedback weights of their own
        return inf, str(error)
    chain = isinstance(net, Layered)
    if found is None:
        return inf, "maps that are not affine" if chain and not net.affine(inputs=True) else "no margin"
    return found, "slopes and norms" if chain and net.loop_free() else "margin of the monotone operator"


def driven(net: AbstractNetwork, x: Tensor, steps: int = 20, *, seed: int = 0) -> Tensor:
    """Return the largest ratio of distances that gradients find from every sample, `(batch,)`.

    Args:
        net: the network.
        x: inputs `(batch, ...)`.
        steps: gradients taken; each goes by a third of the distance reached.
        seed: of where inputs are driven from, at a hundredth of the inputs' size from the samples.
    """
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype).to(x.device)
    apart = 0.01 * over((1 + lengths(x)) / lengths(noise), x) * noise
    with torch.no_grad():
        base = net(x)
    highest = x.new_zeros(len(x))
    for _ in range(steps + 1):
        size = over(lengths(apart), x)
        squares, gradient = input_gradient(net, _squares, x + apart, base)  # |df|^2, 2 J^T df
        highest = torch.maximum(highest, squares.sqrt() / size.flatten())
        uphill = gradient / over(floored(squares), x) - 2 * apart / size**2
        apart = apart + size / 3 * uphill / over(floored(lengths(uphill)), x)
    return highest


@torch.no_grad()
def certified_radius(net: AbstractNetwork, x: Tensor, y: Tensor, bound: float | None = None) -> Tensor:
    """Return the Euclidean radius within which every sample keeps its class, `(batch,)`; 0 where it is wrong.

    Args:
        net: the network.
        x: inputs `(batch, ...)`.
        y: integer classes `(batch,)`.
        bound: of the Lipschitz constant, if it is known already.

    >>> from dyadnet import Layered
    >>> net = Layered.from_sequential(torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False)))
    >>> _ = net.stages[0].map.weight.data.copy_(torch.eye(2))
    >>> certified_radius(net, torch.tensor([[2.0, 1.0], [0.0, 1.0]]), torch.tensor([0, 0]))   # 1 / sqrt(2)
    tensor([0.7071, 0.0000])
    """
    found = certified_bound(net, x)[0] if bound is None else bound
    ahead = (-margin(net(x), y)).clamp(min=0)
    return torch.where(ahead > 0, ahead / (sqrt(2) * found), 0.0)  # 0 too where nothing moves what is wrong


def _squares(output: Tensor, base: Tensor) -> Tensor:
    return (output - base).square().flatten(1).sum(1)
