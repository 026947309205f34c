"""Which rule survives an imperfect circuit, and how strongly it has to teach: the study of thesis section 6.2.

    python experiments/hardware.py --which mnist-noise --limits --data-root DATA
    python experiments/hardware.py --which mnist-feedback     weights down unlike those up
    python experiments/hardware.py --which mnist-bits         levels of stored weights
    python experiments/hardware.py --which mnist-offset       an offset of every estimated gradient

and the same for fashion. Rules train 784-128-64-10 with hard-sigmoid units and the squared error on the first 6,000
training images for two epochs, by Adam at 2e-3, batches of 50, and answer for the first 2,000 test images, on another
specimen of the circuit for every seed. States lie in [0, 1]: noise is in shares of their range.
"""

from dataclasses import asdict, dataclass, replace

import tyro
from common import RESULTS, place
from rich.console import Console
from rich.progress import track

from dyadnet.audit.tolerance import tolerances
from dyadnet.report.sweep import sweep_table
from dyadnet.train import folder
from dyadnet.train.environment import environment
from dyadnet.train.run import load_dataset
from dyadnet.train.settings import Settings
from dyadnet.train.sweep import FEEDBACK, Sweep, append, run_cell, written

RULES: dict[str, tuple[str, float]] = {
    "EP, one-sided": ("equilibrium-propagation:variant=positive", 1.0),
    "EP, centred": ("equilibrium-propagation", 1.0),
    "CHL": ("contrastive-hebbian", 1.0),
    "Coupled learning": ("coupled-learning", 1.0),
    "DP, alpha = 0": ("dual-propagation:alpha=0", 0.5),
    "DP, alpha = 1/2": ("dual-propagation:alpha=0.5", 0.5),
    "DP, alpha = 1": ("dual-propagation:alpha=1", 0.5),
    "Dyadic, symmetric": ("dyadic", 1.0),
    "Dyadic, skew": ("dyadic", 0.0),
    "Dyadic, feedforward": ("dyadic", 0.5),
}
"""Every line: the rule, and the feedback `lam` of the network that it trains."""
SOURCES: dict[str, tuple[str, tuple[float, ...]]] = {
    "noise": ("reading.noise", (0.01, 0.03, 0.1, 0.3)),
    "feedback": (FEEDBACK, (0.0, 0.03, 0.1, 0.3)),
    "bits": ("synapses.bits", (2, 3, 4, 6, 8)),
    "offset": ("updates.offset", (0.0, 0.03, 0.1, 0.3, 1.0)),
}
STRENGTHS = (0.1, 0.5)
STRONG = {"EP, one-sided": (4.0,), "EP, centred": (0.7,), "Coupled": (1.0,), "DP": (4.0,), "Dyadic": (1.0,)}
LIMITS = {"EP, centred": (0.95,), "Dyadic": (1.4, 1.9)}
"""Near the limits of a stable nudge away from the target: 1 for a centred one, 2 for that of dyads."""
USUAL = 0.25
"""Where the strength is not what is asked about."""


@dataclass(frozen=True)
class Study:
    """What to run."""

    which: str = "mnist-noise"
    """A data set, mnist or fashion, and an imperfection: noise, feedback, bits or offset."""
    data_root: str | None = None
    """Where the data lies; otherwise it is downloaded."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Of runs and specimens."""
    train_samples: int = 6000
    """Training images."""
    epochs: int = 2
    """A run's length."""
    limits: bool = False
    """Also nudges so strong that they cease to be stable."""


def sweeps(study: Study) -> dict[str, Sweep]:
    """Return one sweep a line."""
    data, _, imperfection = study.which.partition("-")
    source, levels = SOURCES[imperfection]
    settings = Settings(
        dataset={"mnist": "mnist", "fashion": "fashion-mnist"}[data],
        data_root=study.data_root,
        train_samples=study.train_samples,
        test_samples=2000,
        hidden=(128, 64),
        activation="hard-sigmoid",
        loss="squared-error",
        epochs=study.epochs,
        batch_size=50,
        learning_rate=2e-3,
        optimizer="adam:fused=true",
        align_every=study.epochs,
    )
    return {
        label: Sweep(
            (rule,),
            strengths(label, imperfection, limits=study.limits),
            source,
            levels,
            study.seeds,
            replace(settings, lam=lam),
        )
        for label, (rule, lam) in RULES.items()
    }


def strengths(label: str, imperfection: str, *, limits: bool) -> tuple[float, ...]:
    """Return the values of `beta` of a line: several where noise asks for strong nudges."""
    if imperfection != "noise":
        return (USUAL,)
    found = [STRENGTHS, *(STRONG[start] for start in STRONG if label.startswith(start))]
    found += [LIMITS[start] for start in LIMITS if limits and label.startswith(start)]
    return tuple(beta for some in found for beta in some)


def main(study: Study) -> None:
    """Run what is missing, a seed after the other, and store."""
    plans, name = sweeps(study), f"hardware-{study.which}"
    dataset = load_dataset(plans["CHL"].settings)
    cells = [(label, cell) for label, plan in plans.items() for cell in plan.cells()]
    cells.sort(key=lambda labelled: labelled[1].seed)
    for label, cell in track(cells, "training on circuits", console=Console(stderr=True)):
        path = place(name, label)
        path.mkdir(parents=True, exist_ok=True)
        if cell not in written(path):
            append(path, run_cell(plans[label], cell, dataset))
    there = {label: written(place(name, label)) for label in plans}
    records = [there[label][cell] | {"rule": label} for label, cell in cells]
    found = tolerances(records, plans["CHL"].source)
    Console().print(sweep_table(plans["CHL"].source, found))
    result = {
        "name": name,
        "settings": asdict(plans["CHL"].settings) | {"data_root": None, "lam": None},
        "seeds": list(study.seeds),
        "environment": environment(),
        "source": plans["CHL"].source,
        "rules": [asdict(tolerance) for tolerance in found],
    }
    folder.write_json(RESULTS / f"{name}.json", result)


if __name__ == "__main__":
    main(tyro.cli(Study))
