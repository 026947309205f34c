"""How well dual propagation agrees with backpropagation over `alpha`, `beta`, sweeps, depth and training.

    python experiments/agreement.py --data-root DATA

ReLU networks of width 256 on MNIST, cross-entropy, in single precision as in training; the first 500 images. Trained
ones had one epoch of backpropagation, Adam at 1e-3 and batches of 128. Kept are the cosine, the ratio of lengths and
the share of equal signs of the layer that is furthest off, each by itself.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from common import RESULTS
from rich.console import Console

from dyadnet import AbstractRule, DualPropagation, Layered, alignment, cross_entropy, data
from dyadnet.data.dataset import Dataset
from dyadnet.relax.schedule import Sweeps
from dyadnet.train.environment import environment
from dyadnet.train.folder import write_json
from dyadnet.train.models import initialise, mlp


@dataclass(frozen=True)
class Experiment:
    """What to compare."""

    data_root: str | None = None
    """Where the data lies; otherwise it is downloaded."""
    alphas: tuple[float, ...] = (0.0, 0.5, 1.0)
    """Asymmetries of the nudge."""
    betas: tuple[float, ...] = (0.01, 0.1, 0.5, 1.0)
    """Strengths of the nudge."""
    sweeps: tuple[int, ...] = (1, 5)
    """Forward and backward passes a step."""
    depths: tuple[int, ...] = (1, 2, 4, 8)
    """Hidden layers."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the weights."""
    samples: int = 500
    """Images of the batch."""


def networks(experiment: Experiment, dataset: Dataset) -> Iterator[tuple[dict[str, Any], Layered]]:
    """Yield what a network is, and the network: as drawn, and trained."""
    for depth in experiment.depths:
        for seed in experiment.seeds:
            torch.manual_seed(seed)
            model = mlp(dataset.shape, dataset.classes, (256,) * depth)
            initialise(model, "he")
            net, optimizer = Layered.from_sequential(model), torch.optim.Adam(model.parameters(), fused=True)
            yield {"depth": depth, "seed": seed, "trained": False}, net
            generator = torch.Generator().manual_seed(seed)
            for x, y in data.batches(dataset, dataset.train, 128, generator=generator):
                optimizer.zero_grad()
                cross_entropy(net(x), y).mean().backward()
                optimizer.step()
            yield {"depth": depth, "seed": seed, "trained": True}, net


def rules(experiment: Experiment) -> Iterator[tuple[dict[str, Any], AbstractRule]]:
    """Yield the settings of a rule, and the rule."""
    for alpha in experiment.alphas:
        for beta in experiment.betas:
            for sweeps in experiment.sweeps:
                rule = DualPropagation(beta=beta, alpha=alpha, schedule=Sweeps(sweeps))
                yield {"alpha": alpha, "beta": beta, "sweeps": sweeps}, rule


def main(experiment: Experiment) -> None:
    """Compare all and store the records."""
    torch.set_num_threads(1)
    root = None if experiment.data_root is None else Path(experiment.data_root)
    dataset = data.load("mnist", root)
    x, y = next(data.batches(dataset, dataset.test, experiment.samples))
    records: list[dict[str, Any]] = []
    for of_net, net in networks(experiment, dataset):
        for of_rule, rule in rules(experiment):
            layers = alignment(rule, net, cross_entropy, x, y)
            furthest = max(layers, key=lambda layer: abs(layer.norm_ratio - 1))
            lowest = {name: min(getattr(layer, name) for layer in layers) for name in ("cosine", "same_sign")}
            records.append(of_net | of_rule | lowest | {"norm_ratio": furthest.norm_ratio})
    settings = dataclasses.asdict(experiment) | {"data_root": None}
    result = {"name": "agreement", "settings": settings, "environment": environment(), "records": records}
    write_json(RESULTS / "agreement.json", result)
    Console().print(f"{len(records)} records: {RESULTS / 'agreement.json'}")


if __name__ == "__main__":
    main(tyro.cli(Experiment))
