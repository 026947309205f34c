"""Binary weights on CIFAR-10 and CIFAR-100: VGG16 and ResNet18 by paper B's protocol, and a small network for a CPU.

    python experiments/binary_cifar.py --data-root DATA                                   # a GPU, data resident on it
    python experiments/binary_cifar.py --dataset cifar100 --network resnet18 --data-root DATA
    python experiments/binary_cifar.py --network vgg --epochs 20 --data-root DATA         # a CPU, hours
    python experiments/binary_cifar.py --data-root DATA --smoke                           # a minute on a CPU

All weights are binary; batch normalisation without weights of its own follows every map, that of the logits included.
Random crops and flips, batches of 128, a cosine, a tenth of the training images held out to choose the epoch that is
tested. Published: 700 epochs for CIFAR-10 and 500 for CIFAR-100, seeds 100 to 500, and the loop of `published-adaste`,
momentum 0.9 with a weight decay of 1 at a learning rate of 3e-4. The straight-through estimator in the same loop, and
both in ours with Adam, are the controls.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import tyro
from common import run_all

from dyadnet.train.compare import Comparison
from dyadnet.train.settings import Settings

PUBLISHED = {"optimizer": "corrected-momentum:momentum=0.9,weight_decay=1", "learning_rate": 3e-4}
METHODS: dict[str, dict[str, Any]] = {
    "Float weights": {"learning_rate": 1e-3},
    "AdaSTE": {"binary": "adaste"},
    "AdaSTE, the paper's wells": {"binary": "adaste:alpha=0.01,mu=0.01,anneal=0.4"},
    "Straight-through estimator": {"binary": "ste:clip=1"},
    "AdaSTE, published loop": {"binary": "published-adaste", **PUBLISHED},
    "BayesBiNN": {"binary": "bayes-binn", "optimizer": "corrected-momentum:momentum=0.9", "learning_rate": 3e-4},
    "MD-tanh, stable": {"binary": "md-tanh-stable"},
    "PMF": {"binary": "pmf"},
    "ProxQuant": {"binary": "prox-quant:rate=1e-4"},
    "Bop": {"binary": "bop"},
}
"""What stands in the table, and settings of its own."""
EPOCHS = {"cifar10": 700, "cifar100": 500}


@dataclass(frozen=True)
class Experiment:
    """What to train."""

    dataset: Literal["cifar10", "cifar100"] = "cifar10"
    """The data set."""
    network: Literal["vgg16", "resnet18", "vgg"] = "vgg16"
    """The network; vgg is the small one."""
    data_root: str | None = None
    """Where the data lies; otherwise it is downloaded."""
    seeds: tuple[int, ...] = (100, 200, 300, 400, 500)
    """One run of every method with each."""
    rules: tuple[str, ...] = ("backprop", "dual-propagation")
    """What feeds the optimiser."""
    epochs: int | None = None
    """A run's length; the paper's by default."""
    only: tuple[str, ...] = ()
    """Lines of the table to run; all by default."""
    smoke: bool = False
    """A small network on a few images instead, to see that all works."""


def settings(experiment: Experiment) -> Settings:
    """Return what all runs share."""
    epochs = experiment.epochs or EPOCHS[experiment.dataset]
    shared = Settings(
        dataset=experiment.dataset,
        data_root=experiment.data_root,
        validation=0.1,
        normalise=True,
        augment=True,
        network=experiment.network,
        hidden=(512,),
        batch_norm=True,
        optimizer="adam:fused=true",
        learning_rate=1e-2,
        epochs=epochs,
        batch_size=128,
        align_every=epochs,
    )
    return replace(shared, **SMOKE) if experiment.smoke else shared


SMOKE: dict[str, Any] = {
    "network": "cnn",
    "hidden": (64,),
    "train_samples": 1000,
    "test_samples": 500,
    "epochs": 2,
    "batch_size": 50,
    "align_every": 2,
}


def main(experiment: Experiment) -> None:
    """Run and store."""
    shared = settings(experiment)
    wanted = {label: own for label, own in METHODS.items() if not experiment.only or label in experiment.only}
    parts = {
        label: Comparison(experiment.rules, experiment.seeds, replace(shared, **own)) for label, own in wanted.items()
    }
    run_all("binary-smoke" if experiment.smoke else f"{experiment.dataset}-{experiment.network}-binary", parts)


if __name__ == "__main__":
    main(tyro.cli(Experiment))
