"""Binary weights: every method on one network, each at its own best learning rate.

    python experiments/binary.py --which tune-mnist --data-root DATA     # first: learning rates, on held-out samples
    python experiments/binary.py --which mnist --data-root DATA

784-512-512-10 on MNIST and Fashion-MNIST; on the first 20,000 images of CIFAR-10 two convolutions of 32 and 64
channels, each with a pooling, and a hidden layer of 512 on top, for eight epochs: what a CPU can do
(`experiments/binary_cifar.py` is for a GPU).

All weights are binary, those of the first and the last layer, too; every map, that of the logits included, is followed
by batch normalisation without weights of its own, and there are no biases: nothing but -1 and 1 is learned. Adam with a
cosine and batches of 128 for all but BayesBiNN, whose optimiser is its own. The straight-through estimator has the
optimiser, schedule and clipping of AdaSTE: it is the control. The float network beside has the same layers.

Every method is fed by backpropagation, and by dual propagation: those in `REPEATED` with every seed, the others once.
A learning rate is the one of those tried that had the best accuracy on a tenth of the training samples, held out for
that, after `TUNING` epochs, fed by backpropagation; those of CIFAR-10 with the first 10,000 images.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import tyro
from common import RESULTS, run_all

from dyadnet.train.compare import Comparison
from dyadnet.train.settings import Settings

METHODS: dict[str, dict[str, Any]] = {
    "Float weights": {},
    "AdaSTE": {"binary": "adaste"},
    "Straight-through estimator": {"binary": "ste:clip=1"},
    "BinaryConnect, stochastic": {"binary": "binary-connect:stochastic=true"},
    "ProxQuant": {"binary": "prox-quant:rate=0.01"},
    "MD-tanh": {"binary": "md-tanh"},
    "MD-tanh, stable": {"binary": "md-tanh-stable"},
    "PMF": {"binary": "pmf"},
    "BayesBiNN": {"binary": "bayes-binn", "optimizer": "corrected-momentum"},
    "Bop": {"binary": "bop"},
}
"""What stands in the table, and settings of its own."""
RATES = {"Float weights": (3e-4, 1e-3, 3e-3), "BayesBiNN": (1e-5, 1e-4, 1e-3)}
"""The learning rates that are tried; of the others, `USUAL`."""
USUAL = (1e-3, 3e-3, 1e-2, 3e-2)
THRESHOLDS = (1e-8, 1e-7, 1e-6)  # of Bop, in the place of a learning rate
TUNING = 2
DATA: dict[str, dict[str, Any]] = {
    "mnist": {"dataset": "mnist", "hidden": (512, 512), "epochs": 10},
    "fashion": {"dataset": "fashion-mnist", "hidden": (512, 512), "epochs": 10},
    "cifar": {
        "dataset": "cifar10",
        "train_samples": 20_000,
        "network": "cnn",
        "hidden": (512,),
        "normalise": True,
        "epochs": 8,
    },
}
"""The data sets, and settings of their own."""
TUNED_WITH = {"cifar": 10_000}
"""Training samples for finding learning rates, where they are not all."""
REPEATED = {"Float weights", "AdaSTE", "Straight-through estimator"}
RULES = ("backprop", "dual-propagation")

Which = Literal["mnist", "fashion", "cifar", "tune-mnist", "tune-fashion", "tune-cifar"]


@dataclass(frozen=True)
class Experiment:
    """What to train."""

    which: Which = "mnist"
    """The data set; to find the learning rates, or to use them."""
    data_root: str | None = None
    """Where the data lies; otherwise it is downloaded."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One run of everything with each."""
    epochs: int | None = None
    """A run's length; that of the data set by default."""
    only: tuple[str, ...] = ()
    """Lines of the table to run; all by default."""

    @property
    def data(self) -> str:
        """The short name of the data set."""
        return self.which.removeprefix("tune-")

    def settings(self) -> Settings:
        """What all runs share."""
        own = DATA[self.data]
        epochs = self.epochs or own["epochs"]
        shared = Settings(data_root=self.data_root, batch_norm=True, batch_size=128, optimizer="adam:fused=true")
        return replace(shared, **own | {"epochs": epochs, "align_every": epochs})

    def methods(self) -> dict[str, dict[str, Any]]:
        """The lines of the table that are asked for."""
        return {label: own for label, own in METHODS.items() if not self.only or label in self.only}


def tuning(experiment: Experiment) -> dict[str, Comparison]:
    """Return a run a method and learning rate."""
    samples = TUNED_WITH.get(experiment.data)
    shared = replace(experiment.settings(), epochs=TUNING, validation=0.1, align_every=0, train_samples=samples)
    return {
        f"{label}, {rate:g}": Comparison(("backprop",), (0,), with_rate(replace(shared, **own), rate))
        for label, own in experiment.methods().items()
        for rate in rates(label)
    }


def comparisons(experiment: Experiment) -> dict[str, Comparison]:
    """Return one comparison a line of the table, or two where dual propagation runs once."""
    found: dict[str, Comparison] = {}
    chosen = best_rates(experiment.data)
    for label, own in experiment.methods().items():
        settings = with_rate(replace(experiment.settings(), **own), chosen[label])
        if label in REPEATED:
            found[label] = Comparison(RULES, experiment.seeds, settings)
        else:
            found[label] = Comparison(RULES[:1], experiment.seeds, settings)
            found[f"{label} "] = Comparison(RULES[1:], experiment.seeds[:1], settings)
    return found


def rates(label: str) -> tuple[float, ...]:
    """Return the learning rates to try."""
    return THRESHOLDS if label == "Bop" else RATES.get(label, USUAL)


def with_rate(settings: Settings, rate: float) -> Settings:
    """Return settings with a learning rate, or with the threshold that stands for it."""
    if settings.binary == "bop":
        return replace(settings, binary=f"bop:threshold={rate:g}")
    return replace(settings, learning_rate=rate)


def best_rates(data: str) -> Mapping[str, float]:
    """Return the learning rate of every method that was best in the stored tuning."""
    path = RESULTS / f"{data}-binary-tuning.json"
    if not path.exists():
        raise SystemExit(f"{path} is missing: run --which tune-{data} first")
    found: dict[str, tuple[float, float]] = {}
    for record in json.loads(path.read_text())["records"]:
        label, _, rate = record["label"].rpartition(", ")
        accuracy = max(epoch["validation_accuracy"] for epoch in record["history"])
        found[label] = max(found.get(label, (0.0, 0.0)), (accuracy, float(rate)))
    return {label: rate for label, (_, rate) in found.items()}


def main(experiment: Experiment) -> None:
    """Run and store."""
    if experiment.which.startswith("tune-"):
        run_all(f"{experiment.data}-binary-tuning", tuning(experiment))
    else:
        run_all(f"{experiment.data}-binary", comparisons(experiment))


if __name__ == "__main__":
    main(tyro.cli(Experiment))
