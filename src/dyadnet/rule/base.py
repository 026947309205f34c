"""A learning rule: a pure estimate of the gradient of a batch's mean loss, and the shared `backward` that stores it."""

import abc
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from dyadnet.loss import Loss
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.linearisation import Gradients
from dyadnet.network.state import States
from dyadnet.relax.relaxation import Solution


@dataclass(frozen=True, eq=False)
class Estimate:
    """What a rule makes of one batch.

    Attributes:
        loss: the mean loss of the batch, a scalar.
        output: the network's prediction, `(batch, ...)`, not nudged.
        grads: the estimated gradient of the mean loss for every trainable parameter of the network.
        states: the states reached, one a layer; None where the rule has none or was not asked to keep them.
        solution: how settled a relaxation was, without states where none are kept; None where there was none.
        passes: how many passes over the layers the states took; 1 for a forward and a backward sweep.
    """

    loss: Tensor
    output: Tensor
    grads: Gradients
    states: States | None = None
    passes: int = 1
    solution: Solution | None = None

    def __repr__(self) -> str:
        """Say how large everything is: a cell of a notebook shows it."""
        parts = [
            f"loss={float(self.loss):.4g}",
            f"output={tuple(self.output.shape)}",
            f"grads of {len(self.grads)} tensors",
        ]
        parts += [f"{len(self.states)} states"] if self.states is not None else []
        return f"Estimate({', '.join(parts)}, passes={self.passes})"

    def __post_init__(self) -> None:
        if self.states is None and self.solution is not None:  # nor does the solution keep what nobody wants
            object.__setattr__(self, "solution", replace(self.solution, states=[]))


class AbstractRule(abc.ABC):
    """A learning rule, with its hyper-parameters as fields of a frozen dataclass."""

    @abc.abstractmethod
    def estimate(
        self,
        net: AbstractNetwork,
        loss: Loss,
        x: Tensor,
        y: Tensor,
        *,
        states: States | None = None,
        generator: torch.Generator | None = None,
        keep_states: bool = True,
    ) -> Estimate:
        """Estimate the gradient of the mean loss; nothing is changed.

        Args:
            net: the network.
            loss: maps `(output, y)` to one value a sample.
            x: inputs `(batch, ...)`.
            y: targets, as the loss takes them.
            states: states to start from, as an earlier estimate returned them for a batch of the same size.
            generator: the source of the rule's own randomness; None stands for a fixed seed, so that the estimate is a
                function of its arguments.
            keep_states: whether the states reached are wanted; memory is lower without them.
        """

    @final
    def backward(
        self,
        net: AbstractNetwork,
        loss: Loss,
        x: Tensor,
        y: Tensor,
        *,
        states: States | None = None,
        generator: torch.Generator | None = None,
        keep_states: bool = False,
    ) -> Estimate:
        """Estimate the gradient and add it to every `p.grad`, in the place of `loss.backward()`.

        Takes the arguments of `estimate`. A second call adds; nothing is zeroed. A gradient that was None may become
        the tensor in the estimate's `grads`: what is done to it in place is done to both.
        """
        check_network(net)
        step = self.estimate(net, loss, x, y, states=states, generator=generator, keep_states=keep_states)
        taken: set[int] = set()
        for parameter, grad in step.grads.items():
            parameter.grad = _own(grad, parameter, taken) if parameter.grad is None else parameter.grad.add_(grad)
        return step


def _own(grad: Tensor, parameter: Tensor, taken: set[int]) -> Tensor:
    """Return a gradient that is laid out as its parameter, which fused optimisers rely on, and is no other's too.

    Args:
        grad: as it was estimated.
        parameter: whose it is.
        taken: where the gradients of other parameters lie; this one's is added.
    """
    if grad.layout != torch.strided:  # of a sparse embedding
        return grad
    fits = grad.dtype == parameter.dtype and grad.stride() == parameter.stride()
    if not fits or grad.untyped_storage().data_ptr() in taken:
        grad = torch.empty_like(parameter, requires_grad=False).copy_(grad)
    taken.add(grad.untyped_storage().data_ptr())
    return grad


def check_network(net: object) -> None:
    """Refuse what is no network.

    Raises:
        TypeError: saying how a network is made.
    """
    if not isinstance(net, AbstractNetwork):
        raise TypeError(
            f"a rule takes a network, not a {type(net).__name__}: make one of an nn.Sequential by "
            "Layered.from_sequential(model), which shares its parameters, and compile with dyadnet.rule.compiled"
        )
