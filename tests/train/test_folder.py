"""Run folders: what is in them, and that nothing of anybody else's is ever deleted."""

import json
from pathlib import Path
from typing import Any

import pytest

from dyadnet.names import RequestError
from dyadnet.train import folder

TRAIN: dict[str, Any] = {"command": "train", "settings": {}}


def content(path: Path) -> dict[str, bytes]:
    return {str(item.relative_to(path)): item.read_bytes() for item in path.rglob("*") if item.is_file()}


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A comparison with one run, both finished."""
    path = tmp_path / "old"
    folder.create(path, {"command": "compare", "settings": {}})
    folder.create(path / "backprop-seed-0", TRAIN)
    for place, name in ((path, folder.COMPARISON), (path / "backprop-seed-0", folder.RESULT)):
        folder.write_json(place / name, {})
    return path


def test_a_new_folder_is_made_with_its_parents(tmp_path: Path):
    folder.create(tmp_path / "a" / "b", TRAIN)
    assert content(tmp_path / "a" / "b").keys() == {folder.CONFIG}
    assert folder.read_config(tmp_path / "a" / "b") == TRAIN


def test_an_empty_folder_will_do(tmp_path: Path):
    folder.create(tmp_path, TRAIN)
    assert folder.is_run(tmp_path)


def test_a_kill_at_the_very_start_leaves_a_folder_that_will_do(tmp_path: Path):
    (tmp_path / (folder.CONFIG + ".tmp")).write_text('{"comm')
    folder.create(tmp_path, TRAIN)
    assert content(tmp_path).keys() == {folder.CONFIG}


def test_checking_changes_nothing(finished: Path, tmp_path: Path):
    before = content(tmp_path)
    folder.check(finished, overwrite=True)
    folder.check(tmp_path / "new")
    assert content(tmp_path) == before
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("foreign", ["notes.txt", "backprop-seed-0/notes.txt", "figures/a.png", ".hidden"])
def test_a_folder_with_anything_else_in_it_is_refused_and_kept(finished: Path, foreign: str, overwrite: bool):
    (finished / foreign).parent.mkdir(exist_ok=True)
    (finished / foreign).write_text("mine")
    before = content(finished)
    with pytest.raises(RequestError, match=foreign if overwrite else "holds"):
        folder.create(finished, TRAIN, overwrite=overwrite)
    assert content(finished) == before


@pytest.mark.parametrize("config", ['{"hidden_size": 8}', "{", "[]", '{"command": "rm", "settings": {}}'])
def test_the_configuration_of_another_program_does_not_make_a_run(tmp_path: Path, config: str):
    (tmp_path / folder.CONFIG).write_text(config)
    with pytest.raises(RequestError, match=rf"not a run's own \({folder.CONFIG}\)"):
        folder.create(tmp_path, TRAIN, overwrite=True)
    assert content(tmp_path) == {folder.CONFIG: config.encode()}


def test_a_link_to_a_folder_elsewhere_is_not_followed(finished: Path, tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (finished / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RequestError, match="link"):
        folder.create(finished, TRAIN, overwrite=True)


def test_a_finished_run_is_not_overwritten_unless_asked(finished: Path):
    before = content(finished)
    with pytest.raises(RequestError, match=r"a finished run; .*--overwrite"):
        folder.create(finished, TRAIN)
    assert content(finished) == before
    folder.create(finished, TRAIN, overwrite=True)
    assert content(finished).keys() == {folder.CONFIG}
    assert list(finished.iterdir()) == [finished / folder.CONFIG]


def test_an_unfinished_run_is_refused_with_the_command_that_goes_on(tmp_path: Path):
    path = tmp_path / "my run"
    folder.create(path, TRAIN)
    with pytest.raises(RequestError, match=r"unfinished run \(dyadnet resume '.*my run' goes on"):
        folder.create(path, TRAIN)


def test_all_that_a_run_writes_is_its_own(tmp_path: Path):
    folder.create(tmp_path, TRAIN)
    names = ("metrics.jsonl", "checkpoint.pt", "checkpoint.previous.pt", "result.json", "report.html", "compare.json")
    for name in (*names, "checkpoint.pt.tmp", ".report.html.123.tmp", "events.out.tfevents.1.host"):
        (tmp_path / name).touch()
    folder.create(tmp_path, TRAIN, overwrite=True)
    assert content(tmp_path).keys() == {folder.CONFIG}


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match="is a file"):
        folder.create(tmp_path / "file", TRAIN)
    with pytest.raises(RequestError, match="cannot be written"):
        folder.create(tmp_path / "file" / "run", TRAIN)
    with pytest.raises(RequestError, match="cannot be written"):
        folder.create(tmp_path / ("x" * 300), TRAIN)


def test_a_folder_without_a_run_is_told_from_none(tmp_path: Path):
    with pytest.raises(RequestError, match=r"holds no run: there is no config\.json"):
        folder.read_config(tmp_path)
    with pytest.raises(RequestError, match=r"there is no .*nowhere"):
        folder.read_config(tmp_path / "nowhere")


def test_unreadable_json_is_named(tmp_path: Path):
    (tmp_path / "a.json").write_bytes(b"\xff\xfe")
    with pytest.raises(RequestError, match=r"a\.json is not valid JSON"):
        folder.read_json(tmp_path / "a.json")
    with pytest.raises(RequestError, match="cannot be read"):
        folder.read_json(tmp_path)


def test_metrics_are_one_line_an_epoch_and_can_go_back(tmp_path: Path):
    for epoch in (1, 2, 3):
        folder.append_metrics(tmp_path, {"epoch": epoch})
    lines = (tmp_path / folder.METRICS).read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]
    folder.rewrite_metrics(tmp_path, [{"epoch": 1}])
    folder.append_metrics(tmp_path, {"epoch": 2})
    assert (tmp_path / folder.METRICS).read_text() == '{"epoch": 1}\n{"epoch": 2}\n'
    assert content(tmp_path).keys() == {folder.METRICS}


def test_two_processes_do_not_work_in_one_folder(tmp_path: Path):
    """A lock is of an open file, so that the same holds within one process."""
    folder.create(tmp_path / "run", TRAIN)
    with folder.alone(tmp_path / "run"):
        with pytest.raises(RequestError, match="another process is at work in"), folder.alone(tmp_path / "run"):
            pass
        with pytest.raises(RequestError, match="another process is at work in"):
            folder.create(tmp_path / "run", TRAIN, overwrite=True)
    folder.create(tmp_path / "run", TRAIN, overwrite=True)
    assert content(tmp_path / "run").keys() == {folder.CONFIG}


def test_a_folder_for_files_that_cannot_be_made_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/below")):
        with pytest.raises(RequestError, match=r"file, not a folder|cannot be written"):
            folder.made(path)
    folder.made(tmp_path / "a" / "b")
    assert content(tmp_path / "a") == {}
