"""Training: what a step does, what decides it, and that networks learn."""

import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch

from dyadnet import data
from dyadnet.data import Dataset
from dyadnet.names import RequestError
from dyadnet.rule.dual_propagation import Dyad
from dyadnet.train import loop
from dyadnet.train.environment import pick_device
from dyadnet.train.loop import (
    Diverged,
    Training,
    evaluate,
    step,
    train_epoch,
    training_batches,
)
from dyadnet.train.optimizing import rate_factor
from dyadnet.train.run import Request, summarise
from dyadnet.train.settings import Settings

Make = Callable[..., Training]


def weights(training: Training) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in training.net.parameters()])


def trained(training: Training) -> list[dict[str, Any]]:
    """All epochs' metrics but the times."""
    while len(training.history) < training.settings.epochs:
        train_epoch(training)
    return [{key: m[key] for key in m if key not in ("seconds", "step_ms")} for m in training.history]


def test_the_rate_rises_and_falls_as_the_formula_says():
    settings = Settings(
        epochs=10, learning_rate=0.2, warmup_epochs=2, warmup_start=0.05, final_learning_rate=0.01, decay_epochs=8
    )
    rate = [0.2 * rate_factor(settings, steps=3)(step) for step in range(31)]
    # the warm-up takes 6 steps, the cosine 18: its quarters are 4.5 steps long
    assert rate[:7] == pytest.approx([0.05, 0.075, 0.1, 0.125, 0.15, 0.175, 0.2])
    assert rate[15] == pytest.approx((0.2 + 0.01) / 2)
    assert rate[12] == pytest.approx(0.01 + 0.19 * (1 + math.cos(math.pi / 3)) / 2)
    assert rate[24:] == pytest.approx([0.01] * 7)


def test_a_constant_rate_stays_where_the_warm_up_ends():
    factor = rate_factor(Settings(decay="constant", epochs=5, warmup_epochs=1), steps=4)
    assert [factor(step) for step in (0, 1, 2, 4, 5, 20, 100)] == [0, 0.25, 0.5, 1, 1, 1, 1]


def test_every_step_uses_its_own_rate(training_for: Make):
    training = training_for(optimizer="sgd", warmup_epochs=1.0, decay="constant", learning_rate=0.3)
    steps, used = training.steps, []
    for x, y in training_batches(training):
        used.append(training.optimizer.param_groups[0]["lr"])
        step(training, x, y)
    assert steps == 26
    assert used == pytest.approx([0.3 * number / steps for number in range(steps)])


def test_the_gradient_is_clipped_to_the_norm_asked_for(training_for: Make):
    moved = []
    for clip in (1e-3, None):
        training = training_for(optimizer="sgd", decay="constant", learning_rate=1.0, clip=clip)
        before = weights(training)
        step(training, *next(training_batches(training)))
        moved.append((weights(training) - before).norm().item())
    assert moved[0] == pytest.approx(1e-3, rel=1e-3)
    assert moved[1] > 1e-2


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rule": "backprop", "loss": "squared-error"},
        {"bf16": True},
        {"normalise": True, "activation": "tanh", "init": "glorot"},
        {"optimizer": "sgd:momentum=0.9", "clip": 1.0},
        {"rule": "dual-propagation:schedule=random-order", "carry_states": True},
        {"rule": "lagrangian:schedule=odd-even"},
        {"optimizer": "adam:fused=true", "hidden": (12, 12)},
    ],
)
def test_clusters_are_learnt(training_for: Make, changes: dict[str, Any]):
    metrics = trained(training_for(**changes))
    assert metrics[-1]["test_accuracy"] > 0.9  # chance is a third
    assert metrics[-1]["train_loss"] < metrics[0]["train_loss"]


def test_images_are_learnt_by_a_convolutional_network(training_for: Make, images: Dataset):
    training = training_for(on=images, network="cnn", learning_rate=0.003)
    assert trained(training)[-1]["test_accuracy"] > 0.9


RECURRENT = {
    "dyadic": {},
    "dyadic:form=joint,beta=0.2": {"lam": 0.25},
    "dyadic:beta=0.1": {"network": "dense"},
    "recurrent-backprop": {"network": "dense", "structure": "skew"},
    "equilibrium-propagation": {"lam": 0.75, "hidden": (12, 12)},
    "equilibrium-propagation:variant=random-sign": {"carry_states": True},
    "equilibrium-propagation:variant=holomorphic": {"lam": 0.6},
    "contrastive-hebbian": {"lam": 0.6, "order": "sweeps"},
    "coupled-learning": {"lam": 0.6, "solver": "anderson", "order": "parallel"},
}


@pytest.mark.parametrize(("rule", "changes"), RECURRENT.items(), ids=RECURRENT)
def test_networks_with_feedback_learn_the_clusters(training_for: Make, rule: str, changes: dict[str, Any]):
    shared = {"learning_rate": 0.02, "batch_size": 8, "epochs": 6, "align_every": 0}
    metrics = trained(training_for(rule, **shared | changes))
    assert metrics[-1]["test_accuracy"] > 0.9
    assert metrics[-1]["train_loss"] < metrics[0]["train_loss"]
    for epoch in metrics:
        assert 1 < epoch["iterations"] <= 400  # two phases of at most 200
        assert epoch["residual"] <= 1e-3
        assert epoch["unconverged"] == epoch["test_unconverged"] == 0


def test_images_are_learnt_with_feedback(training_for: Make, images: Dataset):
    metrics = trained(training_for("dyadic", on=images, network="cnn", lam=0.0, learning_rate=0.006, batch_size=8))
    assert metrics[-1]["test_accuracy"] > 0.9
    assert metrics[-1]["unconverged"] == 0


def test_states_that_have_not_settled_are_counted_and_not_warned_of(training_for: Make):
    """Warnings are errors here: a single pass from silence leaves every sample unsettled."""
    for given in ({"most_passes": 1}, {"iterations": 1}):
        (metrics,) = trained(training_for("dyadic", epochs=1, **given))
        assert metrics["unconverged"] == metrics["test_unconverged"] == 1
        assert metrics["iterations"] == 1


def test_the_tolerance_decides_what_counts_as_settled(training_for: Make):
    few = {"epochs": 1, "iterations": 3, "align_every": 0}
    strict, generous = (trained(training_for("dyadic", tolerance=t, **few))[0] for t in (1e-7, 10.0))
    assert (strict["unconverged"], generous["unconverged"]) == (1, 0)
    assert strict["train_loss"] == generous["train_loss"]  # three passes all the same


def test_carried_states_save_passes(training_for: Make):
    """With the same batch again and again, what was reached is where to go."""
    passes = {}
    for carry in (False, True):
        training = training_for("dyadic", batch_size=104, carry_states=carry, learning_rate=1e-6)
        x, y = next(training_batches(training))
        states = step(training, x, y).states
        passes[carry] = step(training, x, y, states if carry else None).passes
    assert passes[True] < passes[False] / 2


def test_what_relaxations_take_is_told_ahead_of_every_tick(training_for: Make):
    heard: list[Any] = []
    metrics = train_epoch(training_for("dyadic"), lambda *tick: heard.append("tick"), heard.append)
    assert [event == "tick" for event in heard] == [False, True] * 2
    assert heard[-2] == {name: metrics[name] for name in ("iterations", "residual", "unconverged")}
    heard.clear()
    train_epoch(training_for("backprop"), relaxed=heard.append)
    assert heard == []


def test_the_loss_of_a_network_with_feedback_is_that_of_its_equilibrium(training_for: Make):
    training = training_for("dyadic", epochs=1)
    metrics = train_epoch(training)
    split, net = training.dataset.test, training.net
    output = net(split.images)
    target = torch.nn.functional.one_hot(split.labels, 3)
    assert metrics["test_loss"] == pytest.approx((output - target).square().sum(1).mean().item() / 2, rel=1e-5)
    assert metrics["test_accuracy"] == (output.argmax(1) == split.labels).double().mean().item()


@pytest.mark.parametrize("rule", ["feedback-alignment", "direct-feedback-alignment", "random-feedback-chl"])
def test_the_angle_of_feedback_weights_is_measured_after_every_epoch(training_for: Make, rule: str):
    training = training_for(rule, hidden=(12, 9), activation="hard-sigmoid")
    angles = [train_epoch(training)["feedback_angles"] for _ in range(2)]
    assert all(len(found) == 2 and all(0 < angle < 180 for angle in found) for found in angles)
    assert angles[0] != angles[1]  # random weights stay, and those of the network move
    assert "feedback_angles" not in train_epoch(training_for("dual-propagation"))


def test_direct_feedback_around_a_pooling_has_no_angle(training_for: Make, images: Dataset):
    training = training_for("direct-feedback-alignment", on=images, network="cnn", epochs=3)
    accuracies = [train_epoch(training)["test_accuracy"] for _ in range(3)]
    assert accuracies[-1] > 0.6  # chance is 1/3
    assert "feedback_angles" not in training.history[-1]


def test_a_lifted_network_is_pretrained_without_labels(training_for: Make):
    training = training_for("lrrn", pretrain_epochs=1, epochs=3)
    lowest, output = training.net.maps[0].weight, training.net.maps[-1].weight
    before = lowest.detach().clone(), output.detach().clone()
    train_epoch(training)
    assert torch.equal(output, before[1])  # it reconstructs nothing
    assert not torch.equal(lowest, before[0])
    train_epoch(training)
    assert not torch.equal(output, before[1])


def test_a_lifted_network_answers_with_its_gain(training_for: Make):
    training = training_for("lrrn", output_gain=2.0)
    x, y = next(data.batches(training.dataset, training.dataset.test, 45))
    outputs = training.net(x), 2 * training.net.relax(x).states[-1].mean()
    torch.testing.assert_close(*outputs)
    expected = float(training.loss(outputs[1], y).mean())
    assert evaluate(training)["loss"] == pytest.approx(expected)


@pytest.mark.parametrize("rule", ["equilibrium-propagation:beta=0.1,variant=positive", "coupled-learning", "backprop"])
def test_a_resistive_network_learns_and_its_conductances_stay_physical(training_for: Make, rule: str):
    training = training_for(rule, network="resistive", circuit="input_gain=5", learning_rate=0.01, epochs=3)
    before = sum(int((g == 0).sum()) for g in training.net.conductances)
    accuracies = [train_epoch(training)["test_accuracy"] for _ in range(3)]
    assert accuracies[-1] > 0.9
    assert all(float(g.detach().min()) == 0 for g in training.net.conductances)
    assert sum(int((g == 0).sum()) for g in training.net.conductances) != before
    record = summarise(Request(rule, 0, training.settings), training)
    assert record["network"] == "8-12-3, resistive"
    energy = record["relaxation"].get("energy", [])  # backpropagation does not relax
    assert energy == sorted(energy, reverse=True)
    assert bool(energy) == (rule != "backprop")


def test_augmented_batches_differ_from_the_images(training_for: Make, images: Dataset):
    plain, augmented = (next(training_batches(training_for(on=images, augment=on)))[0] for on in (False, True))
    assert plain.shape == augmented.shape
    assert not torch.equal(plain, augmented)


def test_the_seed_decides_everything(training_for: Make):
    rule = "dual-propagation:schedule=random-order"
    first, again, other = (trained(training_for(rule, seed, epochs=1)) for seed in (0, 0, 1))
    assert first == again
    assert all(a["train_loss"] != b["train_loss"] for a, b in zip(first, other, strict=True))


def test_rules_share_weights_and_order_at_the_same_seed(training_for: Make):
    ours, theirs = training_for("dual-propagation"), training_for("backprop")
    assert torch.equal(weights(ours), weights(theirs))
    for (x, y), (z, w) in zip(training_batches(ours), training_batches(theirs), strict=True):
        assert torch.equal(x, z)
        assert torch.equal(y, w)


def test_states_are_carried_within_an_epoch_but_not_to_a_smaller_batch(
    training_for: Make, monkeypatch: pytest.MonkeyPatch
):
    training = training_for(carry_states=True, batch_size=50)
    given: list[int | None] = []
    estimate = type(training.rule).estimate

    def spy(*args: Any, states: Any = None, **options: Any) -> Any:
        given.append(None if states is None else len(states[-1].mean()))
        return estimate(*args, states=states, **options)

    monkeypatch.setattr(type(training.rule), "estimate", spy)
    for _ in range(2):
        loop._pass(training, 1, lambda step, steps, loss: None)
    assert given == [None, 50, None] * 2  # 104 samples: batches of 50, 50 and 4


def test_states_are_kept_only_where_they_are_carried(training_for: Make):
    for carry in (False, True):
        training = training_for(carry_states=carry)
        states = step(training, *next(training_batches(training))).states
        assert isinstance(states[-1], Dyad) if carry and states else states is None


def test_ticks_tell_the_step_and_the_mean_loss(training_for: Make):
    ticks: list[tuple[int, int, float]] = []
    metrics = train_epoch(training_for(), lambda *tick: ticks.append(tick))
    assert [tick[:2] for tick in ticks] == [(25, 26), (26, 26)]
    assert ticks[-1][2] == metrics["train_loss"]


def test_metrics_are_measured_and_dated(training_for: Make):
    training = training_for(epochs=3, align_every=2)
    first, second, third = (train_epoch(training) for _ in range(3))
    assert [m["epoch"] for m in training.history] == [1, 2, 3]
    assert "alignment" not in first
    assert [len(m["alignment"]) for m in (second, third)] == [2, 2]
    assert first["learning_rate"] == 0.03
    assert first["step_ms"] == pytest.approx(1e3 * first["seconds"] / 26)
    net, split = training.net, training.dataset.test
    with torch.no_grad():
        output = net(split.images)
    assert third["test_accuracy"] == pytest.approx((output.argmax(1) == split.labels).double().mean().item())
    assert third["test_loss"] == pytest.approx(torch.nn.functional.cross_entropy(output, split.labels).item())


def test_a_loss_that_is_no_number_stops_with_the_epoch(training_for: Make):
    training = training_for(optimizer="sgd", learning_rate=1e30, decay="constant", loss="squared-error")
    with pytest.raises(Diverged, match=r"the loss became (nan|inf) in epoch 1, by step 25"):
        train_epoch(training)
    assert training.history == []


def test_a_test_loss_that_is_no_number_stops_too(training_for: Make, monkeypatch: pytest.MonkeyPatch):
    training = training_for()
    monkeypatch.setattr(loop, "evaluate", lambda training: {"loss": math.inf, "accuracy": 0.0})
    with pytest.raises(Diverged, match="the test loss became inf after epoch 1"):
        train_epoch(training)
    assert training.history == []


def test_state_and_restore_are_inverse(training_for: Make):
    rule = "dual-propagation:schedule=random-order"
    training = training_for(rule, optimizer="sgd:momentum=0.9", warmup_epochs=1.0)
    train_epoch(training)
    copy = training_for(rule, seed=5, optimizer="sgd:momentum=0.9", warmup_epochs=1.0)
    copy.restore(deepcopy(training.state()))  # as a file would hold it
    assert trained(copy) == trained(training)
    assert torch.equal(weights(copy), weights(training))


def test_a_device_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(RequestError, match=r"there is no device 'abacus' here; there is cpu"):
        pick_device("abacus")
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", "cuda")


def decayed(training: Training) -> list[float]:
    """By how much the learning rate times the decay shrinks each parameter, when nothing is learnt."""
    before = [p.detach().clone() for p in training.net.parameters()]
    for p in training.net.parameters():
        p.grad = torch.zeros_like(p)
    training.optimizer.step()
    return [float(1 - p.detach().norm() / b.norm()) for p, b in zip(training.net.parameters(), before, strict=True)]


@pytest.mark.parametrize(("network", "inside"), [("dense", [0]), ("hopfield", [2])])
def test_only_the_connections_between_units_decay(training_for: Make, network: str, inside: list[int]):
    training = training_for(
        "dyadic", network=network, optimizer="adamw:weight_decay=0", coupling_decay=2.0, learning_rate=0.1
    )
    for p in training.net.parameters():
        torch.nn.init.ones_(p)
    expected = [0.2 if k in inside else 0.0 for k in range(len(list(training.net.parameters())))]
    assert decayed(training) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("rule", "changes", "said"),
    [
        ("dyadic", {"optimizer": "rprop"}, "rprop has no weight decay for coupling-decay"),
        ("backprop", {}, "coupling-decay is for networks with feedback, which backprop cannot train"),
    ],
)
def test_decay_that_nothing_would_look_at_is_refused(training_for: Make, rule: str, changes: dict[str, Any], said: str):
    with pytest.raises(RequestError, match=said):
        training_for(rule, coupling_decay=1.0, **changes)
