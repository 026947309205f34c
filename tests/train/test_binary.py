"""Runs with binary weights: every feedforward rule trains them, they resume, and what is judged is exactly binary."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dyadnet import cli
from dyadnet.binary.diagnostics import exact
from dyadnet.binary.optimizer import BinaryOptimizer
from dyadnet.data import Dataset, load
from dyadnet.names import BINARY, RequestError
from dyadnet.train import checkpoint, folder
from dyadnet.train.loop import Training, evaluate, final_weights, prepare, train_epoch
from dyadnet.train.rehearsal import rehearse
from dyadnet.train.run import Request, execute, restored
from dyadnet.train.settings import Settings

BINARIES = {"binary": "adaste", "batch_norm": True}
FEEDFORWARD = ("backprop", "lagrangian", "dual-propagation", "feedback-alignment", "direct-feedback-alignment")
Make = Callable[..., Request]


def latents(training: Training) -> list[torch.Tensor]:
    assert isinstance(training.optimizer, BinaryOptimizer)
    return [one.latent for one in training.optimizer.owned]


@pytest.mark.parametrize("rule", FEEDFORWARD)
def test_rules_of_feedforward_networks_train_binary_weights(training_for: Callable[..., Training], rule: str):
    training = training_for(rule, **BINARIES, epochs=4)
    metrics = [train_epoch(training) for _ in range(4)][-1]
    assert metrics["test_accuracy"] > 0.7  # chance is a third
    assert 0 <= metrics["flipped"] < 1
    assert 0 < metrics["multiplied"] < 1
    assert sum(metrics["latents"]["counts"]) == 8 * 12 + 12 * 3


@pytest.mark.parametrize("method", BINARY)
def test_every_method_can_be_named(training_for: Callable[..., Training], method: str):
    training = training_for("backprop", binary=method, batch_norm=True, binary_scale="channel", epochs=1)
    metrics = train_epoch(training)
    assert (metrics["multiplied"] is None) == ("adaste" not in method)


@pytest.mark.parametrize(("rule", "method"), [("backprop", "adaste"), ("dual-propagation", "bayes-binn")])
def test_an_interrupted_run_has_the_latents_of_an_unbroken_one(
    tmp_path: Path, dataset: Dataset, request_for: Make, rule: str, method: str
):
    request = request_for(rule, binary=method, batch_norm=True, epochs=3)
    for name in ("whole", "broken"):
        folder.create(tmp_path / name, request.config())
    execute(request, tmp_path / "whole", dataset)

    def stop(step: int, steps: int, loss: float) -> None:
        if (tmp_path / "broken" / checkpoint.NAME).exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(request, tmp_path / "broken", dataset, tick=stop)
    execute(request, tmp_path / "broken", dataset)
    whole, broken = (restored(request, tmp_path / name, dataset) for name in ("whole", "broken"))
    assert all(torch.equal(one, other) for one, other in zip(latents(whole), latents(broken), strict=True))
    assert whole.history[-1]["latents"] == broken.history[-1]["latents"]


def test_what_is_judged_is_binary_with_its_own_statistics_and_gone_afterwards(training_for: Callable[..., Training]):
    training = training_for("backprop", binary="md-tanh-stable", batch_norm=True)
    train_epoch(training)
    assert isinstance(training.optimizer, BinaryOptimizer)
    before = {name: value.clone() for name, value in training.net.state_dict().items()}
    found, total = exact(training.optimizer)
    assert found < total
    training.net.eval()
    with final_weights(training):
        assert exact(training.optimizer) == (total, total)
        norm = next(module for module in training.net.modules() if isinstance(module, torch.nn.BatchNorm1d))
        x = training.dataset.train.images[:500]
        drive = training.net.stages[0].map[:2](x)  # pyright: ignore[reportIndexIssue, reportAttributeAccessIssue]
        torch.testing.assert_close(norm.running_mean, drive.mean(0), rtol=1e-4, atol=1e-4)
        evaluate(training)
    assert all(torch.equal(value, before[name]) for name, value in training.net.state_dict().items())


@pytest.mark.parametrize(
    ("layers", "shapes"),
    [(None, [(12, 8), (3, 12)]), ("not-first", [(3, 12)]), ("not-last", [(12, 8)])],
)
def test_layers_are_binary_as_asked(training_for: Callable[..., Training], layers: str | None, shapes: Any):
    assert [tuple(one.shape) for one in latents(training_for(**BINARIES, binary_layers=layers))] == shapes


@pytest.mark.parametrize("rule", ["backprop", "dual-propagation:beta=10"])
def test_networks_of_two_valued_neurons_learn_digits(rule: str):
    settings = Settings(
        hidden=(64, 64), epochs=8, activation="sign", batch_norm=True, learning_rate=0.01, align_every=0, batch_size=50
    )
    training = prepare(settings, rule, 0, load("digits"))
    metrics = [train_epoch(training) for _ in range(8)][-1]
    assert metrics["test_accuracy"] > 0.9


@pytest.mark.parametrize(
    ("rule", "changes", "told"),
    [
        ("backprop", {"binary": "adastee"}, "there is no method for binary weights 'adastee'"),
        ("backprop", {"binary": "adaste:beta=1"}, "adaste has no setting 'beta'; it has alpha, mu, anneal, cap, clip"),
        ("backprop", {"binary": "adaste:alpha=0"}, "adaste: alpha must be a positive number, not 0.0"),
        ("backprop", {"binary_layers": "inner"}, "binary-layers is for binary weights: name a method with binary"),
        ("backprop", {"binary_scale": "channel"}, "binary-scale is for binary weights: name a method with binary"),
        (
            "backprop",
            {"binary": "ste", "binary_layers": "inner"},
            "binary-layers inner: no weight is left to be binary",
        ),
        ("dyadic", {"binary": "ste"}, "binary is for feedforward networks"),
        ("lrrn", {"batch_norm": True}, "batch-norm is for feedforward networks"),
        ("backprop", {"batch_norm": True, "batch_size": 103}, "batch-norm cannot normalise a last batch of one sample"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_sentence(
    dataset: Dataset, request_for: Make, rule: str, changes: dict[str, Any], told: str
):
    with pytest.raises(RequestError) as refusal:
        rehearse(request_for(rule, **changes), dataset)
    assert told in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_evaluate_says_how_many_weights_in_use_are_binary(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out, words = str(tmp_path / "run"), "--rule backprop --hidden 16 --epochs 2 --batch-norm --binary md-tanh"
    assert cli.main(["train", *words.split(), "--binary-scale", "channel", "--out", out]) == 0
    capsys.readouterr()
    assert cli.main(["evaluate", out]) == 0
    told = "binary weights: 1184 of 1184 in use are exactly -1 or 1 times the scale of their channel"
    shown = capsys.readouterr().out
    assert told in shown
    accuracy = folder.read_json(tmp_path / "run" / folder.RESULT)["test_accuracy"]
    assert f"accuracy {100 * accuracy:.2f} %" in shown
