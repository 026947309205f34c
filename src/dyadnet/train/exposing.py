"""What the trained network of a run withstands: attacks and noise on some test samples, and how far it can move."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dyadnet import data
from dyadnet.audit.attack import Box
from dyadnet.audit.exposure import LOOKED_AT, expose
from dyadnet.data.batching import inputs
from dyadnet.train import folder
from dyadnet.train.loop import Training, final_weights
from dyadnet.train.run import Request, restored
from dyadnet.train.settling import counted, finite


def exposed(request: Request, path: Path, dataset: data.Dataset, samples: int) -> dict[str, Any]:
    """Return the record of a finished run's network, from its folder if it lies there, where it is kept.

    Args:
        request: the run.
        path: its folder.
        dataset: whose first test samples are taken.
        samples: how many; Lipschitz constants are estimated at the first 50 of them.
    """
    kept = path / folder.EXPOSURE
    if not kept.exists():
        training = restored(request, path, dataset)
        training.net.eval()
        with counted(), final_weights(training):
            folder.write_json(kept, _measured(training, samples))
    return folder.read_json(kept)


def _measured(training: Training, samples: int) -> dict[str, Any]:
    """Measure the network as it is."""
    dataset, normalise = training.dataset, training.settings.normalise
    x, y = next(data.batches(dataset, dataset.test, samples, normalise=normalise))
    low, high = limits(dataset)
    found = dataclasses.asdict(expose(training.net, x, y, box=box(dataset, x, normalise=normalise)))
    found["lipschitz"]["bound"] = finite(found["lipschitz"]["bound"])
    about = {"samples": len(x), "looked_at": min(LOOKED_AT, len(x)), "normalised": normalise}
    return about | {"range": [low / dataset.maximum, high / dataset.maximum]} | found


def limits(dataset: data.Dataset) -> tuple[float, float]:
    """Return the least and the largest value of valid raw images: of bytes all, of floats those that are there."""
    splits = (dataset.train.images, dataset.test.images)
    if not splits[0].is_floating_point():
        return 0.0, dataset.maximum
    return min(float(images.min()) for images in splits), max(float(images.max()) for images in splits)


def box(dataset: data.Dataset, x: Tensor, *, normalise: bool) -> Box:
    """Return the box of valid inputs; its unit is their range, so that a size of 1 takes black to white.

    Args:
        dataset: the data set.
        x: some inputs of it, `(batch, ...)`.
        normalise: whether they are normalised.
    """
    low, high = (inputs(dataset, torch.full_like(x[:1], limit), normalise).to(x) for limit in limits(dataset))
    return Box(low, high, high - low)
