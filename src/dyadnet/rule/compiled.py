"""A rule as one compiled graph, for one network and one size of batches.

`torch.compile` follows Python, and breaks its graph at what it cannot follow: data-dependent checks, tensors as keys of
a dictionary. The estimate of a rule that makes a fixed number of passes has no data-dependent branch on valid input, so
its tensor operations are recorded once instead, and the record is compiled.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from dyadnet.loss import AbstractLoss, Loss, as_loss, fitted
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.state import States
from dyadnet.rule.base import AbstractRule, Estimate

Graph = Callable[[Tensor, Tensor], list[Tensor]]


@final
@dataclass(frozen=True, eq=False)
class CompiledRule(AbstractRule):
    """The recorded operations of a rule; whatever they do not fit is left to the rule itself.

    Attributes:
        rule: what was recorded.
        net, loss: for which.
        like: inputs of the shape, the dtype and the device for which.
        output: of the shape, the dtype and the device of the prediction.
        learned: the parameters that the rule has gradients for.
        decided: what the network had decided when it was recorded.
        passes: how many passes over the layers the rule takes.
        run: maps inputs and targets to the loss, the prediction and the gradients of these parameters.
    """

    rule: AbstractRule
    net: AbstractNetwork
    loss: AbstractLoss
    like: Tensor
    output: Tensor
    learned: tuple[Tensor, ...]
    decided: tuple[object, ...]
    passes: int
    run: Graph

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
        """Run the record. States are given and kept, and other batches and modes taken, by the rule itself."""
        ours = net is self.net and as_loss(loss) == self.loss and self._fits(x)
        if not ours or states is not None or keep_states:
            return self.rule.estimate(net, loss, x, y, states=states, generator=generator, keep_states=keep_states)
        with torch.no_grad():
            value, output, *grads = self.run(x, fitted(self.loss, y, self.output))
        return Estimate(value, output, dict(zip(self.learned, grads, strict=True)), passes=self.passes)

    def _fits(self, x: Tensor) -> bool:
        alike = (x.shape, x.dtype, x.device) == (self.like.shape, self.like.dtype, self.like.device)
        return alike and _decided(self.net) == self.decided


def compiled(
    rule: AbstractRule,
    net: AbstractNetwork,
    loss: Loss,
    x: Tensor,
    y: Tensor,
    compiler: Callable[[Any], Any] = torch.compile,
) -> CompiledRule:
    """Return `rule` with its operations on batches like this one recorded and compiled.

    Weights are read anew at every step. Settings of the rule are recorded as they are now. Once the network has another
    mode, other parameters or others that are frozen, the rule itself runs: record it anew.

    Args:
        rule: the rule; not one that draws random numbers, or that looks at its states to see whether they have settled.
        net: the network.
        loss: maps `(output, y)` to one value a sample.
        x, y: a batch.
        compiler: what makes the recorded operations fast.

    Raises:
        ValueError: for a rule that cannot be recorded.

    >>> from dyadnet import DualPropagation, Layered, squared_error
    >>> net = Layered.from_sequential(torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False)))
    >>> x, y = torch.tensor([[2.0]]), net(torch.tensor([[2.0]])).detach() - 3.0
    >>> fast = compiled(DualPropagation(), net, squared_error, x, y, compiler=lambda graph: graph)
    >>> step, weight = fast.backward(net, squared_error, x, y), net.stages[0].map.weight
    >>> round(float(step.loss), 3), round(float(weight.grad), 3)  # 1/2 3^2, 3 * 2
    (4.5, 6.0)
    """
    loss = as_loss(loss)
    once = rule.estimate(net, loss, x, y, keep_states=False)
    learned = tuple(once.grads)

    def estimate(x: Tensor, y: Tensor) -> list[Tensor]:
        step = rule.estimate(net, loss, x, y, keep_states=False)
        return [step.loss, step.output, *(step.grads[p] for p in learned)]

    try:
        graph = make_fx(estimate, decomposition_table={torch.ops.aten.add.Tensor: _scaled_sum})(
            x,
            fitted(loss, y, once.output),  # so that the graph need not check them
        )
    except RuntimeError as error:
        raise ValueError(
            f"{type(rule).__name__} cannot be recorded, for what it does depends on its numbers: "
            "let it make a fixed number of passes, with steps that are given"
        ) from error
    if any(_random(node) for node in graph.graph.nodes):
        raise ValueError(f"{type(rule).__name__} draws random numbers, which a record would repeat")
    return CompiledRule(rule, net, loss, x, once.output, learned, _decided(net), once.passes, compiler(graph))


def _decided(net: AbstractNetwork) -> tuple[object, ...]:
    """Return the modes of the network's modules, and which tensors they hold and which of these learn.

    A record keeps the tensors that it reads, so that no other can have their id.
    """
    modules = list(net.modules())
    # one walk through the modules, as this is looked at in every step
    tensors = [t for m in modules for own in (m._parameters, m._buffers) for t in own.values() if t is not None]
    return tuple(m.training for m in modules), tuple((id(t), t.requires_grad) for t in tensors)


def _scaled_sum(a: Any, b: Any, *, alpha: float = 1) -> Any:
    """Write `a + alpha b` out: where `b` is a product, Inductor makes `addmm` of it and loses `alpha` (torch 2.13)."""
    return NotImplemented if alpha == 1 else a + alpha * b


def _random(node: fx.Node) -> bool:
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
