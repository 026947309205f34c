"""How a network's prediction hangs on its inputs, whatever the network: gradients, Jacobians, Lipschitz constants.

Lipschitz constants are estimated from below, by what some inputs show:

    between pairs     |f(x) - f(x')| / |x - x'|
    at one input      |J(x)|_2,     J = df/dx

Both are Euclidean. `audit.lipschitz` bounds those of lifted networks from above.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dyadnet.loss import Loss, as_loss
from dyadnet.network.base import AbstractNetwork
from dyadnet.rule.recurrent_backprop import RecurrentBackprop


def input_gradient(net: AbstractNetwork, loss: Loss, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss of every sample, `(batch,)`, and its gradient in the sample's inputs, of the shape of `x`.

    Args:
        net: the network; one with loops is differentiated by recurrent backpropagation.
        loss: maps `(output, y)` to one value a sample.
        x: inputs `(batch, ...)`.
        y: targets.

    Raises:
        TypeError: if the network has loops and neurons with energies of their own.
        ValueError: if its units are not perfect.

    >>> from dyadnet import Layered, squared_error
    >>> net = Layered.from_sequential(torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False)))
    >>> _ = torch.nn.init.constant_(net.stages[0].map.weight, 2.0)
    >>> input_gradient(net, squared_error, torch.tensor([[3.0]]), torch.tensor([[5.0]]))    # 1/2 (6 - 5)^2, (6 - 5) 2
    (tensor([0.5000]), tensor([[2.]]))
    """
    loss, samples = as_loss(loss), len(x)
    net.check_perfect("a gradient in the inputs")
    if net.differentiable:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            values = loss(net(leaf), y)
            return values.detach(), torch.autograd.grad(values.sum(), leaf)[0]
    # Multipliers settle to an absolute tolerance: they are those of the sum over the batch, not of its mean.
    step = RecurrentBackprop().estimate(net, lambda output, y: samples * loss(output, y), x, y)
    with torch.no_grad():
        sent = net.wire(x, step.states).feedback(0)
    return loss(step.output, y), torch.zeros_like(x) if sent is None else sent.view_as(x)


def jacobian(net: AbstractNetwork, x: Tensor) -> Tensor:
    """Return `df/dx` at every sample, `(batch, outputs, inputs)`, a gradient an output.

    >>> from dyadnet import Layered
    >>> net = Layered.from_sequential(torch.nn.Sequential(torch.nn.Linear(3, 2)))
    >>> bool((jacobian(net, torch.ones(5, 3)) == net.stages[0].map.weight).all())
    True
    """
    with torch.no_grad():
        outputs = net(x[:1]).shape[1]
    rows = [input_gradient(net, lambda output, y, i=i: output[:, i], x, x)[1].flatten(1) for i in range(outputs)]
    return torch.stack(rows, 1)


@dataclass(frozen=True)
class LipschitzEstimate:
    """Estimates from below of the Lipschitz constant of a network's prediction.

    Attributes:
        pairs: the largest between two of the samples.
        steepest: the largest at one sample.
        mean: the mean over samples of that at one.
    """

    pairs: float
    steepest: float
    mean: float


def lipschitz_estimate(net: AbstractNetwork, x: Tensor) -> LipschitzEstimate:
    """Return what samples show of the Lipschitz constant of a network.

    Args:
        net: the network.
        x: inputs `(batch, ...)`, two or more; duplicates are left out of the pairs.

    >>> from dyadnet import Layered
    >>> net = Layered.from_sequential(torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False)))
    >>> _ = net.stages[0].map.weight.data.copy_(torch.diag(torch.tensor([3.0, 1.0])))
    >>> lipschitz_estimate(net, torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.0, 3.0]]))
    LipschitzEstimate(pairs=1.0, steepest=3.0, mean=3.0)
    """
    local = torch.linalg.matrix_norm(jacobian(net, x), 2)
    return LipschitzEstimate(between(net, x), float(local.max()), float(local.mean()))


@torch.no_grad()
def between(net: AbstractNetwork, x: Tensor) -> float:
    """Return the largest ratio of distances of outputs to those of inputs between two samples.

    Args:
        net: the network.
        x: inputs `(batch, ...)`; duplicates are left out, and where there is no pair nothing moves.
    """
    apart = torch.pdist(x.flatten(1))
    return max((torch.pdist(net(x).flatten(1)) / apart)[apart > 0].tolist(), default=0.0)
