"""Batches made from tensors that stay on their device: shuffled, augmented and scaled without a loader.

The usual augmentation of CIFAR, image by image: four rows and columns of zeros on every side, a crop of the original
size at a random place, a mirror image half of the time. Zeros are raw pixel values: they are padded before scaling.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from dyadnet.data.dataset import DataError, Dataset, Split

PAD = 4


def inputs(dataset: Dataset, images: Tensor, normalise: bool) -> Tensor:
    """Return raw images as network inputs in the default dtype: `images / maximum`, then `(x - mean) / std` if asked.

    Args:
        dataset: gives the constants, one mean and standard deviation a channel.
        images: raw values `(batch, *dataset.shape)`.
        normalise: whether to centre and scale every channel.
    """
    x = images.to(torch.get_default_dtype()) / dataset.maximum
    if not normalise:
        return x
    channels = (-1, *(1 for _ in dataset.shape[1:]))
    mean, std = (x.new_tensor(values).view(channels) for values in (dataset.mean, dataset.std))
    return (x - mean) / std


def batches(
    dataset: Dataset,
    split: Split,
    batch_size: int,
    *,
    generator: torch.Generator | None = None,
    augment: bool = False,
    normalise: bool = False,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Return an iterator over one epoch of `(inputs, labels)`, on the device that holds the split.

    Args:
        dataset: gives the constants for `inputs`.
        split: its training or test split.
        batch_size: samples a batch; the last batch holds what remains.
        generator: CPU generator that shuffles and augments; None keeps the order. No other randomness is used.
        augment: crop and mirror images at random.
        normalise: passed to `inputs`.

    Raises:
        DataError: if `batch_size < 1`, or images cannot be augmented for want of a generator or of rows and columns.

    >>> from dyadnet.data import load
    >>> digits = load("digits")
    >>> [len(y) for x, y in batches(digits, digits.test, 100)]
    [100, 100, 100, 60]
    """
    if batch_size < 1:
        raise DataError(f"batch size {batch_size} is too small, choose at least 1")
    if augment and generator is None:
        raise DataError("augmentation is random, pass the generator to draw from")
    if augment and len(dataset.shape) != 3:
        raise DataError(
            f"{dataset.name}: samples of shape {dataset.shape} are no images (C, H, W), do not augment them"
        )
    return _epoch(dataset, split, batch_size, generator, augment, normalise)


def _epoch(
    dataset: Dataset, split: Split, batch_size: int, generator: torch.Generator | None, augment: bool, normalise: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of one epoch."""
    order = torch.arange(len(split)) if generator is None else torch.randperm(len(split), generator=generator)
    for index in order.to(split.labels.device).split(batch_size):
        images = split.images.index_select(0, index)
        if augment:
            images = augmented(images, *_draws(len(images), generator, images.device))
        yield inputs(dataset, images, normalise), split.labels.index_select(0, index)


def _draws(count: int, generator: torch.Generator | None, device: torch.device) -> tuple[Tensor, Tensor]:
    """Draw the offsets and mirrorings of `count` images, each independently and uniformly."""
    offsets = torch.randint(2 * PAD + 1, (count, 2), generator=generator)
    mirrored = torch.randint(2, (count,), generator=generator).bool()
    return offsets.to(device), mirrored.to(device)


def augmented(images: Tensor, offsets: Tensor, mirrored: Tensor) -> Tensor:
    """Return crops of the zero-padded images, of the images' own size.

    Args:
        images: `(batch, C, H, W)`.
        offsets: row and column at which each crop starts in its padded image, `(batch, 2)`, integers 0 to 8; 4 and 4
            give the image itself.
        mirrored: whether to reverse the columns of the crop, `(batch,)`, bool.

    >>> augmented(torch.tensor([[[[1, 2], [3, 4]]]]), torch.tensor([[4, 5]]), torch.tensor([False])).tolist()
    [[[[2, 0], [4, 0]]]]
    """
    height, width = images.shape[2:]
    rows = torch.arange(height, device=images.device) + offsets[:, :1]
    columns = torch.arange(width, device=images.device).expand(len(images), width)
    columns = torch.where(mirrored[:, None], width - 1 - columns, columns) + offsets[:, 1:]
    pixels = (rows[:, :, None] * (width + 2 * PAD) + columns[:, None, :]).flatten(1)  # of the flat padded image
    padded = functional.pad(images, (PAD, PAD, PAD, PAD)).flatten(2)
    return padded.gather(2, pixels[:, None].expand(-1, images.shape[1], -1)).view_as(images)
