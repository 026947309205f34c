"""Networks and rules that devices are tested with: one of every kind of state."""

import torch
from torch import nn

from dyadnet import (
    Backprop,
    ContrastiveHebbian,
    CoupledLearning,
    Dense,
    DualPropagation,
    Dyadic,
    EquilibriumPropagation,
    Lagrangian,
    Layered,
    PredictiveCoding,
    RecurrentBackprop,
    squared_error,
)
from dyadnet.loss import AbstractLoss
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.feedback import RandomFeedback
from dyadnet.rule.base import AbstractRule
from dyadnet.rule.lrrn import LRRN
from dyadnet.rule.random_feedback_chl import RandomFeedbackCHL

LOSS: AbstractLoss = squared_error


def layered(lam: float, *, seed: int = 0, scale: float = 0.5) -> Layered:
    """A chain 6-5-4-3 of hard sigmoid units."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 5), nn.Hardtanh(0, 1), nn.Linear(5, 4), nn.Hardtanh(0, 1), nn.Linear(4, 3))
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(scale * 2)
            if p.dim() == 1:
                p.add_(0.3)
    return Layered.from_sequential(model, lam)


def dense() -> Dense:
    """A symmetric network of 8 units."""
    torch.manual_seed(0)
    return Dense(6, 8, 3, structure="symmetric")


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Seven samples."""
    generator = torch.Generator().manual_seed(5)
    x = torch.rand(7, 6, generator=generator, dtype=torch.get_default_dtype())
    return x, torch.arange(7) % 3


def cases() -> dict[str, tuple[AbstractRule, AbstractNetwork]]:
    """Rules, each on a network that it trains."""
    return {
        "backprop": (Backprop(), layered(0.5)),
        "lagrangian": (Lagrangian(), layered(0.5)),
        "dual propagation": (DualPropagation(), layered(0.5)),
        "dual propagation, alpha 0": (DualPropagation(alpha=0), layered(0.5)),
        "dyadic, feedforward": (Dyadic(), layered(0.5)),
        "dyadic, skew": (Dyadic(), layered(0.0)),
        "dyadic, joint": (Dyadic(form="joint"), layered(0.0)),
        "dyadic, symmetric": (Dyadic(), layered(1.0)),
        "recurrent backprop": (RecurrentBackprop(), layered(0.0)),
        "equilibrium propagation": (EquilibriumPropagation(), layered(1.0)),
        "equilibrium propagation, positive": (EquilibriumPropagation(variant="positive"), layered(1.0)),
        "equilibrium propagation, dense": (EquilibriumPropagation(), dense()),
        "contrastive hebbian": (ContrastiveHebbian(), layered(1.0)),
        "coupled learning": (CoupledLearning(), layered(1.0)),
        "random feedback": (RandomFeedbackCHL(gamma=0.1), layered(0.55).with_feedback(RandomFeedback())),
        "predictive coding": (PredictiveCoding(), layered(0.5)),
        "lrrn": (LRRN(), layered(0.5)),
    }
