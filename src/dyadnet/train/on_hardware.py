"""Training on a chip: the rule learns from what the chip does, its devices change weights, and it is what is judged.

The seed of a run is that of its specimen. A run that is resumed has the same chip: it is made from the same weights.
"""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dyadnet import names
from dyadnet.hardware.chip import Chip, OnChip
from dyadnet.network.base import AbstractNetwork
from dyadnet.train.settling import counted

if TYPE_CHECKING:
    import dyadnet.train.loop  # which is built on this module


def installed(
    training: "dyadnet.train.loop.Training", seed: int, x: Tensor, y: Tensor
) -> "dyadnet.train.loop.Training":
    """Return a run on the hardware that its settings ask for, or as it is if they ask for none.

    Args:
        training: about to begin.
        seed: of the specimen.
        x, y: a batch; estimates on it give the size of gradients.

    Raises:
        RequestError: for binary weights or pre-training, which no chip here knows.
    """
    settings = training.settings
    if settings.hardware is None:
        return training
    for name in ("binary", "pretrain_epochs"):
        if getattr(settings, name):
            raise names.RequestError(f"{name.replace('_', '-')} does not go with hardware")
    device, grads = names.device(settings.hardware), None
    if device.updates.offset:
        with counted():
            grads = training.rule.estimate(training.net, training.loss, x, y, keep_states=False).grads
    chip = Chip(device, training.net, seed, grads)
    optimizer = chip.optimizer(training.optimizer)
    try:  # steps hand in a generator; what is measured besides leaves no trace
        rule = OnChip(training.rule, chip, seed=0)
    except ValueError as error:
        raise names.RequestError(str(error)) from error
    return dataclasses.replace(training, rule=rule, optimizer=optimizer, chip=chip)


@contextmanager
def judged(training: "dyadnet.train.loop.Training") -> Iterator[AbstractNetwork]:
    """Give the network as the chip has it, where there is one: its weights, its units; afterwards all is as it was."""
    chip = training.chip
    if chip is None:
        yield training.net
        return
    generator = torch.Generator().manual_seed(chip.of_reading)
    with chip.written(generator):
        yield chip.circuit(training.net, generator)
