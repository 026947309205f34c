"""One run in its folder: what it leaves, and that an interrupted one ends where an unbroken one does."""

import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dyadnet.data import Dataset, hold_out
from dyadnet.names import RequestError
from dyadnet.rule.backprop import Backprop
from dyadnet.train import checkpoint, folder, loop, timing
from dyadnet.train.loop import Diverged, evaluate
from dyadnet.train.run import Request, describe, execute, read_request, restored, step_cost
from dyadnet.train.timing import interleaved, ratio

WALL_CLOCK = {"seconds", "step_ms", "environment"}
Make = Callable[..., Request]


def timeless(value: Any) -> Any:
    """A record or its metrics without what depends on the clock."""
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key not in WALL_CLOCK}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def left(path: Path) -> tuple[Any, Any]:
    """The numbers that a run has left: those of its epochs, and its record."""
    lines = (path / folder.METRICS).read_text().splitlines()
    return timeless([json.loads(line) for line in lines]), timeless(folder.read_json(path / folder.RESULT))


def run(request: Request, path: Path, dataset: Dataset, **options: Any) -> Path:
    if not path.exists():
        folder.create(path, request.config())
    execute(request, path, dataset, **options)
    return path


def interrupt_at(number: int) -> Callable[..., None]:
    """A tick that interrupts at its n-th call: 1 and 2 fall into the first epoch, 3 into the midst of the second."""
    ticks = iter(range(1, number + 1))

    def tick(step: int, steps: int, loss: float) -> None:
        if next(ticks) == number:
            raise KeyboardInterrupt

    return tick


@pytest.mark.parametrize(
    ("at", "changes"),
    [
        (1, {"rule": "backprop"}),
        (3, {"rule": "dual-propagation:schedule=random-order", "carry_states": True}),
        (3, {"optimizer": "adam:fused=true", "warmup_epochs": 1.5, "clip": 0.5, "bf16": True}),
        (3, {"optimizer": "sgd:momentum=0.9,nesterov=true", "normalise": True, "align_every": 2}),
        (4, {"optimizer": "adafactor"}),
        (3, {"rule": "dyadic", "order": "random-order", "iterations": 4, "carry_states": True, "align_every": 0}),
        (3, {"rule": "equilibrium-propagation:variant=random-sign", "lam": 0.6}),
        (
            2,
            {"rule": "dyadic:beta=0.2", "network": "dense", "structure": "interpolated", "lam": 0.3, "tolerance": 1e-2},
        ),
    ],
)
def test_an_interrupted_run_ends_where_an_unbroken_one_does(
    tmp_path: Path, dataset: Dataset, request_for: Make, at: int, changes: dict[str, Any]
):
    request = request_for(**changes)
    unbroken = run(request, tmp_path / "unbroken", dataset)
    with pytest.raises(KeyboardInterrupt):
        run(request, tmp_path / "broken", dataset, tick=interrupt_at(at))
    assert not (tmp_path / "broken" / folder.RESULT).exists()
    torch.manual_seed(99)  # nothing may hang on what another process drew
    assert left(run(request, tmp_path / "broken", dataset)) == left(unbroken)


def test_augmentation_resumes_too(tmp_path: Path, images: Dataset, request_for: Make):
    request = request_for(augment=True, batch_size=20)
    with pytest.raises(KeyboardInterrupt):
        run(request, tmp_path / "broken", images, tick=interrupt_at(2))
    broken = run(request, tmp_path / "broken", images)
    assert left(broken) == left(run(request, tmp_path / "unbroken", images))


@pytest.fixture(scope="module")
def three(request_for: Make) -> Request:
    """A run of three epochs."""
    return request_for(epochs=3)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset, three: Request) -> Any:
    """The numbers of that run, never interrupted."""
    return left(run(three, tmp_path_factory.mktemp("runs") / "unbroken", dataset))


def test_a_kill_between_checkpoint_and_metrics_is_made_good(
    tmp_path: Path, dataset: Dataset, three: Request, unbroken: Any, monkeypatch: pytest.MonkeyPatch
):
    def killed(path: Path, metrics: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(folder, "append_metrics", killed)
    with pytest.raises(KeyboardInterrupt):
        run(three, tmp_path / "broken", dataset)
    monkeypatch.undo()
    assert left(run(three, tmp_path / "broken", dataset)) == unbroken


@pytest.fixture
def broken(tmp_path: Path, dataset: Dataset, three: Request) -> Path:
    """The same run, interrupted in the midst of its last epoch."""
    with pytest.raises(KeyboardInterrupt):
        run(three, tmp_path / "broken", dataset, tick=interrupt_at(5))
    return tmp_path / "broken"


def test_a_kill_between_the_renames_of_a_checkpoint_is_made_good(
    broken: Path, dataset: Dataset, three: Request, unbroken: Any
):
    os.replace(broken / checkpoint.NAME, broken / checkpoint.PREVIOUS)
    assert left(run(three, broken, dataset)) == unbroken


def test_the_previous_checkpoint_leads_to_the_same_numbers(
    broken: Path, dataset: Dataset, three: Request, unbroken: Any
):
    (broken / checkpoint.NAME).write_bytes(b"damaged")
    with pytest.raises(RequestError, match="corrupt"):
        run(three, broken, dataset)
    heard: list[int] = []
    run(
        three,
        broken,
        dataset,
        watch=lambda metrics: heard.append(metrics["epoch"]),
        from_checkpoint=checkpoint.PREVIOUS,
    )
    assert left(broken) == unbroken
    assert heard == [1, 2, 3]  # the watch hears where a resumed run stands
    assert len(checkpoint.load(broken, checkpoint.PREVIOUS)["history"]) == 2


def test_a_run_folder_holds_what_the_design_says_and_nothing_else(tmp_path: Path, dataset: Dataset, request_for: Make):
    path = run(request_for(), tmp_path / "run", dataset)
    names = {"config.json", "metrics.jsonl", "checkpoint.pt", "checkpoint.previous.pt", "result.json"}
    assert {item.name for item in path.iterdir()} == names
    assert read_request(path) == request_for()
    metrics, record = left(path)
    assert record["history"] == metrics
    assert record["network"] == "8-12-3"
    assert {key: record[key] for key in ("rule", "dataset", "seed", "epochs")} == {
        "rule": "dual-propagation",
        "dataset": "digits",  # what the settings say; here they are given another data set
        "seed": 0,
        "epochs": 2,
    }
    assert record["test_accuracy"] == metrics[-1]["test_accuracy"]
    assert len(record["alignment"]) == 2
    assert record["relaxation"].keys() == {"iterations", "residual", "converged"}
    found = evaluate(restored(request_for(), path, dataset))
    assert found == {"accuracy": metrics[-1]["test_accuracy"], "loss": metrics[-1]["test_loss"]}


def test_a_record_holds_how_settled_the_last_epoch_was(tmp_path: Path, dataset: Dataset, request_for: Make):
    request = request_for("equilibrium-propagation", lam=0.75)
    metrics, record = left(run(request, tmp_path / "run", dataset))
    relaxation, last = record["relaxation"], metrics[-1]
    assert {name: relaxation[name] for name in ("iterations", "residual", "unconverged")} == {
        name: last[name] for name in ("iterations", "residual", "unconverged")
    }
    assert relaxation["converged"] is (last["unconverged"] == 0)
    assert len(relaxation["trace"]) == len(relaxation["energy"]) > 2
    assert record["network"] == "8-12-3, lam 0.75"
    assert record["chosen"] == {
        "network": "hopfield",
        "lam": 0.75,
        "activation": "hard-sigmoid",
        "init": "torch",
        "loss": "squared-error",
        "order": "odd-even",
        "solver": "over-relaxed:iterations=12,margin=1.05",
        "tolerance": 1e-3,
        "most_passes": 200,
    }
    W = torch.tensor(record["connectivity"]["weights"])
    assert W.shape == (15, 15)
    torch.testing.assert_close(W[:12, 12:], 0.5 * W[12:, :12].T, rtol=0.02, atol=0)  # c = 2 lam - 1
    found = evaluate(restored(request, tmp_path / "run", dataset))
    assert found == {name: last[f"test_{name}"] for name in ("accuracy", "loss", "unconverged")}


def test_a_run_that_never_settles_says_so(tmp_path: Path, dataset: Dataset, request_for: Make):
    _, record = left(run(request_for("dyadic", iterations=1, epochs=1), tmp_path / "run", dataset))
    assert (record["relaxation"]["converged"], record["relaxation"]["unconverged"]) == (False, 1)
    assert record["relaxation"]["residual"] is None  # one pass from silence has nothing to be compared with


def test_a_run_without_feedback_has_no_picture_of_it(tmp_path: Path, dataset: Dataset, request_for: Make):
    for rule in ("backprop", "dyadic"):
        _, record = left(run(request_for(rule, network="mlp", epochs=1), tmp_path / rule, dataset))
        assert record["connectivity"] is None
        assert "trace" not in record["relaxation"]
        assert ("unconverged" in record["relaxation"]) == (rule == "dyadic")  # which relaxes all the same


def test_with_held_out_samples_the_epoch_that_is_best_on_them_is_the_result(
    tmp_path: Path, dataset: Dataset, request_for: Make
):
    request = request_for(epochs=4, validation=0.25, learning_rate=0.02)
    path = run(request, tmp_path / "held-out", hold_out(dataset, 0.25))
    metrics, record = left(path)
    accuracies = [epoch["validation_accuracy"] for epoch in metrics]
    assert record["test_accuracy"] == metrics[accuracies.index(max(accuracies))]["test_accuracy"]


def test_a_diverged_run_names_its_last_good_checkpoint(
    tmp_path: Path, dataset: Dataset, request_for: Make, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(loop, "rate_factor", lambda settings, steps: lambda step: 1.0 if step < steps else 1e30)
    request = request_for(optimizer="sgd")
    path = tmp_path / "run"
    with pytest.raises(Diverged, match=r"seed 0: the .*loss became .* epoch 2.*run/checkpoint\.pt \(after epoch 1\)"):
        run(request, path, dataset)
    training = restored(request, path, dataset)
    assert len(training.history) == 1
    assert evaluate(training)["loss"] == training.history[-1]["test_loss"]


def test_a_run_that_diverges_at_once_has_no_checkpoint_to_name(tmp_path: Path, dataset: Dataset, request_for: Make):
    request = request_for(optimizer="sgd", learning_rate=1e30, decay="constant", loss="squared-error")
    with pytest.raises(Diverged, match="no checkpoint of an earlier epoch"):
        run(request, tmp_path / "run", dataset)
    assert {item.name for item in (tmp_path / "run").iterdir()} == {folder.CONFIG, folder.METRICS}


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path, dataset: Dataset, request_for: Make):
    path = run(request_for(epochs=1), tmp_path / "run", dataset)
    with pytest.raises(RequestError, match=r"does not fit the run that its config\.json describes"):
        restored(request_for(hidden=(7,)), path, dataset)
    checkpoint.save(path, {"model": {}})
    with pytest.raises(RequestError, match="does not fit"):
        restored(request_for(), path, dataset)


@pytest.mark.parametrize(
    "damage",
    [
        {"seed": "0"},
        {"seed": -1},
        {"seed": None},
        {"rule": "hebb"},
        {"rule": 5},
        {"settings": []},
        {"settings": {"epochs": "3"}},
        {"settings": {"epoch": 3}},
        {"command": "compare"},
    ],
)
def test_a_damaged_configuration_is_refused(tmp_path: Path, request_for: Make, damage: dict[str, Any]):
    folder.create(tmp_path, request_for().config())
    folder.write_json(tmp_path / folder.CONFIG, request_for().config() | damage)
    with pytest.raises(RequestError, match=r"is not a run's configuration: |is a comparison"):
        read_request(tmp_path)


def test_a_configuration_without_its_parts_is_refused(tmp_path: Path, request_for: Make):
    config = request_for().config()
    del config["rule"]
    folder.create(tmp_path, config)
    with pytest.raises(RequestError, match="not a run's configuration"):
        read_request(tmp_path)


def test_scalars_are_written_where_that_is_asked_for(tmp_path: Path, dataset: Dataset, request_for: Make):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    request = request_for(tensorboard=True)
    with pytest.raises(KeyboardInterrupt):
        run(request, tmp_path / "run", dataset, tick=interrupt_at(3))
    path = run(request, tmp_path / "run", dataset)
    events = accumulator.EventAccumulator(str(path)).Reload().Scalars("test_accuracy")
    assert [event.step for event in events] == [1, 2]
    assert [event.value for event in events] == pytest.approx([m["test_accuracy"] for m in left(path)[0]])
    folder.check(path, overwrite=True)


def test_a_step_is_timed_in_turn_with_one_of_backpropagation(training_for: Any, monkeypatch: pytest.MonkeyPatch):
    used: list[str] = []
    clock = itertools.count()  # a call takes a second

    def seen(training: Any, x: Any, y: Any) -> None:
        used.append(type(training.rule).__name__)
        if training.rule != Backprop():
            next(clock)

    def told() -> float:
        return float(next(clock))

    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=told, process_time=told))
    monkeypatch.setattr("dyadnet.train.run.step", seen)
    assert step_cost(training_for(), rounds=3) == (2000.0, 2.0)  # ours took one more
    assert used.count("Backprop") == used.count("DualPropagation") == 5


def weights(training: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in training.net.parameters()])


@pytest.mark.parametrize(("lam", "rule"), [(0.0, "dyadic"), (1.0, "contrastive-hebbian"), (0.5, "dyadic")])
def test_a_network_with_feedback_is_timed_beside_the_chain_of_its_maps(
    training_for: Any, monkeypatch: pytest.MonkeyPatch, lam: float, rule: str
):
    used: list[tuple[str, float]] = []
    network = "mlp" if lam == 0.5 else "hopfield"
    training = training_for(rule, network=network, lam=lam)
    before = weights(training)

    def seen(training: Any, x: Any, y: Any) -> None:
        used.append((type(training.rule).__name__, training.net.gain))
        loop.step(training, x, y)

    monkeypatch.setattr("dyadnet.train.run.step", seen)
    ms, share = step_cost(training, rounds=1)
    assert ms > 0
    assert share is not None
    assert set(used) == {(type(training.rule).__name__, 2 * lam - 1), ("Backprop", 0)}
    assert not torch.equal(weights(training), before)  # the chain is of the same parameters


def test_a_dense_network_has_no_chain_to_be_compared_with(training_for: Any):
    ms, share = step_cost(training_for("dyadic", network="dense"), rounds=1)
    assert ms > 0
    assert share is None


def test_actions_take_turns_in_both_orders():
    order: list[str] = []
    times = interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=2, warmup=1)
    assert "".join(order) in ("abbaab", "baabba")
    assert {name: len(taken) for name, taken in times.items()} == {"a": 2, "b": 2}


def test_the_ratio_is_the_median_of_pairs():
    assert ratio([1.0, 6.0, 100.0], [1.0, 3.0, 1.0]) == 2.0


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({}, "64-12-3"),
        ({"network": "hopfield", "lam": 0.5}, "64-12-3"),
        ({"network": "mlp", "lam": 0.25, "hidden": (5, 4)}, "64-5-4-3, lam 0.25"),
        ({"network": "cnn"}, "cnn (4 stages)"),
        ({"network": "cnn", "lam": 1.0}, "cnn (4 stages), lam 1"),
        ({"network": "dense", "hidden": (5, 4)}, "dense 64-9-3, free"),
        ({"network": "dense", "structure": "interpolated", "lam": 0.25}, "dense 64-12-3, interpolated, lam 0.25"),
    ],
)
def test_a_network_is_described_by_its_widths_and_its_feedback(
    training_for: Any, images: Dataset, given: dict[str, Any], name: str
):
    rule = "dyadic" if given.get("network") in ("dense", "hopfield") else "dual-propagation"
    assert describe(training_for(rule, on=images, **given)) == name


def test_a_run_that_another_process_works_at_is_left_alone(tmp_path: Path, dataset: Dataset, three: Request):
    """Be it on its own or one of a comparison."""
    path = run(three, tmp_path / "run", dataset)
    before = left(path)
    with folder.alone(path), pytest.raises(RequestError, match="another process is at work"):
        execute(three, path, dataset)
    assert left(path) == before
