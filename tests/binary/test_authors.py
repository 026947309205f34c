"""The published loop, against a step-by-step reference of scalars, on a network that learns two moons."""

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import make_moons
from torch import Tensor, nn

from dyadnet.binary.authors import PublishedAdaSTE, published_multiplier
from dyadnet.binary.course import Course
from dyadnet.binary.momentum import CorrectedMomentum
from dyadnet.binary.optimizer import BinaryOptimizer

ALPHA, MU, GROWTH, EPOCHS, STEPS, SAMPLES, RATE = 0.01, 0.01, 2.0, 18, 5, 200, 3e-4


@pytest.mark.parametrize(
    ("mu", "alpha", "growth"), [(0.01, 0.01, 1.05), (0.01, 0.3, 1.0), (2.0, 0.01, 0.7), (9.0, 1.0, 2.0)]
)
def test_the_depth_is_that_of_all_epochs_one_after_another(mu: float, alpha: float, growth: float) -> None:
    method, expected = PublishedAdaSTE(alpha, mu, growth), mu
    for done in range(400):
        expected = min(expected * growth, 1 / alpha)
        assert method.depth(Course(steps=400, done=done)) == expected
    late = Course(steps=10**12, done=10**12)  # which no loop over all epochs reaches
    assert method.depth(late) == pytest.approx(expected, rel=0, abs=1e-60)


def side(value: float) -> float:
    return math.copysign(1.0, value)


def forward_weight(theta: float, mu: float) -> float:
    """The minimiser of the double well."""
    if mu * ALPHA >= 1:
        return side(theta)
    return min(max((side(theta) * (mu * (1 + ALPHA)) + theta) / (1 + mu), -1.0), 1.0)


def published(theta: float, g: float, mu: float) -> float:
    """The multiplier of one weight, case by case."""
    towards = (theta > 0 and g > 1e-3) or (theta < 0 and g < -1e-3)
    away = (theta > 0 and g < -1e-3) or (theta < 0 and g > 1e-3)
    size = abs(theta)
    if mu * ALPHA >= 1:
        if size > 1e-3 and towards:
            return min(1 / size, 0.5)
        return 0.0 if size > 1e-3 and away else 1.0
    if size > max(1e-6, 1 - mu * ALPHA):
        if towards:
            return min((1 + 2 * mu + mu * ALPHA) / ((1 + mu) * size), 0.5)
        if away:
            return 0.0
    elif 1e-6 < size < 1 - mu * ALPHA and towards:
        return min(max((2 * mu * (1 + ALPHA) - theta) / ((1 + mu) * size), 0.0), 0.5)
    return 1 / (1 + mu)


class Reference:
    """Flat latents, one scalar at a time, in plain Python floats."""

    def __init__(self, model: nn.Module, latents: list[Tensor]) -> None:
        self.model = model
        self.theta = [float(value) for latent in latents for value in latent.flatten()]
        self.m, self.t, self.mu = [0.0] * len(self.theta), 0, MU

    def epoch(self, x: Tensor, y: Tensor, rate: float) -> None:
        self.mu = min(self.mu * GROWTH, 1 / ALPHA)
        for _ in range(STEPS):
            self.step(x, y, rate)

    def step(self, x: Tensor, y: Tensor, rate: float) -> None:
        self.t += 1
        self._put([forward_weight(theta, self.mu) for theta in self.theta])
        loss = nn.functional.binary_cross_entropy_with_logits(self.model(x)[:, 0], y)
        grads = torch.autograd.grad(loss, list(self.model.parameters()))
        flat = [float(g) for grad in grads for g in grad.flatten()]
        for i, g in enumerate(flat):
            d = published(self.theta[i], g, self.mu) * g
            scaled = d * (10 * SAMPLES) * (10 * SAMPLES)
            self.m[i] = 0.9 * self.m[i] + (scaled + self.theta[i]) * (1 - 0.9)
            self.theta[i] -= self.m[i] * rate / (1 - 0.9**self.t)

    def _put(self, weights: list[float]) -> None:
        rest = torch.tensor(weights)
        with torch.no_grad():
            for p in self.model.parameters():
                p.copy_(rest[: p.numel()].view_as(p))
                rest = rest[p.numel() :]


def moons() -> tuple[Tensor, Tensor]:
    x, y = map(np.asarray, make_moons(SAMPLES, noise=0.1, random_state=0))
    return torch.tensor((x - x.mean(0)) / x.std(0)), torch.tensor(y, dtype=torch.float64)


def model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))


def test_every_latent_of_every_step_is_that_of_the_reference() -> None:
    """Across the annealing, which ends in epoch 14: weights are real before and binary afterwards. No tolerance."""
    x, y = moons()
    ours, theirs = model(), model()
    base = CorrectedMomentum([{"params": list(ours.parameters()), "binary": True}], lr=RATE, weight_decay=1.0)
    method = PublishedAdaSTE(ALPHA, MU, GROWTH)
    optimizer = BinaryOptimizer(base, method, Course(EPOCHS * STEPS, STEPS, SAMPLES))
    reference, regimes = Reference(theirs, [one.latent for one in optimizer.owned]), set[bool]()
    assert set(map(abs, reference.theta)) == {10.0}
    for epoch in range(EPOCHS):
        rate = RATE * (1 + math.cos(math.pi * epoch / EPOCHS)) / 2
        base.param_groups[0]["lr"] = rate
        for _ in range(STEPS):
            optimizer.zero_grad()
            nn.functional.binary_cross_entropy_with_logits(ours(x)[:, 0], y).backward()
            optimizer.step()
        reference.epoch(x, y, rate)
        regimes.add(reference.mu * ALPHA >= 1)
        latents = [float(value) for one in optimizer.owned for value in one.latent.flatten()]
        assert latents == reference.theta
    assert regimes == {False, True}
    assert max(map(abs, reference.theta)) > 100  # gradients are multiplied by N twice


@pytest.mark.parametrize("mu", [0.01, 1.0, 60.0, 99.9, 100.0])
def test_every_case_of_the_multiplier_is_that_of_the_reference(mu: float) -> None:
    sizes = [0.0, 1e-7, 5e-4, 0.1, 0.39, 0.41, 0.98, 1.0, 3.0, 1e4]
    pairs = [(a * theta, b * g) for theta in sizes for g in (0.0, 5e-4, 2e-3, 4.0) for a in (-1, 1) for b in (-1, 1)]
    theta, grad = torch.tensor(pairs).T
    expected = [published(t, g, mu) for t, g in pairs]
    assert published_multiplier(theta, grad, mu, ALPHA).tolist() == expected
    assert len(set(np.round(expected, 6))) >= 3


def test_the_momentum_is_the_bias_corrected_mean() -> None:
    p, rng = nn.Parameter(torch.tensor([1.0, -2.0])), np.random.default_rng(0)
    optimizer = CorrectedMomentum([p], lr=0.1, momentum=0.8, weight_decay=0.5)
    theta, m = np.array([1.0, -2.0]), np.zeros(2)
    for t in range(1, 6):
        g = rng.normal(size=2)
        p.grad = torch.tensor(g)
        optimizer.step()
        m = 0.8 * m + 0.2 * (g + 0.5 * theta)
        theta = theta - 0.1 * m / (1 - 0.8**t)
        np.testing.assert_allclose(p.detach().numpy(), theta, rtol=1e-13)
