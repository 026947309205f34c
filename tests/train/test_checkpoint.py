"""Checkpoints: whatever happens to the file, what is read is what was written, or nothing."""

import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from dyadnet.names import RequestError
from dyadnet.train import checkpoint


def state(number: int) -> dict[str, Any]:
    return {"model": {"weight": torch.full((3, 5), float(number))}, "history": [{"epoch": number}]}


def same(found: dict[str, Any], number: int) -> bool:
    return found["history"] == [{"epoch": number}] and found["model"]["weight"].eq(number).all().item()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder after two epochs."""
    checkpoint.save(tmp_path, state(1))
    checkpoint.save(tmp_path, state(2))
    return tmp_path


def test_the_latest_is_read_and_the_one_before_is_kept(saved: Path):
    assert same(checkpoint.load(saved), 2)
    assert same(checkpoint.load(saved, checkpoint.PREVIOUS), 1)
    assert sorted(item.name for item in saved.iterdir()) == [checkpoint.PREVIOUS, checkpoint.NAME]


def test_a_kill_between_the_two_renames_loses_nothing(saved: Path, monkeypatch: pytest.MonkeyPatch):
    renamed: list[object] = []

    def killed(source: Path, target: Path) -> None:
        if renamed:
            raise KeyboardInterrupt
        renamed.append(target)
        source.rename(target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(saved, state(3))
    monkeypatch.undo()
    assert not (saved / checkpoint.NAME).exists()
    assert checkpoint.exists(saved)
    assert same(checkpoint.load(saved), 2)
    checkpoint.save(saved, state(3))
    assert same(checkpoint.load(saved), 3)
    assert same(checkpoint.load(saved, checkpoint.PREVIOUS), 2)


def test_a_kill_while_writing_leaves_both_checkpoints(saved: Path, monkeypatch: pytest.MonkeyPatch):
    def killed(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(saved, state(3))
    assert same(checkpoint.load(saved), 2)
    assert same(checkpoint.load(saved, checkpoint.PREVIOUS), 1)


def test_no_altered_byte_goes_unnoticed(saved: Path):
    path = saved / checkpoint.NAME
    sound = path.read_bytes()
    (saved / checkpoint.PREVIOUS).unlink()
    for place in {*range(0, len(sound), 7), *range(len(sound) - 100, len(sound))}:
        altered = bytearray(sound)
        altered[place] ^= 1 << place % 8
        path.write_bytes(altered)
        with pytest.raises(RequestError, match="corrupt"):
            checkpoint.load(saved)


def test_a_checkpoint_is_an_archive_that_torch_reads_by_itself(saved: Path):
    assert same(torch.load(saved / checkpoint.NAME, weights_only=True), 2)
    with zipfile.ZipFile(saved / checkpoint.NAME) as archive:
        assert archive.testzip() is None
        assert len(archive.comment) == 64


def test_a_truncated_file_is_refused_at_any_length(saved: Path):
    path = saved / checkpoint.NAME
    sound = path.read_bytes()
    for length in range(0, len(sound), 97):
        path.write_bytes(sound[:length])
        with pytest.raises(RequestError, match="corrupt"):
            checkpoint.load(saved)


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x80\x04N."])
def test_a_corrupt_checkpoint_is_kept_and_the_previous_one_named(saved: Path, content: bytes):
    (saved / checkpoint.NAME).write_bytes(content)
    with pytest.raises(RequestError, match=r"checkpoint\.pt is corrupt; .* --checkpoint checkpoint\.previous\.pt"):
        checkpoint.load(saved)
    assert (saved / checkpoint.NAME).read_bytes() == content
    assert same(checkpoint.load(saved, checkpoint.PREVIOUS), 1)


def test_where_both_are_corrupt_neither_is_advised(saved: Path):
    for name in (checkpoint.NAME, checkpoint.PREVIOUS):
        (saved / name).write_bytes(b"")
    with pytest.raises(RequestError, match="start the run anew"):
        checkpoint.load(saved)
    with pytest.raises(RequestError, match="start the run anew"):
        checkpoint.load(saved, checkpoint.PREVIOUS)


class Payload:
    """What a pickle could do."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("exit 0",)


def test_code_in_a_checkpoint_is_never_run(saved: Path, monkeypatch: pytest.MonkeyPatch):
    checkpoint.save(saved, {"model": Payload()})
    monkeypatch.setattr(os, "system", lambda command: pytest.fail("code was run"))
    with pytest.raises(RequestError, match="corrupt"):
        checkpoint.load(saved)


def test_a_missing_checkpoint_is_named(tmp_path: Path):
    assert not checkpoint.exists(tmp_path)
    with pytest.raises(RequestError, match="there is no"):
        checkpoint.load(tmp_path)


def test_a_checkpoint_made_the_latest_cannot_be_replaced_by_a_corrupt_one(saved: Path):
    (saved / checkpoint.NAME).write_bytes(b"")
    checkpoint.make_latest(saved, checkpoint.PREVIOUS)
    assert same(checkpoint.load(saved), 1)
    checkpoint.save(saved, state(2))
    assert same(checkpoint.load(saved, checkpoint.PREVIOUS), 1)
