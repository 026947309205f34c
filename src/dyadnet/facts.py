"""The commands that say what there is: data sets, rules, and what this machine computes with."""

import dataclasses
from pathlib import Path
from typing import get_args

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dyadnet import data, names
from dyadnet.train.environment import environment
from dyadnet.train.models import NetworkName


@dataclasses.dataclass(frozen=True)
class Data:
    """Get a data set, check its files, and say what is in it.

    Example: dyadnet data --dataset fashion-mnist
    """

    dataset: str = "digits"
    """digits, mnist, fashion-mnist, cifar10, cifar100, or an .npz file."""
    data_root: str | None = None
    """Where the data already lies; without it, $DYADNET_DATA or a download into the user's cache."""

    def __call__(self, console: Console) -> None:
        """Print the facts."""
        found = data.load(self.dataset, Path(self.data_root) if self.data_root else None)
        rows = Table(title=Text(found.name), title_justify="left")
        for heading in ("split", "samples", "shape", "per class"):
            rows.add_column(heading)
        for name, split in (("train", found.train), ("test", found.test)):
            counts = torch.bincount(split.labels, minlength=found.classes).tolist()
            spread = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
            rows.add_row(name, str(len(split)), "x".join(map(str, found.shape)), spread)
        console.print(rows)
        scales = (f"{mean:.4f} ± {std:.4f}" for mean, std in zip(found.mean, found.std, strict=True))
        console.print("per channel, inputs in [0, 1]:", *scales)


@dataclasses.dataclass(frozen=True)
class Info:
    """List the rules with their settings, the data sets, and what this machine computes with.

    Example: dyadnet info
    """

    def __call__(self, console: Console) -> None:
        """Print them."""
        for rule in names.RULES:
            console.print(rule, style="bold")
            for setting, takes in names.rule_settings(rule).items():
                console.print(f"  {setting}={takes}")
        console.print(f"losses:    {', '.join(names.LOSSES)}")
        console.print(f"networks:  {', '.join(get_args(NetworkName))}")
        console.print(f"orders:    {', '.join(names.SCHEDULES)}")
        console.print(f"solvers:   {'; '.join(names.defaults(names.SOLVERS))}", soft_wrap=True)
        console.print(f"feedback:  {'; '.join(names.defaults(names.PATHS))}", soft_wrap=True)
        console.print(f"binary:    {'; '.join(names.defaults(names.BINARY))}", soft_wrap=True)
        console.print(
            f"hardware:  {', '.join(names.DEVICES)}, with {', '.join(names.device_settings())}", soft_wrap=True
        )
        console.print(f"terms:     {names.defaults(names.TERMS)[0].removeprefix('terms:')}", soft_wrap=True)
        console.print(f"circuit:   {names.defaults(names.CIRCUIT)[0].removeprefix('circuit:')}", soft_wrap=True)
        console.print(f"data sets: {', '.join(data.DATASETS)}, or an .npz file")
        for name, value in environment().items():
            console.print(f"{name + ':':10} {value}")
