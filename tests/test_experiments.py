"""The experiments run from the command line: the VGG16 protocol on a small network and a subset."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def cifar(tmp_path: Path) -> Path:
    """Blobs of colour of the shape of CIFAR-10, in an archive of one's own arrays."""
    archive = tmp_path / "cifar.npz"
    random = np.random.default_rng(0)
    colours = random.integers(60, 200, (10, 3, 1, 1))

    def split(count: int) -> tuple[np.ndarray, np.ndarray]:
        y = np.arange(count) % 10
        noise = random.integers(-50, 50, (count, 3, 32, 32))
        return (colours[y] + noise).clip(0, 255).astype(np.uint8), y

    x_train, y_train = split(250)
    x_test, y_test = split(100)
    np.savez(archive, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return archive


def run(tmp_path: Path, script: str, *arguments: object) -> None:
    """Run a script with the experiments at hand, which stores below a temporary folder."""
    head = "import sys; sys.path.insert(0, sys.argv[1]); import common; from pathlib import Path;"
    head += "common.RESULTS = Path('results');"
    command = [sys.executable, "-c", head + script, str(ROOT / "experiments"), *map(str, arguments)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_protocol_of_the_cifar_experiment_trains_a_small_network(cifar: Path, tmp_path: Path):
    script = (
        "import cifar10_vgg16 as e; from dataclasses import replace;"
        "e.SMOKE = replace(e.SMOKE, dataset=sys.argv[2], train_samples=250, test_samples=100, batch_size=25);"
        "e.main(e.Experiment(smoke=True, seeds=(0,), rules=('backprop', 'dual-propagation:alpha=0,beta=0.1')))"
    )
    run(tmp_path, script, cifar)
    records = json.loads((tmp_path / "results" / "cifar10-smoke.json").read_text())["records"]
    assert [record["rule"] for record in records] == ["backprop", "dual-propagation:alpha=0,beta=0.1"]
    assert min(record["test_accuracy"] for record in records) > 0.3  # chance is 0.1
    assert all("validation_accuracy" in epoch for record in records for epoch in record["history"])


def test_resistive_networks_are_trained_and_their_gain_is_chosen(cifar: Path, tmp_path: Path):
    script = (
        "import resistive as e; from dataclasses import replace;"
        "e.SETTINGS = replace(e.SETTINGS, dataset=sys.argv[2], hidden=(10,), epochs=1); e.GAINS = (5,); e.SHORT = 200;"
        "e.RULES = ('backprop', 'equilibrium-propagation:beta=0.01');"
        "e.main(e.Experiment()); e.main(e.Experiment(which='tuning'))"
    )
    run(tmp_path, script, cifar)
    stored = [
        json.loads((tmp_path / "results" / f"mnist-resistive{part}.json").read_text()) for part in ("", "-tuning")
    ]
    assert [record["rule"] for record in stored[0]["records"]] == ["backprop", "equilibrium-propagation:beta=0.01"]
    assert [record["label"] for record in stored[1]["records"]] == ["input gain 5"]


def test_the_protocol_of_binary_weights_trains_a_small_network(cifar: Path, tmp_path: Path):
    script = (
        "import binary_cifar as e;"
        "e.SMOKE.update(dataset=sys.argv[2], train_samples=250, test_samples=100, batch_size=25);"
        "e.main(e.Experiment(smoke=True, seeds=(0,), only=('AdaSTE', 'AdaSTE, published loop')))"
    )
    run(tmp_path, script, cifar)
    records = json.loads((tmp_path / "results" / "binary-smoke.json").read_text())["records"]
    assert [record["rule"] for record in records] == ["backprop", "dual-propagation"] * 2
    assert max(record["test_accuracy"] for record in records) > 0.3  # chance is 0.1


def test_methods_for_binary_weights_train_at_the_rates_that_their_tuning_chose(cifar: Path, tmp_path: Path):
    script = (
        "import binary as e; e.DATA['mnist']['dataset'] = sys.argv[2]; e.RESULTS = common.RESULTS;"
        "e.USUAL = (1e-9, 1e-2); e.THRESHOLDS = (1e9, 1e-6);"
        "shared = dict(seeds=(0,), epochs=1, only=('AdaSTE', 'Bop'));"
        "e.main(e.Experiment(which='tune-mnist', **shared)); e.main(e.Experiment(which='mnist', **shared))"
    )
    run(tmp_path, script, cifar)
    stored = json.loads((tmp_path / "results" / "mnist-binary.json").read_text())
    rates = {record["label"]: record["history"][0]["learning_rate"] for record in stored["records"]}
    assert rates["AdaSTE"] == 1e-2
    assert stored["settings"]["binary"] == "bop:threshold=1e-06"
    assert [record["rule"] for record in stored["records"]] == ["backprop", "dual-propagation"] * 2


def test_lines_of_a_table_that_are_run_later_leave_those_that_are_there(tmp_path: Path):
    script = (
        "from dyadnet.train.compare import Comparison; from dyadnet.train.settings import Settings;"
        "record = lambda seed: {'environment': {'commit': '0'}, 'rule': 'backprop', 'seed': seed};"
        "common.trained = lambda path, comparison: [record(seed) for seed in comparison.seeds];"
        "of = lambda *seeds: Comparison(('backprop',), seeds, Settings());"
        "common.run_all('t', {'a': of(0, 1), 'b': of(0)});"
        "common.run_all('t', {'c': of(2), 'a': of(3)})"
    )
    run(tmp_path, script)
    stored = json.loads((tmp_path / "results" / "t.json").read_text())
    assert [(record["label"], record["seed"]) for record in stored["records"]] == [("a", 3), ("b", 0), ("c", 2)]
    assert stored["seeds"] == [0, 2, 3]
