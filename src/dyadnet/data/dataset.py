"""What a data set is: two splits of raw images with integer labels, and the constants that scale them."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


class DataError(ValueError):
    """A request for data, or a data file, is wrong; the message is one line that says what to do."""


@dataclass(frozen=True, eq=False)
class Split:
    """Samples with their labels.

    Attributes:
        images: raw values `(N, C, H, W)` or `(N, features)`, uint8 or float32.
        labels: class of every sample, `(N,)`, int64.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training and a test split with what is needed to scale them.

    Attributes:
        name: the name that `load` takes.
        train: training split.
        test: test split.
        classes: number of classes; labels are `0 ... classes - 1`.
        shape: shape of one sample, `(C, H, W)` or `(features,)`.
        maximum: `images / maximum` lies in [0, 1]; 1 for a user's own floats, which are taken as they are.
        mean: mean of `images / maximum` over the training split, one value a channel (one in all for flat samples).
        std: standard deviation likewise; the constants in use for CIFAR are the mean over images of the deviation
            within an image.
        validation: samples held out from training, by which an epoch is chosen; None for none.
    """

    name: str
    train: Split
    test: Split
    classes: int
    shape: tuple[int, ...]
    maximum: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    validation: Split | None = None


def check(split: Split, classes: int, name: str) -> None:
    """Refuse a split that cannot be trained on; `name` says in the message where it came from.

    Raises:
        DataError: if the split is empty, images and labels differ in number, a label lies outside `0 ... classes - 1`
            or an image holds NaN or infinity; the first offender is named.

    >>> check(Split(torch.zeros(2, 4), torch.tensor([0, 3])), classes=3, name="mine.npz, test split")
    Traceback (most recent call last):
    ...
    dyadnet.data.dataset.DataError: mine.npz, test split: sample 1 has label 3, labels must be 0 to 2
    """
    images, labels = split.images, split.labels
    if len(images) != len(labels):
        raise DataError(f"{name}: {len(images)} images but {len(labels)} labels, give one label an image")
    if images.numel() == 0:
        raise DataError(f"{name}: no data in images of shape {tuple(images.shape)}, give at least one sample")
    if (outside := (labels < 0) | (labels >= classes)).any():
        first = _first(outside)
        raise DataError(f"{name}: sample {first} has label {int(labels[first])}, labels must be 0 to {classes - 1}")
    if images.is_floating_point() and (broken := ~images.flatten(1).isfinite().all(dim=1)).any():
        raise DataError(
            f"{name}: {int(broken.sum())} images hold NaN or infinity, the first is sample {_first(broken)}; "
            "remove or repair them"
        )


def _first(mask: Tensor) -> int:
    """Return the index of the first True."""
    return int(mask.nonzero()[0])


def subset(dataset: Dataset, train: int | None, test: int | None) -> Dataset:
    """Return the data set cut to its first `train` and `test` samples; None keeps a split whole.

    Raises:
        DataError: if a number is below 1 or above the size of its split.
    """
    return replace(
        dataset,
        train=_head(dataset.train, train, f"{dataset.name}, train split"),
        test=_head(dataset.test, test, f"{dataset.name}, test split"),
    )


def _head(split: Split, count: int | None, name: str) -> Split:
    """Return the first `count` samples."""
    if count is None:
        return split
    if not 1 <= count <= len(split):
        raise DataError(f"{name}: asked for {count} samples, choose 1 to {len(split)}")
    return Split(split.images[:count], split.labels[:count])


def hold_out(dataset: Dataset, share: float) -> Dataset:
    """Return the data set with the last `share` of its training samples held out for validation.

    Raises:
        DataError: if that would leave no sample on one of the two sides.
    """
    if share == 0:
        return dataset
    count = round(share * len(dataset.train))
    if not 0 < count < len(dataset.train):
        raise DataError(f"{dataset.name}: a share of {share} of {len(dataset.train)} samples cannot be held out")
    images, labels = dataset.train.images, dataset.train.labels
    return replace(
        dataset,
        train=Split(images[:-count], labels[:-count]),
        validation=Split(images[-count:], labels[-count:]),
    )


def resident(dataset: Dataset, device: torch.device | str) -> Dataset:
    """Return the data set with its tensors on `device`, where `batches` then makes the batches."""

    def moved(split: Split) -> Split:
        return Split(split.images.to(device), split.labels.to(device))

    held_out = None if dataset.validation is None else moved(dataset.validation)
    return replace(dataset, train=moved(dataset.train), test=moved(dataset.test), validation=held_out)
