"""A data set of three clusters that is learnt in a second, and what makes runs on it.

An epoch has 26 steps, so that training ticks twice an epoch: at step 25, in its midst, and at its end.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from dyadnet.data import Dataset, Split
from dyadnet.train.loop import Training, prepare
from dyadnet.train.run import Request
from dyadnet.train.settings import Settings

TINY = Settings(hidden=(12,), epochs=2, batch_size=4, learning_rate=0.03, align_samples=20)


def clusters(shape: tuple[int, ...]) -> Dataset:
    """Noisy copies of three random patterns, as a data set with inputs in [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.rand(3, *shape, generator=generator).round()

    def split(count: int) -> Split:
        labels = torch.arange(count) % 3
        noise = 0.1 * torch.randn(count, *shape, generator=generator)
        return Split((patterns[labels] + noise).clamp(0, 1), labels)

    channels = shape[0] if len(shape) == 3 else 1
    return Dataset("clusters", split(104), split(45), 3, shape, 1.0, (0.5,) * channels, (0.3,) * channels)


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    return clusters((8,))


@pytest.fixture(scope="session")
def images() -> Dataset:
    return clusters((1, 8, 8))


@pytest.fixture(scope="session")
def request_for() -> Callable[..., Request]:
    """A request for a tiny run; keyword arguments change its settings."""

    def make(rule: str = "dual-propagation", seed: int = 0, **changes: Any) -> Request:
        return Request(rule, seed, dataclasses.replace(TINY, **changes))

    return make


@pytest.fixture(scope="session")
def training_for(dataset: Dataset, request_for: Callable[..., Request]) -> Callable[..., Training]:
    """A tiny run under way."""

    def make(rule: str = "dual-propagation", seed: int = 0, on: Dataset = dataset, **changes: Any) -> Training:
        return prepare(request_for(**changes).settings, rule, seed, on)

    return make
