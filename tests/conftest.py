"""Numerics are tested in double precision, on one thread, from fixed seeds."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

HERE = Path(__file__).parent
CORE_FOLDERS = {"network", "relax", "energy", "rule", "audit", "lrrn", "binary", "hardware"}
CORE_FILES = {"test_activation.py", "test_loss.py", "test_contracts.py"}

settings.register_profile("fixed", max_examples=40, derandomize=True, database=None, deadline=None)
settings.load_profile("fixed")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """The order of a sum is that of one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """Every test starts from the same global random state."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def double_precision(request: pytest.FixtureRequest) -> Iterator[None]:
    """New tensors are float64 in the tests of the core; the rest of the suite runs in a user's precision."""
    place = request.path.relative_to(HERE)
    before = torch.get_default_dtype()
    if place.parts[0] in CORE_FOLDERS | CORE_FILES:
        torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
