"""Run folders: `config.json`, `metrics.jsonl`, `checkpoint.pt`, `result.json`, `report.html`, and nothing else.

What is not a run's own is never deleted: a folder that holds anything else is refused, with `--overwrite` too.
"""

import errno
import json
import os
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from dyadnet.names import RequestError
from dyadnet.train import checkpoint

try:
    import fcntl
except ImportError:  # on Windows nothing keeps two processes apart
    fcntl = None

CONFIG, METRICS, RESULT, COMPARISON, AUDIT, EXPOSURE, REPORT = (
    "config.json",
    "metrics.jsonl",
    "result.json",
    "compare.json",
    "audit.json",
    "exposure.json",
    "report.html",
)
CELLS, ROBUSTNESS = "cells.jsonl", "robustness.json"
_OWN = {CONFIG, METRICS, RESULT, COMPARISON, AUDIT, EXPOSURE, CELLS, ROBUSTNESS, REPORT}
_OWN |= {checkpoint.NAME, checkpoint.PREVIOUS}
_LOCKLESS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)  # a file system without locks
_SCALARS = "events.out.tfevents."  # how TensorBoard's files begin


def check(folder: Path, *, overwrite: bool = False) -> None:
    """Refuse a folder that a new run must not be written to; nothing is changed.

    Raises:
        RequestError: if the folder already holds a run (finished or not), or files that are not a run's.
    """
    with _refused(folder):
        if folder.exists() and not folder.is_dir():
            raise RequestError(f"{folder} is a file, not a folder")
        held = [item.name for item in folder.iterdir()] if folder.exists() else []
        if set(held) <= {_aside(folder / CONFIG).name}:  # what a kill at the very start leaves
            return
        foreign = _foreign(folder) if is_run(folder) else CONFIG if CONFIG in held else min(held)
    if foreign:
        raise RequestError(f"{folder} holds what is not a run's own ({foreign}); name an empty or a new folder")
    if not overwrite:
        done = any((folder / name).exists() for name in (RESULT, COMPARISON, AUDIT, ROBUSTNESS))
        what = "a finished run" if done else f"an unfinished run ({resuming(folder)} goes on with it)"
        raise RequestError(f"{folder} already holds {what}; name another folder, or add --overwrite")


def create(folder: Path, config: dict[str, Any], *, overwrite: bool = False) -> None:
    """Make a run folder and write its `config.json`; with `overwrite`, an old run in it goes first.

    Raises:
        RequestError: as `check`, or if the folder cannot be written.
    """
    check(folder, overwrite=overwrite)
    with _refused(folder):
        if folder.exists():
            with alone(folder):
                _clear(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / CONFIG, config)


def made(folder: Path) -> None:
    """Make a folder that files can be written to, where there is none.

    Raises:
        RequestError: if it cannot be written.
    """
    with _refused(folder):
        if folder.exists() and not folder.is_dir():
            raise RequestError(f"{folder} is a file, not a folder")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other processes from working in a run folder meanwhile, where the system has locks on files.

    Raises:
        RequestError: if another one is at work there, or the folder's configuration cannot be written.
    """
    if fcntl is None or not (folder / CONFIG).exists():
        yield
        return
    with ExitStack() as held:
        with _refused(folder):
            file = held.enter_context((folder / CONFIG).open("r+"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _LOCKLESS:
                raise RequestError(f"another process is at work in {folder}: wait for it, or stop it") from None
        yield


def resuming(folder: Path) -> str:
    """Return the command that goes on with a run."""
    return f"dyadnet resume {shlex.quote(str(folder))}"


def is_run(folder: Path) -> bool:
    """Whether the folder holds a run, or a comparison of runs."""
    try:
        read_config(folder)
    except RequestError:
        return False
    return True


def read_config(folder: Path) -> dict[str, Any]:
    """Read `config.json`.

    Raises:
        RequestError: if the folder holds no run, or its configuration cannot be read.
    """
    path = folder / CONFIG
    if not path.exists():
        raise RequestError(
            f"{folder} holds no run: there is no {CONFIG}" if folder.exists() else f"there is no {folder}"
        )
    config = read_json(path)
    if (
        not isinstance(config, dict)
        or config.get("command") not in ("train", "compare", "audit", "robustness")
        or "settings" not in config
    ):
        raise RequestError(f"{path} is not a run's configuration")
    return config


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        RequestError: if it cannot be read or is not valid JSON.
    """
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise RequestError(f"{path} is not valid JSON: {error}") from error
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}") from error


def write_json(path: Path, value: Any) -> None:
    """Write JSON aside, then rename it into place."""
    _write(path, json.dumps(value, indent=2) + "\n")


def append_metrics(folder: Path, metrics: dict[str, Any]) -> None:
    """Append one line to `metrics.jsonl`."""
    with (folder / METRICS).open("a") as file:
        file.write(json.dumps(metrics) + "\n")
        file.flush()


def rewrite_metrics(folder: Path, history: list[dict[str, Any]]) -> None:
    """Make `metrics.jsonl` hold exactly the epochs of a checkpoint."""
    _write(folder / METRICS, "".join(json.dumps(metrics) + "\n" for metrics in history))


def _write(path: Path, text: str) -> None:
    aside = _aside(path)
    aside.write_text(text)
    os.replace(aside, path)


def _aside(path: Path) -> Path:
    return path.with_name(path.name + ".tmp")


@contextmanager
def _refused(folder: Path) -> Iterator[None]:
    """Turn the system's complaint about a folder into a request error."""
    try:
        yield
    except OSError as error:
        raise RequestError(f"{folder} cannot be written: {error.strerror}; name another folder") from error


def _foreign(folder: Path) -> str | None:
    """Name a file or folder in a run folder that is not the run's own."""
    for item in sorted(folder.iterdir()):
        inside = _foreign(item) if _is_part(item) else None
        if inside or not (_is_part(item) or _is_own(item)):
            return f"{item.name}/{inside}" if inside else item.name
    return None


def _is_own(item: Path) -> bool:
    name = item.name.removesuffix(".tmp")
    unfinished_report = name.startswith(f".{REPORT}.") and name != item.name
    return not item.is_dir() and (name in _OWN or name.startswith(_SCALARS) or unfinished_report)


def _is_part(item: Path) -> bool:
    """Whether a folder is one run of a comparison, perhaps killed before it had a configuration."""
    return item.is_dir() and not item.is_symlink() and (is_run(item) or not (item / CONFIG).exists())


def _clear(folder: Path) -> None:
    """Empty a run folder that holds nothing foreign; `config.json`, which says that it is one, goes last."""
    for item in sorted(folder.iterdir(), key=lambda item: item.name == CONFIG):
        if item.is_dir():
            _clear(item)
            item.rmdir()
        else:
            item.unlink()
