"""The command line from outside: killed processes, refused requests, and what a stranger sees."""

import hashlib
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dyadnet import cli, facts, names, progress
from dyadnet.train import checkpoint, folder

CLOCK = {"seconds", "step_ms", "step_ratio_to_backprop", "environment"}
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "TERM": "xterm-256color"}
KILLS: dict[str, tuple[int, list[str]]] = {  # at which tick, two an epoch, the first in its midst
    "before-the-first-checkpoint": (1, ["train", "--rule", "backprop"]),
    "random-order": (3, ["train", "--rule", "dual-propagation:schedule=random-order", "--carry-states"]),
    "feedback": (3, ["train", "--rule", "dyadic", "--lam", "0.25", "--tolerance", "0.01"]),
    "second-run": (7, ["compare", "--rules", "backprop", "dual-propagation:alpha=0", "--seeds", "5"]),
}
# Importing takes longer than training: one process forks them all.
KILLED = """
import itertools, json, os, signal, sys
from dyadnet import cli, facts, progress
for at, words in json.loads(sys.argv[1]):
    child = os.fork()
    if child == 0:
        calls = itertools.count(1)
        def tick(*ignored):
            if next(calls) == at:
                os.kill(os.getpid(), signal.SIGKILL)
        progress.Watcher.tick = tick
        os._exit(cli.main(words))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
Outcome = tuple[int, str, str]
Run = Callable[..., Outcome]


@pytest.fixture(scope="session")
def arrays() -> dict[str, np.ndarray]:
    """Three noisy patterns of 8 numbers: 104 to train on, 30 to test on."""
    random = np.random.default_rng(0)
    labels = np.arange(134) % 3
    samples = (random.integers(0, 2, (3, 8))[labels] + 0.1 * random.normal(size=(134, 8))).astype(np.float32)
    return {"x_train": samples[:104], "y_train": labels[:104], "x_test": samples[104:], "y_test": labels[104:]}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, np.ndarray]) -> list[str]:
    """Options of a run of a second: two ticks an epoch, the first in its midst."""
    path = tmp_path_factory.mktemp("data") / "tiny.npz"
    np.savez(path, **arrays)
    return f"--dataset {path} --hidden 6 --batch-size 4 --epochs 2 --align-samples 20".split()


@pytest.fixture(autouse=True)
def short_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page takes a second; `finished` and the runs in processes of their own have a real one."""
    monkeypatch.setattr("dyadnet.report.write_report", lambda path, *ignored: path.write_text("report") and path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process; return its exit code and what it printed."""

    def call(*words: Any) -> Outcome:
        code = cli.main([str(word) for word in words])
        return code, *capsys.readouterr()

    return call


def refused(outcome: Outcome) -> str:
    """The one line of a request that was refused."""
    code, out, told = outcome
    assert (code, out) == (2, "")
    assert told.startswith("dyadnet: ")
    assert told.count("\n") == 1
    assert "Traceback" not in told
    return told


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key not in CLOCK}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def numbers(path: Path) -> dict[str, Any]:
    """All numbers below a folder that do not depend on the clock."""
    found: dict[str, Any] = {}
    for file in [*path.rglob(folder.METRICS), *path.rglob(folder.RESULT), *path.rglob(folder.COMPARISON)]:
        text = file.read_text()
        lines = text.splitlines() if file.name == folder.METRICS else [text]
        found[str(file.relative_to(path))] = timeless([json.loads(line) for line in lines])
    return found


def digest(path: Path) -> dict[str, str]:
    files = (item for item in path.rglob("*") if item.is_file())
    return {str(item.relative_to(path)): hashlib.sha256(item.read_bytes()).hexdigest() for item in files}


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, tiny: list[str]) -> Path:
    """A folder of runs and comparisons, each killed in the middle of an epoch by `kill -9`."""
    path = tmp_path_factory.mktemp("killed")
    jobs = [(at, [*words, *tiny, "--out", str(path / name)]) for name, (at, words) in KILLS.items()]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, json.dumps(jobs)], env=ENVIRONMENT, capture_output=True, text=True, timeout=120
    )
    assert (done.stdout.split(), done.stderr) == ([str(-signal.SIGKILL)] * len(jobs), "")
    return path


@pytest.mark.parametrize("name", KILLS)
def test_kill_9_in_the_middle_of_an_epoch_changes_no_number(
    tmp_path: Path, killed: Path, tiny: list[str], run: Run, name: str
):
    assert not (killed / name / folder.REPORT).exists()
    assert run("resume", killed / name)[0] == 0
    assert run(*KILLS[name][1], *tiny, "--out", tmp_path / "unbroken")[0] == 0
    assert numbers(killed / name) == numbers(tmp_path / "unbroken") != {}
    assert digest(killed / name).keys() == digest(tmp_path / "unbroken").keys()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny: list[str]) -> Path:
    """A run of two epochs, for tests that must not change it."""
    path = tmp_path_factory.mktemp("runs") / "finished"
    assert cli.main(["train", *tiny, "--out", str(path)]) == 0
    return path


def copied(source: Path, target: Path) -> Path:
    target.mkdir()
    for item in source.iterdir():
        (target / item.name).write_bytes(item.read_bytes())
    return target


def test_a_run_is_written_reported_and_measured_again(finished: Path, run: Run):
    names = {"config.json", "metrics.jsonl", "checkpoint.pt", "checkpoint.previous.pt", "result.json", "report.html"}
    assert {item.name for item in finished.iterdir()} == names
    last = json.loads((finished / folder.METRICS).read_text().splitlines()[-1])
    code, out, err = run("evaluate", finished)
    assert (code, err) == (0, "")
    assert out.startswith("dual-propagation after epoch 2 on 30 test samples of ")
    assert out.endswith(f"accuracy {100 * last['test_accuracy']:.2f} %, loss {last['test_loss']:.4f}\n")
    assert "after epoch 1 on" in run("evaluate", finished, "--checkpoint", checkpoint.PREVIOUS)[1]


def test_a_comparison_says_where_its_report_is(tmp_path: Path, tiny: list[str], run: Run):
    out = tmp_path / "comparison"
    code, told, err = run(
        "compare", "--rules", "backprop", "lagrangian", "--seeds", 1, *tiny, "--epochs", 1, "--out", out
    )
    assert (code, err) == (0, "")
    assert told.rstrip().endswith(f"report: {out / folder.REPORT}")
    assert all(len(line) <= 100 for line in told.splitlines()[:-1])
    assert "lagrangian" in told
    assert {item.name for item in out.iterdir() if item.is_file()} == {"config.json", "compare.json", "report.html"}
    assert {item.name for item in out.iterdir() if item.is_dir()} == {"backprop-seed-1", "lagrangian-seed-1"}
    assert "name one of its runs: backprop-seed-1, lagrangian-seed-1" in refused(run("evaluate", out))
    assert "is finished" in refused(run("resume", out))
    assert "name the run in it" in refused(run("resume", out, "--checkpoint", checkpoint.PREVIOUS))
    assert "a finished run" in refused(run("compare", *tiny, "--out", out))


def test_an_audit_writes_the_table_of_the_thesis(tmp_path: Path, tiny: list[str], run: Run):
    out, rules = tmp_path / "audit", ["backprop", "dual-propagation:beta=0.05", "direct-feedback-alignment"]
    data_options = tiny[tiny.index("--dataset") : tiny.index("--dataset") + 2]
    code, told, err = run("audit", "--rules", *rules, *data_options, "--hidden", 6, 5, "--out", out)
    assert (code, err) == (0, "")
    assert "along no synapse" in told
    records = json.loads((out / folder.AUDIT).read_text())
    assert [record["rule"] for record in records] == rules
    keys = ("spatially_local", "temporally_local", "avoids_derivative", "weight_transport", "phases")
    assert [[record[key] for key in keys] for record in records] == [
        [True, False, False, "training", ["activities", "errors"]],
        [True, True, True, "training", ["nudged"]],
        [False, True, False, "none", ["nudged"]],
    ]
    assert "broadcast: " in (out / folder.REPORT).read_text()
    assert "a finished run" in refused(run("audit", "--rules", rules[0], *data_options, "--out", out))
    assert "there is no rule 'x'" in refused(run("audit", "--rules", "x", "--out", tmp_path / "other"))
    assert "run it again" in refused(run("resume", out))
    assert "an audit needs at least one rule" in refused(run("audit", "--rules", "--out", tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_a_comparison_says_what_does_not_count_for_whom(tmp_path: Path, tiny: list[str], run: Run):
    options = ["--binary", "ste", "--tolerance", 1e-2, "--seeds", 1, *tiny, "--epochs", 1]
    code, told, err = run("compare", "--rules", "backprop", "dyadic", *options, "--out", tmp_path / "comparison")
    assert (code, err) == (0, "")
    notes = [line for line in told.splitlines() if line.startswith("note: ")]
    assert notes == [
        "note: dyadic runs without binary, which is for feedforward networks, which dyadic does not train here"
    ]


def test_a_comparison_can_hold_an_audit(tmp_path: Path, tiny: list[str], run: Run):
    out = tmp_path / "comparison"
    code, _, err = run("compare", "--audit", "--rules", "backprop", "--seeds", 1, *tiny, "--epochs", 1, "--out", out)
    assert (code, err) == (0, "")
    found = json.loads((out / "compare.json").read_text())[0]["audit"]
    assert (found["rule"], found["spatially_local"], found["avoids_derivative"]) == ("backprop", True, False)


def test_a_network_with_feedback_is_trained_compared_and_measured(tmp_path: Path, tiny: list[str], run: Run):
    out = tmp_path / "comparison"
    rules = ["backprop", "dyadic", "contrastive-hebbian"]
    code, told, err = run("compare", "--rules", *rules, "--seeds", 1, *tiny, "--tolerance", 1e-2, "--out", out)
    assert (code, err) == (0, "")
    assert all(len(line) <= 100 for line in told.splitlines()[:-1])
    assert "3 networks" in told
    assert "tled %" in told
    code, told, err = run("evaluate", out / "dyadic-seed-1")
    assert (code, err) == (0, "")
    assert re.search(r"accuracy \d+\.\d\d %, loss \d\.\d{4}, (0|\d+\.\d|<0\.1) % unsettled\n$", told)
    assert "unsettled" not in run("evaluate", out / "backprop-seed-1")[1]


def test_the_report_says_what_was_chosen(tmp_path: Path, tiny: list[str], run: Run, monkeypatch: pytest.MonkeyPatch):
    shown: dict[str, Any] = {}

    def keep(path: Path, title: str, records: Any, environment: Any, settings: dict[str, Any]) -> Path:
        shown.update(settings)
        return path

    monkeypatch.setattr("dyadnet.report.write_report", keep)
    rules = ["backprop", "dyadic"]
    words = [*tiny, "--epochs", 1, "--activation", "tanh", "--out", tmp_path / "run"]
    assert run("compare", "--rules", *rules, "--seeds", 0, *words)[0] == 0
    assert (shown["network"], shown["lam"], shown["activation"]) == (["mlp", "hopfield"], [0.5, 0.0], "tanh")
    assert (shown["order"], shown["structure"], shown["clip"]) == (["odd-even"], None, None)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--rule hebb", "there is no rule 'hebb'"),
        ("--rule dual-propagation:beta=-1", "beta must be a positive number, not -1"),
        ("--rule dual-propagation:alpha=2", "alpha must lie in [0, 1], not 2"),
        ("--rule dual-propagation:gamma=2", "has no setting 'gamma'"),
        ("--rule lagrangian:schedule=bottom-up,passes=1", "needs 2 passes"),
        ("--optimizer sgd:momentum=abc", "momentum must be a number, not 'abc'"),
        ("--optimizer adan", "there is no optimizer 'adan'"),
        ("--epochs many", "--epochs takes INT"),
        ("--epochs 0", "epochs must be at least 1"),
        ("--epochz 3", "there is no option --epochz (did you mean --epochs?)"),
        ("--network rnn", "invalid choice 'rnn' for argument '--network'. Expected one of ('cnn', 'dense', 'hopfield'"),
        ("--network None", "--network takes {mlp,cnn,vgg,vgg16,resnet18,hopfield,lifted,dense,resistive}: "),
        ("--rule equilibrium-propagation --lam 0", "a layered network of lam=0 has no energy: take lam above 1/2"),
        ("--rule dyadic --network resistive", "layers that minimise an energy in common have no errors to learn from"),
        ("--rule lagrangian --network resistive", "a resistive network has an energy of its own"),
        ("--rule backprop --network hopfield", "lam=0 has loops, and this rule is for feedforward chains"),
        ("--rule dyadic --network dense --lam 0", "lam is for layered networks, and for the dense one of structure"),
        ("--rule dyadic --order up", "there is no order 'up'"),
        ("--rule dyadic --solver damped:factor=2", "the factor must lie in (0, 2)"),
        ("--rule dyadic --iterations 3 --most-passes 9", "leave most-passes out"),
        ("--order sweeps", "order is for rules that relax, which dual-propagation does not"),
        ("--network cnn", "convolutions need images (channels, height, width), but samples have shape (8,)"),
        ("--network vgg16 --dataset digits", "images of 8x8 are too small for 5 poolings"),
        ("--augment", "are no images"),
        ("--device abacus", "there is no device 'abacus' here; there is cpu"),
        ("--seed -1", "a seed must be a whole number between"),
        ("--dataset cifar11", "no data set is called 'cifar11'"),
        ("--dataset none.npz", "none.npz"),
        ("--dataset mnist --data-root nowhere", "nowhere"),
        ("--train-samples 1000", "asked for 1000 samples, choose 1 to 104"),
        ("--config none.toml", "none.toml cannot be read as TOML"),
    ],
)
def test_a_refused_request_loses_nothing(finished: Path, tiny: list[str], run: Run, words: str, told: str):
    before = digest(finished.parent)
    assert told in refused(run("train", *tiny, *words.split(), "--out", finished, "--overwrite"))
    new = finished.parent / "new"
    assert told in refused(run("train", *tiny, *words.split(), "--out", new))
    assert not new.exists()
    assert digest(finished.parent) == before


def damage(arrays: dict[str, np.ndarray], how: str, path: Path) -> None:
    """Write the arrays with one fault."""
    arrays = {name: array.copy() for name, array in arrays.items()}
    if how == "nan":
        arrays["x_train"][7, 2] = np.nan
    if how == "label":
        arrays["y_test"][4] = 3
    if how == "shape":
        arrays["x_test"] = arrays["x_test"][:, :-1]
    np.savez(path, **arrays)
    stored = bytearray(path.read_bytes())
    if how == "truncated":
        path.write_bytes(stored[: len(stored) // 2])
    if how == "altered":
        stored[1000] ^= 1
        path.write_bytes(stored)
    if how == "missing":
        path.unlink()


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("nan", "1 images hold NaN or infinity, the first is sample 7"),
        ("label", "sample 4 has label 3, labels must be 0 to 2"),
        ("shape", "make them alike"),
        ("truncated", "not a readable .npz file"),
        ("altered", "not a readable .npz file"),
        ("missing", "No such file"),
    ],
)
def test_faulty_data_are_refused_by_name(
    tmp_path: Path, finished: Path, arrays: dict[str, np.ndarray], run: Run, how: str, told: str
):
    path, before = tmp_path / "mine.npz", digest(finished)
    damage(arrays, how, path)
    for command in (["train", "--out", finished, "--overwrite"], ["compare", "--out", tmp_path / "new"], ["data"]):
        line = refused(run(*command, "--dataset", path))
        assert told in line
        assert "mine.npz" in line
    assert digest(finished) == before
    assert not (tmp_path / "new").exists()


def test_data_that_have_gone_can_be_named_anew(finished: Path, tmp_path: Path, run: Run):
    moved = copied(finished, tmp_path / "run")
    config = json.loads((moved / folder.CONFIG).read_text())
    config["settings"]["dataset"] = "mnist"
    folder.write_json(moved / folder.CONFIG, config)
    assert "elsewhere" in refused(run("evaluate", moved, "--data-root", tmp_path / "elsewhere"))


def test_a_folder_that_is_taken_is_refused_and_kept(finished: Path, tmp_path: Path, tiny: list[str], run: Run):
    before = digest(finished)
    assert "already holds a finished run" in refused(run("train", *tiny, "--out", finished))
    assert "is finished" in refused(run("resume", finished))
    unfinished = copied(finished, tmp_path / "unfinished")
    (unfinished / folder.RESULT).unlink()
    assert f"dyadnet resume {unfinished} goes on with it" in refused(run("train", *tiny, "--out", unfinished))
    foreign = copied(finished, tmp_path / "foreign")
    (foreign / "thesis.tex").write_text("mine")
    assert "thesis.tex" in refused(run("train", *tiny, "--out", foreign, "--overwrite"))
    assert digest(finished) == before
    assert digest(foreign).items() >= before.items()


def test_a_run_is_overwritten_only_when_asked(finished: Path, tmp_path: Path, tiny: list[str], run: Run):
    path = copied(finished, tmp_path / "run")
    assert run("train", *tiny, "--rule", "backprop", "--epochs", 1, "--out", path, "--overwrite")[0] == 0
    assert folder.read_json(path / folder.RESULT)["rule"] == "backprop"
    assert not (path / checkpoint.PREVIOUS).exists()


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path, tiny: list[str], run: Run):
    (tmp_path / "file").touch()
    assert "cannot be written" in refused(run("train", *tiny, "--out", tmp_path / "file" / "run"))
    assert "is a file" in refused(run("compare", *tiny, "--out", tmp_path / "file"))


@pytest.mark.parametrize("command", ["resume", "evaluate"])
def test_what_holds_no_sound_run_is_refused(finished: Path, tmp_path: Path, run: Run, command: str):
    assert "there is no" in refused(run(command, tmp_path / "nowhere"))
    assert "holds no run" in refused(run(command, tmp_path))
    path = copied(finished, tmp_path / "run")
    (path / folder.RESULT).unlink()
    for config in ("", "{", "[]", '{"command": "train", "settings": {}}', '{"command": "fly", "settings": {}}'):
        (path / folder.CONFIG).write_text(config)
        assert folder.CONFIG in refused(run(command, path))


def test_a_run_without_a_checkpoint_is_not_measured(finished: Path, tmp_path: Path, run: Run):
    path = copied(finished, tmp_path / "run")
    for name in (checkpoint.NAME, checkpoint.PREVIOUS):
        (path / name).unlink()
    assert "has no checkpoint yet; dyadnet resume" in refused(run("evaluate", path))


def test_a_corrupt_checkpoint_is_kept_and_the_previous_one_leads_on(finished: Path, tmp_path: Path, run: Run):
    path = copied(finished, tmp_path / "run")
    for name in (folder.RESULT, folder.REPORT):
        (path / name).unlink()
    sound = (path / checkpoint.NAME).read_bytes()
    altered = bytearray(sound)
    altered[len(sound) // 2] ^= 1
    for content in (sound[:1000], bytes(altered), b"no archive"):
        (path / checkpoint.NAME).write_bytes(content)
        for command in ("resume", "evaluate"):
            line = refused(run(command, path))
            assert "checkpoint.pt is corrupt; the previous one is kept and sound" in line
            assert f"take it with --checkpoint {checkpoint.PREVIOUS}, for resume, evaluate or export of {path}" in line
        assert run("evaluate", path, "--checkpoint", checkpoint.PREVIOUS)[0] == 0
        assert (path / checkpoint.NAME).read_bytes() == content
    assert run("resume", path, "--checkpoint", checkpoint.PREVIOUS)[0] == 0
    assert numbers(path) == numbers(finished)


def test_a_run_killed_before_its_report_gets_it_on_resuming(finished: Path, tmp_path: Path, run: Run):
    path = copied(finished, tmp_path / "run")
    (path / folder.REPORT).unlink()
    assert run("resume", path)[0] == 0
    assert (path / folder.REPORT).exists()
    assert numbers(path) == numbers(finished)


def test_a_diverging_loss_fails_with_the_epoch(tmp_path: Path, tiny: list[str], run: Run):
    words = ["--optimizer", "sgd", "--learning-rate", "1e30", "--decay", "constant", "--loss", "squared-error"]
    code, out, told = run("train", *tiny, *words, "--out", tmp_path / "run")
    assert (code, out, told.count("\n")) == (1, "", 1)
    assert re.search(r"dual-propagation, seed 0: the loss became (nan|inf) in epoch 1.*no checkpoint", told)


def test_a_comparison_refuses_a_rule_named_twice(tmp_path: Path, tiny: list[str], run: Run):
    words = ["--rules", "dual-propagation", "dual-propagation:beta=0.1", "--out", tmp_path / "run"]
    assert "a rule is named twice" in refused(run("compare", *tiny, *words))


def test_an_interruption_is_one_line_that_says_how_to_go_on(
    tmp_path: Path, tiny: list[str], run: Run, monkeypatch: pytest.MonkeyPatch
):
    def interrupted(*ignored: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(progress.Watcher, "tick", interrupted)
    path = tmp_path / "my run"
    code, out, told = run("train", *tiny, "--out", path)
    assert (code, out) == (1, "")
    assert told == f"dyadnet: interrupted; dyadnet resume '{path}' goes on from the last finished epoch\n"
    monkeypatch.undo()
    assert run("resume", path)[0] == 0


def test_a_fault_of_ours_is_not_blamed_on_the_request(run: Run, monkeypatch: pytest.MonkeyPatch):
    def faulty() -> None:
        raise ValueError("unforeseen")

    monkeypatch.setattr(facts, "environment", faulty)
    code, _, told = run("info")
    assert (code, told) == (1, "dyadnet: ValueError: unforeseen (DYADNET_TRACEBACK=1 shows where)\n")
    monkeypatch.setenv("DYADNET_TRACEBACK", "1")
    with pytest.raises(ValueError, match="unforeseen"):
        run("info")


def test_options_can_come_from_a_file(finished: Path, tmp_path: Path, tiny: list[str], run: Run):
    (tmp_path / "run.toml").write_text(
        f'hidden = [6]\nepochs = 9\nbatch_size = 4\nalign_samples = 20\nout = "{tmp_path}/run"'
    )
    assert run("train", "--config", tmp_path / "run.toml", *tiny[:2], "--epochs", 2)[0] == 0
    assert numbers(tmp_path / "run") == numbers(finished)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_explains_itself_with_an_example(command: str, capsys: pytest.CaptureFixture[str]):
    assert cli.main([command, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert f"Example: dyadnet {command}" in out


def test_info_lists_what_can_be_named_without_heavy_imports():
    script = (
        "import sys; from dyadnet import cli; code = cli.main(['info'])\n"
        "print(*(name for name in ('plotly', 'sklearn', 'matplotlib', 'jinja2') if name in sys.modules))\n"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script], env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    *lines, imported = done.stdout.split("\n")[:-1]
    assert imported == ""
    assert set(names.RULES) <= set(lines)
    assert any("alpha=0.5" in line for line in lines)
    for told in (
        "networks:  mlp, cnn, vgg, vgg16, resnet18, hopfield, lifted, dense, resistive",
        "feedback:  random:scale=1.0,seed=0; sign",
    ):
        assert any(line.startswith(told) for line in lines)
    for told in (
        "binary:    adaste:alpha=10.0,mu=0.001",
        "terms:     gamma=0.1,regression=1.0",
        "circuit:   input_gain=100.0,gain=1.0",
        "orders:    sweeps, bottom-up, odd-even, parallel",
    ):
        assert any(line.startswith(told) for line in lines)
    assert any("damped:factor=0.5; over-relaxed" in line for line in lines)


def test_the_data_command_counts_the_samples(tiny: list[str], run: Run):
    code, out, err = run("data", *tiny[:2])
    assert (code, err) == (0, "")
    assert re.search(r"train\s+│ 104\s+│ 8\s+│ 34 to 35", out)
    assert re.search(r"test\s+│ 30\s+│ 8\s+│ 10", out)


def test_a_terminal_of_100_columns_shows_one_line_a_run(tmp_path: Path, tiny: list[str]):
    ours, theirs = pty.openpty()
    seen: list[bytes] = []

    def read() -> None:
        try:
            while chunk := os.read(ours, 4096):
                seen.append(chunk)
        except OSError:  # the other side has been closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    rule = "dual-propagation:alpha=0.5,beta=0.1,variant=original,schedule=random-order,passes=9"
    words = [
        "compare",
        "--rules",
        "backprop",
        rule,
        "--seeds",
        "0",
        *tiny,
        "--epochs",
        "3",
        "--out",
        str(tmp_path / "run"),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "dyadnet.cli", *words],
        env=ENVIRONMENT | {"COLUMNS": "100", "LINES": "40"},
        stdout=theirs,
        stderr=theirs,
        stdin=subprocess.DEVNULL,
        timeout=120,
    )
    os.close(theirs)
    reader.join(timeout=10)
    os.close(ours)
    text = b"".join(seen).decode()
    assert done.returncode == 0, text
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text))]
    assert max(len(line) for line in lines if "report" not in line) <= 100
    assert any("timing a step of every rule" in line for line in lines)
    finished = [line for line in lines if re.match(r"[12]/2 test \d+\.\d\d %  0:00:\d\d  seed 0  ", line)]
    assert [bool(re.search(r"backprop$|…\S*passes=9$", line)) for line in finished] == [True, True]


def test_letters_that_an_output_lacks_and_outputs_that_are_closed_are_no_failure(tmp_path: Path):
    command = [sys.executable, "-m", "dyadnet", "estimate"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode == 0
    assert b"on the resistive substrate" in done.stdout
    train = [
        *command[:3],
        "train",
        "--network",
        "cnn",
        "--dataset",
        "digits",
        "--train-samples",
        "100",
        "--hidden",
        "8",
    ]
    train += ["--epochs", "1", "--out", str(tmp_path / "run")]
    environment = os.environ | {"ONEDNN_VERBOSE": "1"}  # a library that prints to the first stream, whatever that is
    closed = subprocess.run(f"{shlex.join(train)} >&-", shell=True, capture_output=True, env=environment, check=False)
    assert (closed.returncode, closed.stderr) == (0, b"")
    assert folder.read_config(tmp_path / "run")["command"] == "train"
