"""CIFAR-10 with VGG16: backpropagation against transposed dual propagation over alpha and beta.

    python experiments/cifar10_vgg16.py --data-root DATA                    # 130 epochs; a GPU, data resident on it
    python experiments/cifar10_vgg16.py --data-root DATA --smoke            # a minute on a CPU

The protocol of paper D (and C): VGG16 without normalisation layers, LeCun initialisation and zero biases; SGD with
momentum 0.9 and weight decay 5e-4, batch 100, learning rate from 1e-3 up to 0.025 in 10 epochs and down to 2e-6 by a
cosine that ends at epoch 120; random crops and flips; 90 % of the training images to train, 10 % to choose the epoch
that is tested. Paper D's code runs sixteen upward passes a step; one sweep reaches the same states (exactly for alpha 0
and 1). The seeds are theirs.
"""

from dataclasses import dataclass, replace

import tyro
from common import run

from dyadnet.train.compare import Comparison
from dyadnet.train.settings import Settings

GRID = [(alpha, beta) for alpha in (0, 0.5, 1) for beta in (0.01, 0.1, 1)] + [(0, 10)]
RULES = ("backprop", *(f"dual-propagation:alpha={alpha},beta={beta}" for alpha, beta in GRID))
PROTOCOL = Settings(
    dataset="cifar10",
    validation=0.1,
    normalise=True,
    augment=True,
    network="vgg16",
    init="lecun",
    optimizer="sgd:momentum=0.9,weight_decay=5e-4",
    learning_rate=0.025,
    warmup_epochs=10,
    warmup_start=1e-3,
    final_learning_rate=2e-6,
    decay_epochs=120,
    epochs=130,
    batch_size=100,
    align_every=10,
    align_samples=100,
)
SMOKE = replace(
    PROTOCOL,
    network="cnn",
    hidden=(64,),
    train_samples=1000,
    test_samples=500,
    epochs=2,
    warmup_epochs=1,
    decay_epochs=None,
    align_every=1,
)


@dataclass(frozen=True)
class Experiment:
    """What to run."""

    data_root: str | None = None
    """Where the data lies; otherwise it is downloaded."""
    seeds: tuple[int, ...] = (1988, 1542, 8697)
    """One run of every rule with each."""
    rules: tuple[str, ...] = RULES
    """Backpropagation and paper D's grid of alpha and beta."""
    smoke: bool = False
    """A small network on a few images instead, to see that all works."""


def main(experiment: Experiment) -> None:
    """Run and store."""
    settings = replace(SMOKE if experiment.smoke else PROTOCOL, data_root=experiment.data_root)
    name = "cifar10-smoke" if experiment.smoke else "cifar10-vgg16"
    run(name, Comparison(experiment.rules, experiment.seeds, settings))


if __name__ == "__main__":
    main(tyro.cli(Experiment))
