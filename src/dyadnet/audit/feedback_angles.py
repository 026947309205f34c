"""How far the weights through which errors travel down are from the transposes that backpropagation would take."""

from functools import partial
from math import degrees

import torch
from torch import Tensor

from dyadnet.network.feedback import Straight
from dyadnet.network.layered import Layered
from dyadnet.network.modules import detourable


@torch.no_grad()
def feedback_angles(net: Layered) -> list[float]:
    """Return the angle between `B_l` and `W_l^T` for every feedback weight, the lowest first, in degrees.

    It is 0 where errors travel as in backpropagation and near 90 for random weights. Of direct feedback it is the angle
    to the product `W_l^T ... W_{L-1}^T` of all transposes on the way.

    Args:
        net: a network with a feedback path.

    Raises:
        ValueError: if it has none, or if its feedback is direct and there is no such product: some map between layers
            is not affine.

    >>> from torch import nn
    >>> from dyadnet.network.feedback import RandomFeedback
    >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> net = Layered.from_sequential(model, feedback=RandomFeedback())
    >>> _ = model[2].weight.data.copy_(torch.tensor([[1.0, 1.0]])), net.feedback.B1.copy_(torch.tensor([[0.0, 3.0]]))
    >>> [round(angle, 3) for angle in feedback_angles(net)]
    [45.0]
    """
    if net.feedback is None:
        raise ValueError("the errors of this network travel through the transpose: it has no feedback weights")
    if isinstance(net.feedback, Straight):
        return _straight_angles(net, net.feedback)
    detours = net.feedback.detours().items()
    return [_angle(other, module.weight) for module, other in detours if detourable(module)]


def _straight_angles(net: Layered, feedback: Straight) -> list[float]:
    """The angles to what a unit error at each output makes of itself on the way down."""
    if not net.affine():
        raise ValueError("direct feedback has a product of transposes to compare with where all maps are affine")
    hidden = [getattr(feedback, f"B{k}") for k in range(1, len(net.stages))]
    if not hidden:
        return []
    sent, angles = torch.eye(len(hidden[0])).to(hidden[0]), []
    for stage, other in zip(reversed(net.stages), reversed(hidden), strict=False):
        at = stage.linearise(partial(torch.zeros_like, other))
        sent = at.feedback(sent.view_as(at.value))
        angles.append(_angle(other, sent))
    return angles[::-1]


def _angle(one: Tensor, other: Tensor) -> float:
    cosine = torch.cosine_similarity(one.flatten().double(), other.flatten().double(), dim=0, eps=0.0)
    return degrees(float(cosine.clamp(-1, 1).arccos()))
