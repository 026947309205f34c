"""Checkpoints that survive a kill at any moment: written aside, flushed, then renamed; the one before is kept."""

import os
import zipfile
from pathlib import Path
from typing import Any

import torch

from dyadnet.names import RequestError

NAME, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"


def save(folder: Path, state: dict[str, Any]) -> None:
    """Write `state` as the folder's checkpoint; the last one becomes the previous one."""
    target, aside = folder / NAME, folder / (NAME + ".tmp")
    with aside.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    if target.exists():
        os.replace(target, folder / PREVIOUS)
    os.replace(aside, target)


def exists(folder: Path) -> bool:
    """Whether the folder holds any checkpoint."""
    return (folder / NAME).exists() or (folder / PREVIOUS).exists()


def load(folder: Path, name: str | None = None) -> dict[str, Any]:
    """Read a checkpoint (the latest by default); only tensors and plain values are read, never code.

    Raises:
        RequestError: if the file is missing or corrupt, naming the previous checkpoint where that one is sound.
    """
    # A kill between the two renames of `save` leaves only the previous one: it is then the latest.
    name = name or (NAME if (folder / NAME).exists() else PREVIOUS)
    path = folder / name
    if not path.exists():
        raise RequestError(f"{path} does not exist")
    if not _sound(path):
        previous = folder / PREVIOUS
        advice = (
            f"the previous one is sound: add --checkpoint {PREVIOUS}"
            if name != PREVIOUS and previous.exists() and _sound(previous)
            else "start the run anew"
        )
        raise RequestError(f"{path} is corrupt; {advice}")
    return torch.load(path, map_location="cpu", weights_only=True)


def _sound(path: Path) -> bool:
    """Whether every part of the archive has its checksum."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError):
        return False
