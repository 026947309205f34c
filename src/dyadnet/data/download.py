"""Downloads of the published files into the user's cache, verified by MD5 before they are used."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pooch
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from dyadnet.data.dataset import DataError
from dyadnet.data.published import Published


def fetch(source: Published, name: str) -> Path:
    """Return the folder of the user's cache with the files of the data set `name`, downloading those it lacks.

    Raises:
        DataError: if a download fails; the message says where to put the files instead.
    """
    cache = Path(pooch.os_cache("dyadnet"))
    try:
        if source.archive_md5 is not None:
            _retrieve(source.url, source.archive_md5, cache, pooch.Untar(extract_dir="."))
        else:
            for file in (*source.train, *source.test):
                _retrieve(source.url + file.name, file.md5, cache / source.folders[0])
    except (OSError, ValueError) as error:  # a ValueError is pooch's word for a wrong checksum
        reason = type(error).__name__ if isinstance(error, OSError) else "wrong checksum"
        raise DataError(
            f"{name}: download from {source.url} failed ({reason}); put the files in DIR/{source.folders[0]} "
            "yourself and name DIR with --data-root or DYADNET_DATA"
        ) from error
    return cache / source.folders[0]


def _retrieve(url: str, md5: str | None, folder: Path, processor: Callable[..., Any] | None = None) -> None:
    """Download one file unless `folder` has it with the right MD5; progress is shown on a terminal only."""
    name, console = url.rsplit("/", maxsplit=1)[1], Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar: Any = _Bar(progress, name)  # pooch takes any object with these methods but declares a bool
        downloader: Any = pooch.HTTPDownloader(progressbar=bar, chunk_size=2**16)
        pooch.retrieve(url, f"md5:{md5}", name, folder, processor, downloader)


class _Bar:
    """What pooch asks of a progress bar, drawn by rich; it appears when the size is known."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress = progress
        self._task = progress.add_task(name, visible=False)

    @property
    def total(self) -> float | None:
        """Size in bytes, None until the server has told."""
        return self._progress.tasks[self._task].total

    @total.setter
    def total(self, size: int) -> None:
        self._progress.update(self._task, total=size or None, visible=True)

    def update(self, size: int) -> None:
        """Advance by `size` bytes."""
        self._progress.advance(self._task, size)

    def reset(self) -> None:
        """Start again from nothing."""
        self._progress.update(self._task, completed=0)

    def close(self) -> None:
        """Leave the display to whoever opened it."""
