"""Every rule of the library on one network, 784-256-256-10, with equal epochs: the table that opens the README.

    python experiments/rules.py --which mnist --data-root DATA

A rule has the network that it needs, of these widths, and the settings that `dyadnet train` gives it where nothing else
is said here; the optimiser and its schedule are the same for all: Adam at 1e-3 with a cosine, batches of 128. Rules for
networks with feedback train one: skew-symmetric (`lam = 0`) where no energy is needed, symmetric (`lam = 1`) where one
is. Kolen-Pollack's weights decay, decoupled, at 0.5. The time of a step is in ratio to backpropagation of the
feedforward network of the same weights. Rules in `SLOW`, which take a hundred passes a step, run once.
"""

from dataclasses import dataclass, replace
from typing import Literal

import tyro
from common import run_all

from dyadnet.train.compare import Comparison
from dyadnet.train.settings import Settings

DECAYED = "adamw:fused=true,weight_decay=0.5"  # what feedback weights need to forget where they began

RULES: dict[str, tuple[str, dict[str, str]]] = {
    "Backpropagation": ("backprop", {}),
    "Dual propagation, alpha = 0": ("dual-propagation:alpha=0", {}),
    "Dual propagation, alpha = 1/2": ("dual-propagation:alpha=0.5", {}),
    "Dual propagation, alpha = 1": ("dual-propagation:alpha=1", {}),
    "Feedback alignment": ("feedback-alignment", {}),
    "Sign-symmetric feedback": ("feedback-alignment", {"feedback": "sign-symmetric"}),
    "Kolen-Pollack": ("feedback-alignment", {"feedback": "kolen-pollack", "optimizer": DECAYED}),
    "Direct feedback alignment": ("direct-feedback-alignment", {}),
    "Dyadic learning, skew": ("dyadic", {}),
    "Recurrent backpropagation, skew": ("recurrent-backprop", {}),
    "Equilibrium propagation": ("equilibrium-propagation", {}),
    "Contrastive Hebbian learning": ("contrastive-hebbian", {}),
    "Coupled learning": ("coupled-learning", {}),
    "CHL with random feedback": ("random-feedback-chl", {}),
    "Predictive coding": ("predictive-coding", {}),
    "Predictive coding, 8 steps of 0.1": ("predictive-coding:steps=8,step=0.1", {}),
    "Auxiliary coordinates": ("auxiliary-coordinates", {}),
    "Lifted proximal, contrastive": ("lifted-proximal", {}),
    "LPOM": ("lpom", {}),
    "LRRN": ("lrrn", {}),
}
"""What stands in the table: the rule, and settings of its own."""
SLOW = {"Contrastive Hebbian learning", "Coupled learning"}


@dataclass(frozen=True)
class Experiment:
    """What to train."""

    which: Literal["mnist", "fashion"] = "mnist"
    """The data set."""
    data_root: str | None = None
    """Where the data lies; otherwise it is downloaded."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One run of everything with each, but of what is slow."""
    epochs: int = 10
    """A run's length."""
    only: tuple[str, ...] = ()
    """Lines of the table to run; all by default."""


def comparisons(experiment: Experiment) -> dict[str, Comparison]:
    """Return one comparison a line of the table."""
    settings = Settings(
        dataset="fashion-mnist" if experiment.which == "fashion" else "mnist",
        data_root=experiment.data_root,
        hidden=(256, 256),
        epochs=experiment.epochs,
        batch_size=128,
        optimizer="adam:fused=true",
    )
    seeds = experiment.seeds
    return {
        label: Comparison((rule,), seeds[:1] if label in SLOW else seeds, replace(settings, **own))
        for label, (rule, own) in RULES.items()
        if not experiment.only or label in experiment.only
    }


def main(experiment: Experiment) -> None:
    """Run and store."""
    run_all(f"{experiment.which}-rules", comparisons(experiment))


if __name__ == "__main__":
    main(tyro.cli(Experiment))
