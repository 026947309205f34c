"""Run folders: `config.json`, `metrics.jsonl`, `checkpoint.pt`, `result.json`, `report.html`."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from dyadnet.names import RequestError

CONFIG, METRICS, RESULT, COMPARISON, REPORT = (
    "config.json",
    "metrics.jsonl",
    "result.json",
    "compare.json",
    "report.html",
)


def create(folder: Path, config: dict[str, Any], *, overwrite: bool = False) -> None:
    """Make a run folder and write its `config.json`.

    Raises:
        RequestError: if the folder already holds a run (finished or not), or files that are not a run's.
    """
    if folder.exists() and not folder.is_dir():
        raise RequestError(f"{folder} is a file, not a folder")
    if folder.exists() and any(folder.iterdir()):
        if not (folder / CONFIG).exists():
            raise RequestError(f"{folder} holds other files; name an empty or a new folder")
        if not overwrite:
            done = (folder / RESULT).exists() or (folder / COMPARISON).exists()
            what = "a finished run" if done else f"an unfinished run (dyadnet resume {folder} goes on with it)"
            raise RequestError(f"{folder} already holds {what}; name another folder, or add --overwrite")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / CONFIG, config)


def read_config(folder: Path) -> dict[str, Any]:
    """Read `config.json`.

    Raises:
        RequestError: if the folder holds no run, or its configuration cannot be read.
    """
    path = folder / CONFIG
    if not path.exists():
        raise RequestError(f"{folder} holds no run: there is no {CONFIG}")
    config = read_json(path)
    if not isinstance(config, dict) or not {"command", "settings"} <= set(config):
        raise RequestError(f"{path} is not a run's configuration")
    return config


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        RequestError: if it is not valid JSON.
    """
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise RequestError(f"{path} is not valid JSON: {error}") from error


def write_json(path: Path, value: Any) -> None:
    """Write JSON aside, then rename it into place."""
    aside = path.with_name(path.name + ".tmp")
    aside.write_text(json.dumps(value, indent=2) + "\n")
    os.replace(aside, path)


def append_metrics(folder: Path, metrics: dict[str, Any]) -> None:
    """Append one line to `metrics.jsonl`."""
    with (folder / METRICS).open("a") as file:
        file.write(json.dumps(metrics) + "\n")
        file.flush()


def rewrite_metrics(folder: Path, history: list[dict[str, Any]]) -> None:
    """Make `metrics.jsonl` hold exactly the epochs of a checkpoint."""
    (folder / METRICS).write_text("".join(json.dumps(metrics) + "\n" for metrics in history))
