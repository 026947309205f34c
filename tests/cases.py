"""What the contracts are tested over: rules, schedules, networks, losses, activations. Listed here is covered there.

Networks are made afresh for every test, after its seed is set.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
import reference
import torch
from torch import Tensor, nn

from dyadnet import (
    LPOM,
    AbstractRule,
    AuxiliaryCoordinates,
    Backprop,
    BottomUp,
    DualPropagation,
    Lagrangian,
    Layered,
    LiftedProximal,
    OddEven,
    Parallel,
    PredictiveCoding,
    RandomOrder,
    Sweeps,
    cross_entropy,
    squared_error,
)
from dyadnet.activation import Activation, UnitSigmoid
from dyadnet.loss import AbstractLoss, Loss
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.feedback import DirectFeedback, FeedbackPath, RandomFeedback, SignSymmetric
from dyadnet.relax.schedule import AbstractSchedule
from dyadnet.rule.base import Estimate
from dyadnet.rule.dual_propagation import Dyad
from dyadnet.rule.feedback_alignment import DirectFeedbackAlignment, FeedbackAlignment

# --- schedules, each with passes enough for an error to arrive in a chain of three stages ---

SCHEDULES: dict[str, AbstractSchedule] = {
    "one sweep": Sweeps(),
    "two sweeps": Sweeps(2),
    "bottom-up": BottomUp(),
    "odd-even": OddEven(),
    "parallel": Parallel(),
    "random": RandomOrder(10),
}

# --- feedback paths ---


def mirrored(net: Layered) -> Layered:
    """A network with fixed feedback weights that happen to be the transposes."""
    twin = net.with_feedback(RandomFeedback())
    assert twin.feedback is not None
    for module, other in twin.feedback.detours().items():
        assert isinstance(module, nn.Linear | nn.Conv2d)
        with torch.no_grad():
            other.copy_(module.weight)
    return twin


@dataclass(frozen=True)
class Along(AbstractRule):
    """A rule on the same network with errors that travel along another path; without a path, along the mirrored one."""

    rule: AbstractRule
    path: FeedbackPath | None = None

    @property
    def schedule(self) -> AbstractSchedule:
        return getattr(self.rule, "schedule", Sweeps())

    def estimate(self, net: AbstractNetwork, loss: Loss, x: Tensor, y: Tensor, **options: Any) -> Estimate:
        assert isinstance(net, Layered)
        path = self.path
        if isinstance(path, DirectFeedback):
            path = dataclasses.replace(path, inputs=tuple(x.shape[1:]))
        along = mirrored(net) if path is None else net.with_feedback(path)
        return self.rule.estimate(along, loss, x, y, **options)


# --- rules ---

RULES: dict[str, AbstractRule] = {
    "backprop": Backprop(),
    "lagrangian": Lagrangian(),
    "lagrangian, odd-even": Lagrangian(OddEven()),
    "lagrangian, random": Lagrangian(RandomOrder(10)),
    "dual propagation": DualPropagation(),
    "dual propagation, parallel": DualPropagation(schedule=Parallel(7)),
    "dual propagation, random": DualPropagation(schedule=RandomOrder(10)),
    "dual propagation, alpha 0": DualPropagation(alpha=0),
    "dual propagation, alpha 1, bottom-up": DualPropagation(alpha=1, schedule=BottomUp()),
    "dual propagation, alpha 0.3, sprovr": DualPropagation(alpha=0.3, output="sprovr"),
    "original": DualPropagation(variant="original"),
    "original, alpha 0.3, arovr": DualPropagation(variant="original", alpha=0.3, output="arovr", schedule=Sweeps(4)),
    "stabilised": DualPropagation(variant="stabilised"),
    "stabilised, alpha 0": DualPropagation(variant="stabilised", alpha=0, schedule=Sweeps(20)),
    "feedback alignment along the transpose": Along(FeedbackAlignment()),
    "feedback alignment along the transpose, odd-even": Along(FeedbackAlignment(OddEven())),
    "auxiliary coordinates": AuxiliaryCoordinates(0.05, steps=10, step=0.1, momentum=0.6),
    "predictive coding": PredictiveCoding(0.05, steps=10, step=0.1, momentum=0.6),
    "alternating minimisation": PredictiveCoding(0.05, "alternating", steps=8, step=0.1),
    "fixed predictions": PredictiveCoding(variant="fixed-prediction"),
    "z-il": PredictiveCoding(variant="z-il"),
    "lpom": LPOM(0.03, steps=12),
    "lifted proximal": LiftedProximal(0.03, steps=12),
}
NO_GRADIENTS: dict[str, AbstractRule] = {
    "feedback alignment": Along(FeedbackAlignment(), RandomFeedback(seed=1)),
    "sign-symmetric": Along(FeedbackAlignment(), SignSymmetric()),
    "direct feedback alignment": Along(DirectFeedbackAlignment(), DirectFeedback(seed=1)),
    "direct feedback alignment, odd-even": Along(DirectFeedbackAlignment(OddEven()), DirectFeedback(seed=1)),
    "dual propagation without transport": Along(DualPropagation(), RandomFeedback(seed=1)),
}
"""Rules that do not tend to the gradient of the loss, whatever their strength."""
PROJECTING = (LPOM, LiftedProximal)
"""Rules for ReLU, hard sigmoid and linear units."""
LIFTED = (AuxiliaryCoordinates, PredictiveCoding, *PROJECTING)
UNSETTLED = ("auxiliary coordinates", "predictive coding", "alternating minimisation")
"""Rules that here stop before their states settle, so that their error does not vanish with the nudge."""
ALL_RULES = RULES | NO_GRADIENTS


def one_sweep(rule: AbstractRule) -> bool:
    """Whether every map is evaluated once."""
    return not isinstance(rule, LIFTED) and getattr(rule, "schedule", Sweeps()) == Sweeps()


ONE_SWEEP = {name: rule for name, rule in RULES.items() if one_sweep(rule)}
RELAXING = {name: rule for name, rule in ALL_RULES.items() if not one_sweep(rule)}


def with_beta(rule: AbstractRule, beta: float) -> AbstractRule:
    """The rule at another strength, or itself where it has none."""
    if isinstance(rule, PROJECTING):
        return dataclasses.replace(rule, gamma=beta)
    return dataclasses.replace(rule, beta=beta) if hasattr(rule, "beta") else rule


def order_of(rule: AbstractRule) -> float:
    """The power of beta with which the error of the gradient falls; infinite for exact rules."""
    if isinstance(rule, LIFTED):
        return 1 if isinstance(rule, PROJECTING) else inf
    return (2 if rule.alpha == 0.5 else 1) if isinstance(rule, DualPropagation) else inf


# --- networks ---


def mlp(activation: Callable[[], nn.Module] = nn.Tanh) -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 7), activation(), nn.Linear(7, 6), activation(), nn.Linear(6, 4))


def conv_pool(*, projections: bool = False) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1),
        nn.ReLU() if projections else nn.Tanh(),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 4, 3, stride=2),
        nn.Hardtanh(0, 1) if projections else UnitSigmoid(),
        nn.Flatten(),
        nn.Linear(4, 4),
    )


def normed() -> nn.Sequential:
    """Normalisation inside the maps, with statistics and scales that are not the neutral ones."""
    model = nn.Sequential(
        nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 6), nn.LayerNorm(6), nn.Sigmoid(), nn.Linear(6, 4)
    )
    with torch.no_grad():
        for name, tensor in model.state_dict().items():  # of the two normalisations; they share storage with the model
            if name in ("1.running_var", "1.weight", "4.weight"):
                tensor.uniform_(0.5, 1.5)
            elif name in ("1.running_mean", "1.bias", "4.bias"):
                tensor.normal_()
    return model.eval()


@dataclass(frozen=True, eq=False)
class Problem:
    """A network and a batch of inputs with classes among four."""

    model: nn.Sequential
    net: Layered
    x: Tensor
    y: Tensor

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.model.named_parameters())

    def exact(self, loss: AbstractLoss) -> dict[str, Tensor]:
        """Gradients of the mean loss by autograd, through the user's model."""
        value = loss(self.model(self.x), self.y).mean()
        return dict(zip(self.parameters, torch.autograd.grad(value, list(self.model.parameters())), strict=True))

    def estimate(self, rule: AbstractRule, loss: Loss, **options: Any) -> dict[str, Tensor]:
        """Gradients by a rule."""
        grads = rule.estimate(self.net, loss, self.x, self.y, **options).grads
        return {name: grads[parameter] for name, parameter in self.parameters.items()}


def problem(model: nn.Sequential, *shape: int, batch: int = 4) -> Problem:
    """Weights larger than the default ones, so that errors neither fade on their way down nor stay small."""
    with torch.no_grad():
        for parameter in {p for p in model.parameters() if p.dim() > 1}:
            parameter.mul_(1.6)
    return Problem(model, Layered.from_sequential(model), torch.randn(batch, *shape), torch.randint(4, (batch,)))


# Kinks do not matter where two estimates of one rule are compared, but where its error is measured they do.
NETWORKS: dict[str, Callable[[], Problem]] = {
    "relu mlp": lambda: problem(mlp(nn.ReLU), 5),
    "conv-pool": lambda: problem(conv_pool(), 2, 6, 6),
    "normed": lambda: problem(normed(), 5),
}
SMOOTH: dict[str, Callable[[], Problem]] = {
    "mlp": lambda: problem(mlp(), 5),
    "conv-pool": NETWORKS["conv-pool"],
    "normed": NETWORKS["normed"],
}

CLIPPED: dict[str, Callable[[], Problem]] = {
    "relu mlp": NETWORKS["relu mlp"],
    "conv-pool": lambda: problem(conv_pool(projections=True), 2, 6, 6),
}


def activation_of(rule: AbstractRule) -> Callable[[], nn.Module]:
    """An activation that a rule can take."""
    return nn.ReLU if isinstance(rule, PROJECTING) else nn.Tanh


def usual(rule: AbstractRule) -> Problem:
    """A convolutional network that a rule can take."""
    return (CLIPPED if isinstance(rule, PROJECTING) else NETWORKS)["conv-pool"]()


def on(
    networks: dict[str, Callable[[], Problem]], rules: dict[str, AbstractRule]
) -> dict[str, tuple[AbstractRule, Callable[[], Problem]]]:
    """Every rule on every network that it can take."""
    return {
        f"{name}, {kind}": (rule, make)
        for name, rule in rules.items()
        for kind, make in (CLIPPED if isinstance(rule, PROJECTING) else networks).items()
    }


LOSSES: dict[str, AbstractLoss] = {"cross-entropy": cross_entropy, "squared error": squared_error}

# --- activations that a stage can have ---

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "identity": nn.Identity,
    "relu": nn.ReLU,
    "leaky relu": lambda: nn.LeakyReLU(0.1),
    "steep leaky relu": lambda: nn.LeakyReLU(2.0),
    "hard sigmoid": lambda: nn.Hardtanh(0, 1),
    "hard tanh": nn.Hardtanh,
    "relu6": nn.ReLU6,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "unit sigmoid": UnitSigmoid,
    "hard sigmoid, a sixth": nn.Hardsigmoid,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "gelu, tanh": lambda: nn.GELU("tanh"),
}

# --- from the library's objects to those of the reference ---

_NAMES = {"clip(0, 1)": "clip"}


def as_reference(net: Layered) -> reference.Net:
    """The same multi-layer perceptron for NumPy."""

    def name(activation: Activation) -> str:
        return _NAMES.get(activation.name, activation.name)

    parameters = [parameter.detach().numpy() for stage in net.stages for parameter in stage.map.parameters()]
    return reference.Net(parameters[::2], parameters[1::2], [name(stage.activation) for stage in net.stages])


def dyads(step: Estimate) -> list[Dyad]:
    """The states of dual propagation."""
    assert step.states is not None
    states = [state for state in step.states if isinstance(state, Dyad)]
    assert len(states) == len(step.states)
    return states


def weight(net: Layered, k: int) -> nn.Parameter:
    """The weights of the map that leads from layer k to layer k + 1."""
    return next(iter(net.stages[k].map.parameters()))


def one_hot(y: Tensor, classes: int = 4) -> np.ndarray:
    return np.eye(classes)[y.numpy()]
