"""Records of training runs to aggregate and draw, every value chosen by hand."""

from collections.abc import Callable
from typing import Any

import pytest

MakeRecord = Callable[..., dict[str, Any]]


@pytest.fixture
def make_record() -> MakeRecord:
    """A complete record of a three-layer network after two epochs; keyword arguments replace its values."""

    def make(rule: str = "backprop", seed: int = 0, **changes: Any) -> dict[str, Any]:
        epochs = [
            {"epoch": 1, "train_loss": 1.0, "test_accuracy": 0.5, "alignment": [1.0, 1.0, 1.0]},
            {"epoch": 2, "train_loss": 0.02, "test_accuracy": 0.975, "alignment": [0.75, 0.5, 1.0]},
        ]
        for epoch, angle in zip(epochs, (90.0, 60.0), strict=True):
            epoch["feedback_angles"] = [angle]
        record = {
            "rule": rule,
            "dataset": "digits",
            "network": "mlp 64-32-32-10",
            "seed": seed,
            "epochs": 2,
            "test_accuracy": 0.975,
            "train_loss": 0.02,
            "step_ms": 0.5,
            "step_ratio_to_backprop": 1.25,
            "alignment": [0.75, 0.5, 1.0],
            "norm_ratio": [0.9, 1.1, 1.0],
            "same_sign": [0.75, 1.0],
            "straddling": [0.25, 0.5],
            "relaxation": {"iterations": 4, "residual": 1e-6, "converged": True},
            "history": epochs,
        }
        return record | changes

    return make


@pytest.fixture
def relaxed(make_record: MakeRecord) -> MakeRecord:
    """The record of a network with feedback: two layers of 2 and 1 units, skew, which settled in three iterations."""

    def make(rule: str = "dyadic", seed: int = 0, **changes: Any) -> dict[str, Any]:
        relaxation = {"iterations": 3.5, "residual": 1e-4, "converged": True, "unconverged": 0.0}
        relaxation |= {"trace": [1.0, 0.1, 1e-3], "energy": [2.0, -1.0, -1.5]} | changes.pop("relaxation", {})
        weights = [[0.0, 0.0, -0.5], [0.0, 0.0, 0.25], [0.5, -0.25, 0.0]]
        connectivity = {"layers": ["1", "2"], "bins": [2, 1], "weights": weights}
        return make_record(rule, seed, relaxation=relaxation, **({"connectivity": connectivity} | changes))

    return make
