"""The audit of a learning rule: what it promises, observed on the running code.

Nothing is asked of the rule but `estimate`. It runs on a copy of the network in double precision, is traced, and run
again with something changed: see `spatial`, `temporal`, `derivative`, `transport`, `order` and `cost`.
"""

import copy
import dataclasses
import warnings
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from dyadnet.audit.cost import Cost, cost
from dyadnet.audit.derivative import Derivatives, derivatives
from dyadnet.audit.messages import Message, Signals, signals
from dyadnet.audit.order import change, changes, in_order
from dyadnet.audit.places import Places, places
from dyadnet.audit.replay import ancestors
from dyadnet.audit.spatial import Experiment, Spatial, spatial
from dyadnet.audit.temporal import Temporal, temporal
from dyadnet.audit.trace import Ref, Trace, record, ref
from dyadnet.audit.transport import Transport, connectivity, transport
from dyadnet.loss import Loss, as_loss
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.layered import Layered
from dyadnet.network.lifted import Lifted
from dyadnet.relax.relaxation import NotSettledWarning
from dyadnet.rule.backprop import Backprop
from dyadnet.rule.base import AbstractRule, Estimate
from dyadnet.rule.recurrent_backprop import RecurrentBackprop


@final
@dataclass(frozen=True)
class Audit:
    """What was observed of a rule, with the evidence.

    Attributes:
        spatial: what the update of every weight read.
        temporal: the sets of states that were inferred one after another.
        derivatives: whether derivatives of activations were evaluated.
        transport: which weights were used both ways.
        order: how much what is learned changes, relatively, with the order of updates; empty where there is no choice.
        cost: of one update.
        backprop: the cost of backpropagation on the same weights.
    """

    spatial: Spatial
    temporal: Temporal
    derivatives: Derivatives
    transport: Transport
    order: dict[str, float]
    cost: Cost
    backprop: Cost

    def record(self) -> dict[str, Any]:
        """Return the answers and their evidence as JSON holds them."""
        evidence = dataclasses.asdict(self)
        violations = [r for r in evidence["spatial"].pop("readings") if not r["local"]]
        evidence["spatial"] |= {"violations": violations, "reads": _reads(self.spatial)}
        ratios = {"multiply_adds_ratio": self.cost.multiply_adds / self.backprop.multiply_adds}
        evidence["cost"] |= ratios | {"bytes_ratio": self.cost.bytes / self.backprop.bytes}
        return {
            "spatially_local": self.spatial.local,
            "temporally_local": self.temporal.local,
            "avoids_derivative": not self.derivatives.used,
            "weight_transport": self.transport.where,
            "phases": [phase.condition for phase in self.temporal.phases],
            "evidence": evidence,
        }


def _reads(found: Spatial) -> dict[str, list[str]]:
    """What the update of every weight read."""
    reads: dict[str, list[str]] = {}
    for reading in found.readings:
        reads.setdefault(reading.weight, []).append(reading.reads)
    return reads


@final
@dataclass(frozen=True, eq=False)
class _Run:
    """One traced estimate."""

    step: Estimate
    trace: Trace
    signals: Signals
    learned: dict[str, Ref]

    def read(self) -> list[Message]:
        """The messages that what is learned depends on."""
        numbers = set(ancestors(self.trace, self.learned.values()))
        return [m for m in self.signals.messages if m.number in numbers]


def observe(rule: AbstractRule, net: AbstractNetwork, loss: Loss, x: Tensor, y: Tensor) -> Audit:
    """Run a rule on a network and report what it does.

    Args:
        rule: any rule, the library's or one's own.
        net: the network that it trains; it is copied.
        loss, x, y: as `rule.estimate` takes them; a handful of samples will do, of some classes.

    >>> _ = torch.manual_seed(0)
    >>> from torch import nn
    >>> from dyadnet import DualPropagation, squared_error
    >>> chain = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2))
    >>> net = Layered.from_sequential(chain)
    >>> x, y = torch.randn(5, 4), torch.rand(5, 2)
    >>> found = observe(DualPropagation(), net, squared_error, x, y)
    >>> found.spatial.local, found.temporal.local, found.derivatives.used, found.transport.where
    (True, True, False, 'training')
    >>> observe(Backprop(), net, squared_error, x, y).record()["phases"]
    ['activities', 'errors']
    """
    net, x = copy.deepcopy(net).double(), x.detach().double().clone()
    y = y.detach().clone().double() if y.is_floating_point() else y.clone()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotSettledWarning)
        where = places(net)
        run = _traced(rule, net, loss, x, y, where)
        experiment = Experiment(run.trace, where, run.signals, run.learned, _coupled(loss, run.step.output, y))
        return Audit(
            spatial(experiment, x, y),
            _temporal(rule, net, loss, x, y, run, where),
            derivatives(lambda other: rule.estimate(other, loss, x, y), net, run.trace),
            _transport(net, x, run, where),
            changes(lambda other: other.estimate(net, loss, x, y).grads, rule, net),
            cost(run.trace),
            _of_backprop(net, loss, x, y),
        )


def _traced(rule: AbstractRule, net: AbstractNetwork, loss: Loss, x: Tensor, y: Tensor, where: Places) -> _Run:
    step, trace = record(lambda: rule.estimate(net, loss, x, y))
    learned = {w.name: ref(step.grads[w.tensor]) for w in where.weights if w.tensor in step.grads}
    return _Run(step, trace, signals(trace, where, [x], [y]), learned)


def _coupled(loss: Loss, output: Tensor, y: Tensor) -> bool:
    """Whether the gradient in one output depends on another."""
    other = output.clone()
    other[:, 0] += 0.1
    slope = as_loss(loss).gradient
    return bool(((slope(other, y) - slope(output, y))[:, 1:].abs() > 1e-12).any())


def _temporal(
    rule: AbstractRule, net: AbstractNetwork, loss: Loss, x: Tensor, y: Tensor, run: _Run, where: Places
) -> Temporal:
    """The sets of states, all layers updating at once where the rule can do so and learns the same."""
    other = in_order(rule, net, "at once")
    if other is not None:
        together = _traced(other, net, loss, x, y, where)
        if change(run.step.grads, together.step.grads) < 0.05:
            found = temporal(together.trace, together.signals, where, list(together.learned.values()), len(x))
            return dataclasses.replace(found, together=True)
    return temporal(run.trace, run.signals, where, list(run.learned.values()), len(x))


def _transport(net: AbstractNetwork, x: Tensor, run: _Run, where: Places) -> Transport:
    with torch.no_grad():
        output, trace = record(lambda: net(x))
        states = net.relax(x).states
    found, numbers = signals(trace, where, [x], []), set(ancestors(trace, [ref(output)]))
    inference = [m for m in found.messages if m.number in numbers]
    return transport(inference, run.read(), connectivity(net, x, states))


def _of_backprop(net: AbstractNetwork, loss: Loss, x: Tensor, y: Tensor) -> Cost:
    """The cost of backpropagation through the feedforward chain of the same weights; of a dense network, at rest."""
    if isinstance(net, Lifted):
        net = net.chain()
    if isinstance(net, Layered):
        net = net.with_lam(0.5).with_feedback(None)
    rule = Backprop() if net.differentiable else RecurrentBackprop()
    return cost(record(lambda: rule.estimate(net, loss, x, y, keep_states=False))[1])
