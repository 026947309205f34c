"""`load`: a data set by name, from the bundle, the user's disk or a download, checked before it is returned."""

import os
import zlib
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from dyadnet.data.dataset import DataError, Dataset, Split, check
from dyadnet.data.download import fetch
from dyadnet.data.files import locate, read
from dyadnet.data.published import PUBLISHED

DATASETS: tuple[str, ...] = ("digits", *PUBLISHED)


def load(name: str, root: Path | None = None) -> Dataset:
    """Return the data set `name`.

    `digits` needs no files: it holds scikit-learn's 8x8 images, 1437 to train on and 360 to test on, stratified by
    class and always the same. `mnist`, `fashion-mnist`, `cifar10` and `cifar100` (fine labels) are read from a data
    root: from `root`, or else from the environment variable `DYADNET_DATA`; without either they are downloaded into the
    user's cache. A name that ends in `.npz` is the path of a user's own arrays `x_train`, `y_train`, `x_test` and
    `y_test`: samples `(N, C, H, W)` or `(N, features)` as uint8 or floats, labels `(N,)` from 0 to the largest of
    `y_train`. Floats are taken as they are: whoever relies on [0, 1] stores them so.

    Args:
        name: one of `DATASETS`, or a path that ends in `.npz`.
        root: folder that holds the published files, in a folder of their own (`mnist`, `cifar-10-batches-bin`, ...;
            torchvision's folders are understood too) or directly.

    Raises:
        DataError: if the name is unknown, or files are missing, truncated, altered or hold unusable values.

    >>> digits = load("digits")
    >>> digits.shape, len(digits.train), digits.test.labels.bincount().tolist()
    ((1, 8, 8), 1437, [36, 36, 35, 37, 36, 37, 36, 36, 35, 36])
    """
    if name == "digits":
        return _digits()
    if name.endswith(".npz"):
        return _npz(Path(name))
    if name not in PUBLISHED:
        raise DataError(f"no data set is called {name!r}: use {', '.join(DATASETS)} or a path that ends in .npz")
    return _published(name, root)


def _published(name: str, root: Path | None) -> Dataset:
    """Read a published data set from the data root, or else from the download cache."""
    source = PUBLISHED[name]
    if root is None and os.environ.get("DYADNET_DATA"):
        root = Path(os.environ["DYADNET_DATA"])
    folder = fetch(source, name) if root is None else locate(source, name, root.expanduser())
    train, test = read(source, folder)
    return Dataset(name, train, test, source.classes, source.shape, 255.0, source.mean, source.std)


def _digits() -> Dataset:
    """Split scikit-learn's digits, whose pixels are whole numbers from 0 to 16."""
    from sklearn.datasets import load_digits  # imported here because scikit-learn takes a second to import
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels.astype(np.uint8)).reshape(-1, 1, 8, 8)
    indices = train_test_split(np.arange(len(labels)), test_size=360, stratify=labels, random_state=0)
    train, test = (np.asarray(index) for index in indices)

    def part(index: np.ndarray) -> Split:
        return Split(images[index], torch.from_numpy(labels[index].astype(np.int64)))

    return _own("digits", part(train), part(test), 16.0)


def _own(name: str, train: Split, test: Split, maximum: float) -> Dataset:
    """Return a data set whose number of classes, mean and standard deviation come from its training split.

    A constant channel gets the standard deviation 1, so that normalising centres it.
    """
    values = train.images.transpose(0, 1).flatten(1) if train.images.ndim == 4 else train.images.reshape(1, -1)
    std, mean = torch.std_mean(values.double() / maximum, dim=1, correction=0)
    return Dataset(
        name,
        train,
        test,
        classes=int(train.labels.max()) + 1,
        shape=tuple(train.images.shape[1:]),
        maximum=maximum,
        mean=tuple(mean.tolist()),
        std=tuple(torch.where(std > 0, std, 1.0).tolist()),
    )


def _npz(path: Path) -> Dataset:
    """Read a user's own arrays."""
    arrays = _arrays(path)
    train, test = (
        Split(_images(arrays[f"x_{part}"], f"{path}, x_{part}"), _labels(arrays[f"y_{part}"], f"{path}, y_{part}"))
        for part in ("train", "test")
    )
    if train.images.shape[1:] != test.images.shape[1:] or train.images.dtype != test.images.dtype:
        kinds = [f"{tuple(part.images.shape[1:])} {str(part.images.dtype)[6:]}" for part in (train, test)]
        raise DataError(f"{path}: samples of x_train are {kinds[0]} but those of x_test {kinds[1]}, make them alike")
    classes = int(train.labels.max()) + 1 if len(train) else 0
    check(train, max(classes, 1), f"{path}, training split")
    check(test, classes, f"{path}, test split")
    return _own(str(path), train, test, 255.0 if train.images.dtype == torch.uint8 else 1.0)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the four arrays of an `.npz` file; pickled objects are refused."""
    try:
        with path.open("rb") as stream:
            file = np.load(stream, allow_pickle=False)
            if isinstance(file, np.ndarray):
                raise ValueError("it holds a single array")
            return {key: file[key] for key in ("x_train", "y_train", "x_test", "y_test")}
    except KeyError as error:
        raise DataError(f"{path}: lacks an array, store x_train, y_train, x_test and y_test") from error
    except (OSError, ValueError, EOFError, BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{path}: not a readable .npz file of plain arrays ({reason}), save it with numpy.savez"
        ) from error


def _images(array: np.ndarray, name: str) -> Tensor:
    """Return samples as uint8 or float32."""
    if array.ndim not in (2, 4):
        raise DataError(f"{name}: has shape {array.shape}, store (N, C, H, W) or (N, features)")
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise DataError(f"{name}: has dtype {array.dtype}, store uint8 or floats")
    if array.dtype == np.uint8:
        return torch.from_numpy(array)
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which `check` refuses
        return torch.from_numpy(array.astype(np.float32))


def _labels(array: np.ndarray, name: str) -> Tensor:
    """Return labels as int64."""
    if array.ndim != 1 or array.dtype.kind not in "iuf":
        raise DataError(f"{name}: has shape {array.shape} and dtype {array.dtype}, store whole numbers in shape (N,)")
    values = array.astype(np.float64)
    whole = (np.abs(values) < 2**53) & (
        values == np.floor(values)
    )  # false for NaN, infinity and what int64 cannot hold
    if not whole.all():
        first = int(np.argmin(whole))
        raise DataError(f"{name}: label {first} is {array[first]}, store whole numbers")
    return torch.from_numpy(values.astype(np.int64))
