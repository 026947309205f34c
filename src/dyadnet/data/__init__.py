"""Image-classification data: digits (bundled), MNIST, Fashion-MNIST, CIFAR-10/100, or a user's own `.npz`."""

from dyadnet.data.batching import augmented, batches, inputs
from dyadnet.data.dataset import DataError, Dataset, Split, check, hold_out, resident, subset
from dyadnet.data.loading import DATASETS, load

__all__ = [
    "DATASETS",
    "DataError",
    "Dataset",
    "Split",
    "augmented",
    "batches",
    "check",
    "hold_out",
    "inputs",
    "load",
    "resident",
    "subset",
]
