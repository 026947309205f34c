"""Resistive networks on MNIST: equilibrium propagation in a circuit of resistors and ideal diodes.

    python experiments/resistive.py --data-root DATA

784-512-10 with inputs doubled to 1568 sources, no amplifiers, biases as current sources; the squared error of one-hot
classes. Every phase makes 4 updates of the odd and the even layers, which are exact for a layer given the others, and
both nudged phases start from the free one. Adam moves the conductances, and those that become negative are put back to
0. A tenth of the training images is held out: the gain of the inputs was chosen on them, among 100, 200 and 400 (which
`--which tuning` does again), and the epoch that counts is that which is best on them.

Beside the centred nudge stand the one towards the target alone, which is passive at any strength, and the gradient of
the free equilibrium, by implicit differentiation.
"""

from dataclasses import dataclass, replace
from typing import Literal

import tyro
from common import run_all

from dyadnet.train.compare import Comparison
from dyadnet.train.settings import Settings

RULES = (
    "backprop",
    "equilibrium-propagation:beta=1",
    "equilibrium-propagation:beta=1,variant=positive",
)
GAINS, SHORT = (100, 200, 400), 20000
SETTINGS = Settings(
    dataset="mnist",
    network="resistive",
    circuit="input_gain=200",
    hidden=(512,),
    iterations=4,
    epochs=5,
    batch_size=16,
    learning_rate=2e-4,
    optimizer="adam:fused=true",
    validation=0.1,
    align_samples=200,
)


@dataclass(frozen=True)
class Experiment:
    """What to train."""

    which: Literal["mnist", "tuning"] = "mnist"
    """The rules, or the gain of the inputs: one epoch of each on a third of the training images."""
    data_root: str | None = None
    """Where the data lies; otherwise it is downloaded."""
    seeds: tuple[int, ...] = (0,)
    """One run of every rule with each."""


def main(experiment: Experiment) -> None:
    """Run and store."""
    settings = replace(SETTINGS, data_root=experiment.data_root)
    if experiment.which == "mnist":
        run_all("mnist-resistive", {"784-512-10": Comparison(RULES, experiment.seeds, settings)})
        return
    short = replace(settings, epochs=1, train_samples=SHORT)
    gains = {f"input gain {gain}": replace(short, circuit=f"input_gain={gain}") for gain in GAINS}
    tuned = {label: Comparison(RULES[1:2], experiment.seeds, settings) for label, settings in gains.items()}
    run_all("mnist-resistive-tuning", tuned)


if __name__ == "__main__":
    main(tyro.cli(Experiment))
