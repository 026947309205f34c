"""Schedules of papers C and D on MNIST: does the order in which neurons are updated matter?

    python experiments/schedules.py --data-root DATA

784-512-512-10 as in `mnist_mlp.py`, at fewer epochs, since a random order visits every layer many times a step. The
carried states of paper C ("corrupted") start each batch from the states that the batch before left behind.
"""

from dataclasses import dataclass, replace

import tyro
from common import run
from mnist_mlp import MNIST_512

from dyadnet.train.compare import Comparison

RULE = "dual-propagation:alpha=0.5,beta=0.1"
RULES = (
    "backprop",
    RULE,
    f"{RULE},schedule=sweeps,passes=3",
    f"{RULE},schedule=bottom-up",
    f"{RULE},schedule=odd-even",
    f"{RULE},schedule=parallel",
    f"{RULE},schedule=random-order",
)


@dataclass(frozen=True)
class Experiment:
    """How long to train."""

    data_root: str | None = None
    """Where the data lies; otherwise it is downloaded."""
    epochs: int = 5
    """A run's length."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One run of every schedule with each."""


def main(experiment: Experiment) -> None:
    """Run and store the schedules from rest, then those from carried states."""
    settings = replace(MNIST_512, data_root=experiment.data_root, epochs=experiment.epochs)
    run("schedules", Comparison(RULES, experiment.seeds, settings))
    carried = Comparison(
        (RULE, f"{RULE},schedule=sweeps,passes=3"), experiment.seeds, replace(settings, carry_states=True)
    )
    run("schedules-carried", carried)


if __name__ == "__main__":
    main(tyro.cli(Experiment))
