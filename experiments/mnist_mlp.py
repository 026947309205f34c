"""Backpropagation against dual propagation (alpha 0, 1/2, 1) on MNIST and Fashion-MNIST.

    python experiments/mnist_mlp.py --which mnist-512 --data-root DATA

Paper D compares alpha on a 784-512-512-10 network; paper C trains 784-1000-1000-1000-1000-10 (squared error, Adam at
3e-5, 100 epochs). Here every rule has the same Adam, cosine decay, cross-entropy and He initialisation.
"""

from dataclasses import dataclass, replace
from typing import Literal

import tyro
from common import run

from dyadnet.train.compare import Comparison
from dyadnet.train.settings import Settings

RULES = (
    "backprop",
    "dual-propagation:alpha=0,beta=0.1",
    "dual-propagation:alpha=0.5,beta=0.1",
    "dual-propagation:alpha=1,beta=0.1",
)
MNIST_512 = Settings(
    dataset="mnist",
    hidden=(512, 512),
    epochs=20,
    batch_size=100,
    learning_rate=1e-3,
    optimizer="adam:fused=true",
    align_samples=200,
)
SETTINGS = {
    "mnist-512": MNIST_512,
    "fashion-512": replace(MNIST_512, dataset="fashion-mnist"),
    "mnist-1000x4": replace(MNIST_512, hidden=(1000,) * 4, epochs=5),
}


@dataclass(frozen=True)
class Experiment:
    """Which network and data to run."""

    which: Literal["mnist-512", "fashion-512", "mnist-1000x4"] = "mnist-512"
    """Data set and network."""
    data_root: str | None = None
    """Where the data lies; otherwise it is downloaded."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One run of every rule with each."""


def main(experiment: Experiment) -> None:
    """Run and store."""
    settings = replace(SETTINGS[experiment.which], data_root=experiment.data_root)
    run(experiment.which, Comparison(RULES, experiment.seeds, settings))


if __name__ == "__main__":
    main(tyro.cli(Experiment))
