"""Every baseline against its equation, written in NumPy: the forward weight and several updates in a row."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dyadnet.binary.bayes import BayesBiNN
from dyadnet.binary.bop import Bop
from dyadnet.binary.course import Course
from dyadnet.binary.mean_field import PMF
from dyadnet.binary.method import AbstractMethod
from dyadnet.binary.mirror_descent import MDTanh, MDTanhStable
from dyadnet.binary.momentum import CorrectedMomentum
from dyadnet.binary.optimizer import BinaryOptimizer
from dyadnet.binary.prox_quant import ProxQuant, proximal
from dyadnet.binary.straight_through import STE, BinaryConnect

Array = np.ndarray[Any, Any]
RATE, EPOCH, STEPS, SHAPE = 0.05, 3, 12, (3, 4)
COURSE = Course(STEPS, EPOCH, samples=7)


class Adam:
    """The direction of Adam, as its paper has it."""

    def __init__(self) -> None:
        self.m, self.v, self.t = 0.0, 0.0, 0

    def __call__(self, g: Array) -> Array:
        self.t += 1
        self.m, self.v = 0.9 * self.m + 0.1 * g, 0.999 * self.v + 0.001 * g**2
        return self.m / (1 - 0.9**self.t) / (np.sqrt(self.v / (1 - 0.999**self.t)) + 1e-8)


def gradients(seed: int = 0) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=SHAPE) for _ in range(STEPS)]


def trained(method: AbstractMethod, base: Callable[..., torch.optim.Optimizer] = torch.optim.Adam) -> list[Array]:
    """Feed the same gradients to an optimiser; return the latents and the weights from before and after each."""
    p = nn.Parameter(torch.randn(SHAPE))
    optimizer = BinaryOptimizer(base([{"params": [p], "binary": True}], lr=RATE), method, COURSE)
    states = [_state(optimizer, p)]
    for g in gradients():
        p.grad = torch.tensor(g)
        optimizer.step()
        states.append(_state(optimizer, p))
    return states


def _state(optimizer: BinaryOptimizer, p: Tensor) -> Any:
    return optimizer.owned[0].latent.numpy().copy(), p.detach().numpy().copy()


def compare(states: list[Any], latents: list[Array], weights: list[Array]) -> None:
    for k, (latent, weight) in enumerate(states):
        np.testing.assert_allclose(latent, latents[k], rtol=1e-9, atol=1e-12, err_msg=f"latents after step {k}")
        np.testing.assert_allclose(weight, weights[k], rtol=1e-9, atol=1e-12, err_msg=f"weights after step {k}")


def unrolled(start: Array, update: Callable[[Array, Array, int], Array]) -> list[Array]:
    latents = [start]
    for k, g in enumerate(gradients()):
        latents.append(update(latents[-1], g, k))
    return latents


def grown(sharpest: float, k: int, anneal: float) -> float:
    return sharpest ** min(1.0, k / STEPS / anneal)


@pytest.mark.parametrize("clip", [0.0, 0.12])
def test_the_straight_through_estimator(clip: float) -> None:
    states, adam = trained(STE(clip)), Adam()

    def update(theta: Array, g: Array, k: int) -> Array:
        theta = theta - RATE * adam(g)
        return np.clip(theta, -clip, clip) if clip else theta

    latents = unrolled(states[0][0], update)
    compare(states, latents, [np.copysign(1, theta) for theta in latents])
    assert (np.abs(latents[-1]).max() <= 0.12) == bool(clip)


def test_binary_connect_clips_at_one() -> None:
    base = lambda groups, lr: torch.optim.SGD(groups, lr=10 * lr)  # noqa: E731
    states = trained(BinaryConnect(), base)
    latents = unrolled(states[0][0], lambda theta, g, k: np.clip(theta - 10 * RATE * g, -1, 1))
    compare(states, latents, [np.copysign(1, theta) for theta in latents])
    assert np.abs(latents[-1]).max() == 1


def test_stochastic_weights_are_one_with_the_probability_of_the_hard_sigmoid() -> None:
    theta = torch.tensor([-1.5, -1.0, -0.5, 0.0, 0.8, 1.0, 1.5]).repeat(20_000, 1)
    out, generator = torch.empty_like(theta), torch.Generator().manual_seed(0)
    BinaryConnect(stochastic=True).write(out, theta, COURSE, generator)
    assert set(out.unique().tolist()) == {-1, 1}
    expected = np.clip((theta[0].numpy() + 1) / 2, 0, 1)
    np.testing.assert_allclose((out == 1).double().mean(0).numpy(), expected, atol=0.015)
    again = torch.empty_like(theta)
    BinaryConnect(stochastic=True).write(again, theta, COURSE, generator)
    assert not torch.equal(out, again)


def test_proximal_steps() -> None:
    rate, freeze = 0.5, 2 / 3
    states, adam = trained(ProxQuant(rate, freeze)), Adam()

    def update(theta: Array, g: Array, k: int) -> Array:
        moved = theta - RATE * adam(g)
        if k / STEPS >= freeze:
            return np.copysign(1, theta)
        strength = RATE * rate * (k // EPOCH + 1)
        gap = np.abs(moved) - 1
        return np.clip(np.sign(moved) * (1 + np.sign(gap) * np.maximum(0, np.abs(gap) - strength)), -1, 1)

    latents = unrolled(states[0][0], update)
    weights = [np.copysign(1, t) if k / STEPS >= freeze else t for k, t in enumerate(latents)]
    compare(states, latents, weights)
    assert np.abs(latents[7]).max() < 1


@pytest.mark.parametrize("theta", [-2.0, -0.9, -0.3, 0.1, 0.8, 1.3])
def test_the_proximal_map_minimises_its_objective(theta: float) -> None:
    grid = np.linspace(-3, 3, 600_001)
    cost = (grid - theta) ** 2 / 2 + 0.15 * np.minimum(np.abs(grid - 1), np.abs(grid + 1))
    assert float(proximal(torch.tensor(theta), 0.15)) == pytest.approx(grid[cost.argmin()], abs=2e-5)


def test_mirror_descent_in_the_space_of_weights() -> None:
    states, adam = trained(MDTanh(sharpest=4.0, anneal=0.5)), Adam()

    def update(w: Array, g: Array, k: int) -> Array:
        e = (1 + w) / (1 - w) * np.exp(-2 * RATE * grown(4.0, k, 0.5) * adam(g))
        return (e - 1) / (e + 1)

    latents = unrolled(states[0][0], update)
    compare(states, latents, latents)


def test_weights_that_rounding_has_made_binary_come_back() -> None:
    theta, before = torch.full((2,), 1.0), torch.tensor([1.0, -1.0])
    theta = before - 30 * before
    MDTanh(sharpest=1.0, anneal=0.0).settle(theta, before, 1.0, COURSE)
    assert torch.all(theta * before < 0)


def test_mirror_descent_with_its_dual_variables() -> None:
    states, adam = trained(MDTanhStable(sharpest=9.0, anneal=0.9)), Adam()
    latents = unrolled(states[0][0], lambda theta, g, k: theta - RATE * adam(g))
    compare(states, latents, [np.tanh(grown(9.0, k, 0.9) * theta) for k, theta in enumerate(latents)])


def test_both_forms_of_mirror_descent_agree_while_the_sharpness_stays() -> None:
    plain, stable = trained(MDTanh(1.0, 0.0)), trained(MDTanhStable(1.0, 0.0))
    assert len(plain) == STEPS + 1
    torch.manual_seed(0)
    stable_again = trained(MDTanhStable(1.0, 0.0))
    del stable
    start = np.arctanh(plain[0][0])
    adam, dual = Adam(), [start]
    for g in gradients():
        dual.append(dual[-1] - RATE * adam(g))
    np.testing.assert_allclose(plain[-1][1], np.tanh(dual[-1]), rtol=1e-9)
    moved = stable_again[-1][0] - stable_again[0][0]
    np.testing.assert_allclose(moved, dual[-1] - start, rtol=1e-9)


def test_the_proximal_mean_field() -> None:
    states, adam, sharpest = trained(PMF(sharpest=6.0, anneal=0.9)), Adam(), 6.0

    def soft(theta: Array, scale: float) -> Array:
        e = np.exp(scale * theta)
        return e / e.sum(0)

    def update(theta: Array, g: Array, k: int) -> Array:
        scale = grown(sharpest, k, 0.9)
        u, made = soft(theta, scale), np.empty_like(theta)
        for place in np.ndindex(SHAPE):
            v, g_u = u[(slice(None), *place)], np.array([-g[place], g[place]])
            made[(slice(None), *place)] = scale * (np.eye(2) - np.outer(v, v)).T @ g_u
        return theta - RATE * adam(made)

    latents = unrolled(states[0][0], update)
    softened = [soft(theta, grown(sharpest, k, 0.9)) for k, theta in enumerate(latents)]
    compare(states, latents, [u[1] - u[0] for u in softened])


def test_natural_gradients_of_sampled_weights() -> None:
    temperature = 0.5
    method = BayesBiNN(temperature, spread=0.7)
    base = lambda groups, lr: CorrectedMomentum(groups, lr=1e-3, momentum=0.8)  # noqa: E731
    states, m = trained(method, base), 0.0
    assert set(np.abs(states[0][0]).flatten()) == {0.7}
    for k, g in enumerate(gradients()):
        (lam, w), (after, _) = states[k], states[k + 1]
        s = (1 - w**2 + 1e-10) / (temperature * (1 - np.tanh(lam) ** 2 + 1e-10))
        m = 0.8 * m + 0.2 * (10 * 7 * s * g + lam)
        np.testing.assert_allclose(after, lam - 1e-3 * m / (1 - 0.8 ** (k + 1)), rtol=1e-9)


def test_samples_have_the_probability_of_their_natural_parameter() -> None:
    lam = torch.tensor([-1.0, 0.0, 0.5]).repeat(20_000, 1)
    out = torch.empty_like(lam)
    BayesBiNN().write(out, lam, COURSE, torch.Generator().manual_seed(0))
    assert set(out.unique().tolist()) <= {-1, 1}
    np.testing.assert_allclose((out > 0).double().mean(0).numpy(), 1 / (1 + np.exp(-2 * lam[0].numpy())), atol=0.015)


def test_bop_flips_by_the_running_mean_and_leaves_the_base_optimiser_out() -> None:
    states = trained(Bop(gamma=0.3, threshold=0.2))
    (w, m), flips = states[0][0], 0
    assert not m.any()
    assert set(np.unique(w)) == {-1, 1}
    for k, g in enumerate(gradients()):
        m = 0.7 * m + 0.3 * g
        turned = (np.abs(m) > 0.2) & (np.sign(m) == np.sign(w))
        w, flips = np.where(turned, -w, w), flips + int(turned.sum())
        np.testing.assert_allclose(states[k + 1][0], np.stack([w, m]), rtol=1e-12)
        np.testing.assert_array_equal(states[k + 1][1], w)
    assert flips > 5


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: STE(clip=-1), "clip must be zero or a positive number"),
        (lambda: ProxQuant(freeze=2.0), r"freeze must lie in \(0, 1\], not 2.0"),
        (lambda: MDTanh(sharpest=0), "sharpest must be a positive number"),
        (lambda: MDTanhStable(anneal=1.1), r"anneal must lie in \[0, 1\], not 1.1"),
        (lambda: PMF(sharpest=-1), "sharpest must be a positive number"),
        (lambda: BayesBiNN(temperature=0), "temperature must be a positive number"),
        (lambda: Bop(gamma=1.5), r"gamma must lie in \(0, 1\], not 1.5"),
        (lambda: CorrectedMomentum([], momentum=1.0), r"momentum must lie in \[0, 1\)"),
        (lambda: Course(steps=0), "steps must be at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(make: Callable[[], object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        make()
