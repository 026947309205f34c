"""How the published files are found, read and verified.

Two binary layouts, neither of which can run code when it is read:

    idx     gzip of (0, 0, 8, number of dimensions), the dimensions as big-endian int32, the bytes in row-major order
    CIFAR   records of the label bytes (the last is the class) and 3 x 32 x 32 pixel bytes, nothing else

An idx file must have its published MD5. For CIFAR the published MD5 is that of the archive; the files in it are checked
by size and label bytes: by their MD5 for CIFAR-10, by the equal number of samples a class for CIFAR-100.
"""

import gzip
import hashlib
import math
import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dyadnet.data.dataset import DataError, Split, check
from dyadnet.data.published import File, Published


def locate(source: Published, name: str, root: Path) -> Path:
    """Return the folder below `root` that holds all files of the data set `name`.

    Raises:
        DataError: if there is none; the message names the folder that comes closest and what it lacks.
    """
    files = [file.name for file in (*source.train, *source.test)]
    missing = {folder: [file for file in files if not (root / folder / file).is_file()] for folder in source.folders}
    best = min(missing, key=lambda folder: len(missing[folder]))
    if missing[best]:
        raise DataError(
            f"{name}: {root / best} has no file {missing[best][0]}; put {', '.join(files)} of {source.url} there, "
            "or download them by giving neither --data-root nor DYADNET_DATA"
        )
    return root / best


def read(source: Published, folder: Path) -> tuple[Split, Split]:
    """Return the training and the test split, read and verified from the files in `folder`.

    Raises:
        DataError: if a file is truncated or altered; the message names it.
    """
    if source.archive_md5 is None:
        return _idx_split(source, folder, source.train), _idx_split(source, folder, source.test)
    return _cifar_split(source, folder, source.train), _cifar_split(source, folder, source.test)


def _idx_split(source: Published, folder: Path, files: tuple[File, ...]) -> Split:
    """Read a file of images and a file of labels."""
    images, labels = files
    split = Split(
        _idx(folder / images.name, images, source.shape[1:], source.url).reshape(-1, *source.shape),
        _idx(folder / labels.name, labels, (), source.url).long(),
    )
    check(split, source.classes, str(folder / labels.name))
    return split


def _idx(path: Path, file: File, shape: tuple[int, ...], url: str) -> Tensor:
    """Read `(samples, *shape)` bytes."""
    packed = path.read_bytes()
    if (md5 := hashlib.md5(packed, usedforsecurity=False).hexdigest()) != file.md5:
        raise DataError(f"{path}: truncated or altered, MD5 {md5} is not {file.md5}; download it from {url}{path.name}")
    data = bytearray(gzip.decompress(packed))
    dimensions = (file.samples, *shape)
    header = struct.pack(f">4B{len(dimensions)}i", 0, 0, 8, len(dimensions), *dimensions)
    if not data.startswith(header) or len(data) != len(header) + math.prod(dimensions):
        raise DataError(f"{path}: not an idx file of {dimensions} bytes; download it from {url}{path.name}")
    return torch.frombuffer(data, dtype=torch.uint8, offset=len(header)).reshape(dimensions)


def _cifar_split(source: Published, folder: Path, files: tuple[File, ...]) -> Split:
    """Read files of records and join them in order."""
    parts = [_records(folder / file.name, file, source) for file in files]
    return Split(torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts]))


def _records(path: Path, file: File, source: Published) -> Split:
    """Read one file of records."""
    width, size = source.header + math.prod(source.shape), path.stat().st_size
    again = f"unpack {source.url} again"
    if size != file.samples * width:
        raise DataError(f"{path}: has {size} bytes instead of {file.samples * width}; {again}")
    records = torch.from_numpy(np.fromfile(path, dtype=np.uint8)).reshape(file.samples, width)
    labels = records[:, source.header - 1].contiguous()
    split = Split(records[:, source.header :].reshape(-1, *source.shape), labels.long())
    check(split, source.classes, str(path))
    if not _published_labels(labels, file.md5, source.classes):
        raise DataError(f"{path}: its labels are not the published ones; {again}")
    return split


def _published_labels(labels: Tensor, md5: str | None, classes: int) -> bool:
    """Compare label bytes with their MD5; where that is unknown, every class must be equally frequent."""
    if md5 is None:
        return bool((labels.bincount(minlength=classes) * classes == len(labels)).all())
    return hashlib.md5(labels.numpy().tobytes(), usedforsecurity=False).hexdigest() == md5
