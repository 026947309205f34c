"""Runs with binary weights as files: the network is that of the run, and a file that is not is refused."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dyadnet.binary import load
from dyadnet.binary.packed import PackedConv2d, PackedLinear
from dyadnet.data import Dataset, batches
from dyadnet.names import RequestError
from dyadnet.train import export as module
from dyadnet.train.export import Disagreement, export
from dyadnet.train.loop import Training, evaluate, final_weights, train_epoch

TrainingFor = Callable[..., Training]


def accuracy(training: Training, model: nn.Module) -> float:
    (x, y), *_ = batches(training.dataset, training.dataset.test, 1000, normalise=training.settings.normalise)
    return float((model(x).argmax(1) == y).float().mean())


@pytest.mark.parametrize("format", ["packed", "gguf"])
@pytest.mark.parametrize(
    "given",
    [
        {"binary": "ste"},
        {"binary": "adaste", "batch_norm": True, "binary_scale": "channel", "normalise": True},
        {"binary": "ste", "binary_layers": "not-first", "hidden": (12, 12), "activation": "sign", "batch_norm": True},
    ],
)
def test_the_file_predicts_what_the_run_does(
    tmp_path: Path, training_for: TrainingFor, given: dict[str, Any], format: Any
) -> None:
    training = training_for("backprop", **given)
    train_epoch(training)
    before = [p.clone() for p in training.net.state_dict().values()]
    found = export(training, tmp_path / "new", format)
    model = load(found.path)
    assert any(isinstance(layer, PackedLinear) for layer in model.modules())
    assert found.changed == 0
    assert found.difference <= (1e-6 if format == "packed" else 1e-3) * found.largest
    assert found.samples == len(training.dataset.test)
    with final_weights(training):
        assert accuracy(training, model) == pytest.approx(evaluate(training)["accuracy"])
    assert found.size == found.path.stat().st_size
    assert all(torch.equal(a, b) for a, b in zip(before, training.net.state_dict().values(), strict=True))


def test_convolutional_networks_are_exported(tmp_path: Path, training_for: TrainingFor, images: Dataset) -> None:
    training = training_for("dual-propagation", on=images, network="cnn", binary="ste", batch_norm=True)
    train_epoch(training)
    found = export(training, tmp_path)
    assert found.changed == 0
    assert found.float_size > 10 * found.size
    assert sum(isinstance(layer, PackedConv2d) for layer in load(found.path).modules()) == 2


def test_a_run_of_float_weights_is_refused(tmp_path: Path, training_for: TrainingFor) -> None:
    with pytest.raises(RequestError, match="this run cannot be exported: no layer of the model has binary weights"):
        export(training_for("backprop"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_network_with_feedback_is_refused(tmp_path: Path, training_for: TrainingFor) -> None:
    with pytest.raises(RequestError, match="only feedforward networks can be exported"):
        export(training_for("dyadic"), tmp_path)


def test_a_file_is_not_replaced_unasked(tmp_path: Path, training_for: TrainingFor) -> None:
    training = training_for("backprop", binary="ste")
    path = export(training, tmp_path).path
    with pytest.raises(RequestError, match=r"model\.safetensors exists; --overwrite replaces it"):
        export(training, tmp_path)
    assert export(training, tmp_path, overwrite=True).path == path


def test_a_missing_package_is_named(tmp_path: Path, training_for: TrainingFor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(RequestError, match=r"gguf needs the package gguf: pip install -e '\.\[export\]'"):
        export(training_for("backprop", binary="ste"), tmp_path, "gguf")


def test_a_file_that_computes_something_else_is_refused_and_removed(
    tmp_path: Path, training_for: TrainingFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def altered(path: Path) -> nn.Module:
        model = load(path)
        for layer in model.modules():
            if isinstance(layer, PackedLinear):
                layer.bits ^= 85
        return model

    monkeypatch.setattr(module, "load", altered)
    with pytest.raises(Disagreement, match=r"the file would not compute what the run does: \d+ predictions change"):
        export(training_for("backprop", binary="ste"), tmp_path)
    assert not list(tmp_path.iterdir())
