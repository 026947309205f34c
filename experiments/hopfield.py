"""Networks with feedback on MNIST and Fashion-MNIST: symmetries, densely connected structures, contrastive rules.

    python experiments/hopfield.py --which mnist-symmetry --data-root DATA

- symmetry: dyadic learning in 784-256-256-10 for `lam` from 0 (skew-symmetric) over 1/2 (feedforward) to 1 (symmetric);
  thesis chapter 4, end of section 4.2. Weights are drawn as torch draws them, those of the feedforward network as He.
- structure: dyadic learning in a densely connected network of 266 units, 10 of them outputs. Weight decay on the
  connections between units keeps those of the free network small enough for its states to settle.
- contrast: rules that compare two or three phases of the symmetric 784-512-10, beside the exact gradient; the settings
  of `beta` are those of Laborieux et al. and of Stern et al. scaled to the loss here.
- convolutional: convolutions of 32 and 64 channels, each with a pooling of averages, and a hidden layer of 128, for 4
  epochs of the first 10,000 images at a batch of 20: small batches, since what a symmetric network learns from a step
  is little at first. 2,000 test images. Without feedback the pooling is of maxima, and one sweep of dyads (dual
  propagation) takes the place of a relaxation: maxima of clipped units tie, and dyads that relax hop between them.

Hard-sigmoid units, a linear readout with the squared error, Adam at 1e-3 with a cosine. States settle to a residual of
1e-3; the share of samples that had not is in every record.
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import tyro
from common import run_all

from dyadnet.network.dense import Structure
from dyadnet.train.compare import Comparison
from dyadnet.train.settings import Settings

Which = Literal[
    "mnist-symmetry",
    "fashion-symmetry",
    "mnist-structure",
    "fashion-structure",
    "mnist-contrast",
    "fashion-contrast",
    "mnist-convolutional",
    "fashion-convolutional",
]
LAMS = (0.0, 0.25, 0.5, 0.75, 1.0)
CONTRASTS = (
    "recurrent-backprop",
    "equilibrium-propagation:variant=centred",
    "equilibrium-propagation:variant=positive",
    "equilibrium-propagation:variant=negative",
    "equilibrium-propagation:variant=random-sign",
    "contrastive-hebbian",
    "coupled-learning:variant=centred",
    "coupled-learning:variant=positive",
    "coupled-learning:variant=negative",
)
BASE = Settings(
    hidden=(256, 256),
    loss="squared-error",
    activation="hard-sigmoid",
    epochs=5,
    batch_size=100,
    learning_rate=1e-3,
    optimizer="adam:fused=true",
)


CONVOLUTIONAL = {"lam = 0": ("dyadic", 0.0), "lam = 0.5": ("dual-propagation", 0.5), "lam = 1": ("dyadic", 1.0)} | {
    "lam = 1, equilibrium propagation": ("equilibrium-propagation", 1.0)
}


@dataclass(frozen=True)
class Experiment:
    """What to train."""

    which: Which = "mnist-symmetry"
    """Data set, and what is compared."""
    data_root: str | None = None
    """Where the data lies; otherwise it is downloaded."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One run of everything with each."""
    epochs: int | None = None
    """A run's length; by default 5, 10 for the contrastive rules, and 4 for convolutions."""
    only: tuple[str, ...] = ()
    """Lines of the table to run; all by default."""


def of_symmetry(settings: Settings, lam: float) -> Settings:
    """Return the settings of a layered network with the feedback of one symmetry."""
    return replace(settings, network="hopfield", lam=lam, init="he" if lam == 0.5 else "torch")


def comparisons(experiment: Experiment) -> dict[str, Comparison]:
    """Return the comparisons of an experiment by what distinguishes them."""
    dataset, _, kind = experiment.which.partition("-")
    settings = replace(
        BASE, dataset="fashion-mnist" if dataset == "fashion" else dataset, data_root=experiment.data_root
    )
    if kind == "symmetry":
        made = {f"lam = {lam:g}": (("dyadic",), of_symmetry(settings, lam)) for lam in LAMS}
    elif kind == "structure":
        decayed = replace(
            settings, network="dense", hidden=(256,), optimizer="adamw:weight_decay=0", coupling_decay=3.0
        )
        structures = (name for name in get_args(Structure) if name != "interpolated")
        made = {structure: (("dyadic",), replace(decayed, structure=structure)) for structure in structures}
        made["interpolated, lam = 0.25"] = ("dyadic",), replace(decayed, structure="interpolated", lam=0.25)
    elif kind == "convolutional":
        few = replace(settings, hidden=(128,), batch_size=20, train_samples=10_000, test_samples=2000, epochs=4)
        made = {
            label: ((rule,), replace(of_symmetry(few, lam), network="cnn"))
            for label, (rule, lam) in CONVOLUTIONAL.items()
        }
    else:
        made = {"lam = 1": (CONTRASTS, replace(of_symmetry(settings, 1.0), hidden=(512,), epochs=10))}
    return {
        label: Comparison(rules, experiment.seeds, replace(chosen, epochs=experiment.epochs or chosen.epochs))
        for label, (rules, chosen) in made.items()
        if not experiment.only or label in experiment.only
    }


def main(experiment: Experiment) -> None:
    """Run and store."""
    run_all(experiment.which, comparisons(experiment))


if __name__ == "__main__":
    main(tyro.cli(Experiment))
