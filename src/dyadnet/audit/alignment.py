"""How well a rule's update agrees with the exact gradient, layer by layer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from dyadnet.loss import Loss
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.layered import Layered
from dyadnet.network.linearisation import Gradients
from dyadnet.relax.stopping import Residual
from dyadnet.rule.backprop import Backprop
from dyadnet.rule.base import AbstractRule, Estimate, check_network
from dyadnet.rule.dual_propagation import Dyad
from dyadnet.rule.recurrent_backprop import RecurrentBackprop


@dataclass(frozen=True)
class LayerAlignment:
    """Agreement of one layer.

    Attributes:
        layer: its name: that of a stage, or of a parameter of a densely connected network.
        cosine: of the angle between the estimate and the exact gradient; nan where one of them vanishes.
        norm_ratio: length of the estimate over that of the exact gradient; nan where the latter vanishes.
        same_sign: share of the entries of the exact gradient, but for zeros, whose sign the estimate has; nan where all
            are zero.
        straddling: share of units whose two states lie on different sides of a kink; None where there are no dyads.
    """

    layer: str
    cosine: float
    norm_ratio: float
    same_sign: float
    straddling: float | None


def alignment(
    rule: AbstractRule,
    net: AbstractNetwork,
    loss: Loss,
    x: Tensor,
    y: Tensor,
    *,
    reference: AbstractRule | None = None,
) -> list[LayerAlignment]:
    """Compare a rule's gradient with the exact one, layer by layer.

    Args:
        rule: the rule to look at.
        net, loss, x, y: as `rule.estimate` takes them.
        reference: what to compare with; None stands for backpropagation, and in a network with loops for
            `RecurrentBackprop`, settled to the library's own tolerance, without any feedback path.

    >>> _ = torch.manual_seed(0)
    >>> from dyadnet import DualPropagation, squared_error
    >>> net = Layered.from_sequential(nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 1)))
    >>> x, y = torch.randn(5, 3), torch.randn(5, 1)
    >>> [f"{layer.cosine:.3f}" for layer in alignment(DualPropagation(beta=0.1), net, squared_error, x, y)]
    ['1.000', '1.000']
    """
    check_network(net)
    estimate = rule.estimate(net, loss, x, y)
    straight = net.with_feedback(None) if isinstance(net, Layered) else net
    exact = (reference or _exact(net)).estimate(straight, loss, x, y, keep_states=False).grads
    found = []
    for k, (name, parameters) in enumerate(net.groups()):
        if parameters:
            ours, theirs = _flat(estimate.grads, parameters), _flat(exact, parameters)
            sizes = ours.norm(), theirs.norm()
            found.append(
                LayerAlignment(
                    name,
                    float(ours @ theirs / (sizes[0] * sizes[1])),
                    float(sizes[0] / sizes[1]),
                    float((ours * theirs > 0).double().sum() / (theirs != 0).sum()),
                    _straddling(estimate, k),
                )
            )
    return found


def residual(rule: AbstractRule, net: AbstractNetwork, loss: Loss, x: Tensor, y: Tensor) -> float | None:
    """Return how far the states that a rule reaches are from settled; None for a rule without states.

    For a rule that relaxes it is that of the sample furthest from settled. For others it is the largest change,
    relative to the layer's own size, that following the schedule once more makes to the mean or the error of a layer.
    """
    estimate = rule.estimate(net, loss, x, y)
    if estimate.solution is not None:
        return float(estimate.solution.residual.max())
    states = estimate.states
    if states is None:
        return None
    again = rule.estimate(net, loss, x, y, states=states).states or []
    pairs = [(before.mean(), after.mean()) for before, after in zip(states, again, strict=True)]
    errors = [(before.error(), after.error()) for before, after in zip(states, again, strict=True)]
    pairs += [(old, new) for old, new in errors if old is not None and new is not None]
    tiny = torch.finfo(x.dtype).tiny
    return max(float((new - old).norm() / new.norm().clamp(min=tiny)) for old, new in pairs)


def _exact(net: AbstractNetwork) -> AbstractRule:
    """The rule that gives the exact gradient of a network."""
    if net.differentiable:
        return Backprop()
    return RecurrentBackprop(replace(net.relaxation, stop=Residual(), strict=False))


def _flat(grads: Gradients, parameters: Sequence[nn.Parameter]) -> Tensor:
    return torch.cat([grads[p].flatten().double() for p in parameters])


def _straddling(estimate: Estimate, k: int) -> float | None:
    states = estimate.states or ()
    state = states[k] if k < len(states) else None
    return float(state.straddling()) if isinstance(state, Dyad) else None
