"""Checkpoints that survive a kill at any moment: written aside, flushed, then renamed; the one before is kept.

A file is what `torch.save` writes, a zip archive, with the SHA-256 of its bytes as the archive's comment. The archive's
own checksums would not do: they cover its parts, but not the places where its directory says that these lie.
"""

import hashlib
import os
import pickle
from pathlib import Path
from typing import IO, Any, Literal

import torch

from dyadnet.names import RequestError

Name = Literal["checkpoint.pt", "checkpoint.previous.pt"]
NAME: Name = "checkpoint.pt"
PREVIOUS: Name = "checkpoint.previous.pt"


def save(folder: Path, state: dict[str, Any]) -> None:
    """Write `state` as the folder's checkpoint; the last one becomes the previous one."""
    target, aside = folder / NAME, folder / (NAME + ".tmp")
    with aside.open("w+b") as file:
        torch.save(state, file)
        _seal(file)
        file.flush()
        os.fsync(file.fileno())
    if target.exists():
        os.replace(target, folder / PREVIOUS)
    os.replace(aside, target)


def exists(folder: Path) -> bool:
    """Whether the folder holds any checkpoint."""
    return (folder / NAME).exists() or (folder / PREVIOUS).exists()


def load(folder: Path, name: Name = NAME) -> dict[str, Any]:
    """Read a checkpoint; only tensors and plain values are read, never code.

    A kill between the two renames of `save` leaves only the previous one: it is then the latest, and read as such.

    Raises:
        RequestError: if the file is missing or corrupt, naming the previous checkpoint where that one is sound.
    """
    path = folder / name if (folder / name).exists() else folder / PREVIOUS
    if not path.exists():
        raise RequestError(f"there is no {path}")
    state = _read(path)
    if state is None:
        raise RequestError(f"{path} is corrupt; {_way_out(path)}")
    return state


def make_latest(folder: Path, name: Name) -> None:
    """Let a checkpoint that has been read take the latest one's place, which may be corrupt and must not follow it."""
    os.replace(folder / name, folder / NAME)


def _way_out(path: Path) -> str:
    """Say what to do about a corrupt checkpoint."""
    previous = path.with_name(PREVIOUS)
    if path != previous and previous.exists() and _read(previous) is not None:
        return (
            f"the previous one is kept and sound: take it with --checkpoint {PREVIOUS}, for resume, evaluate or export "
            f"of {path.parent}"
        )
    return "no other is sound, start the run anew"


def _read(path: Path) -> dict[str, Any] | None:
    """Return what a file holds if it is as it was written, else None."""
    with path.open("rb") as file:
        if not _sealed(file):
            return None
        file.seek(0)
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:  # well preserved, but it holds more than tensors and plain values
            return None


_DIGITS = 64  # of a SHA-256 in hexadecimal
_LENGTH = _DIGITS.to_bytes(2, "little")  # of the comment, in the last two bytes of an archive that has none yet


def _seal(file: IO[bytes]) -> None:
    """Replace the empty comment of an archive by the digest of all before it."""
    body = file.seek(-len(_LENGTH), os.SEEK_END)
    digest = _digest(file, body)
    file.seek(body)
    file.write(_LENGTH + digest)


def _sealed(file: IO[bytes]) -> bool:
    """Whether the digest at the end is that of what comes before it."""
    body = file.seek(0, os.SEEK_END) - len(_LENGTH) - _DIGITS
    return body > 0 and _LENGTH + _digest(file, body) == file.read()


def _digest(file: IO[bytes], size: int) -> bytes:
    """Return the digest of the first `size` bytes, and stop reading there."""
    file.seek(0)
    found = hashlib.sha256()
    while size > 0:
        chunk = file.read(min(size, 2**20))
        found.update(chunk)
        size -= len(chunk)
    return found.hexdigest().encode()
