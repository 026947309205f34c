"""Acceleration of whole passes: where to begin the next one, sample by sample."""

import abc
from typing import final

import torch
from torch import Tensor

from dyadnet.network.state import AbstractMovable, AbstractState


class AbstractMixer(abc.ABC):
    """The memory of an accelerated relaxation."""

    @abc.abstractmethod
    def combine(self, old: Tensor, reached: Tensor) -> Tensor:
        """Return where to begin the next pass, `(batch, all parts)`.

        Args:
            old: where the last pass began, all parts of all layers in one row a sample.
            reached: where it led.
        """

    @final
    def mix(self, before: dict[int, AbstractState], states: dict[int, AbstractState]) -> None:
        """Replace the states that a pass reached by those to begin the next one at."""
        old, new = _movable(before), _movable(states)
        if _shapes(old) != _shapes(new):
            return
        combined, start = self.combine(_flat(old), _flat(new)), 0
        for k, state in new.items():
            parts = []
            for part in state.parts():
                size = part[0].numel()
                parts.append(combined[:, start : start + size].reshape(part.shape))
                start += size
            states[k] = state.of_parts(parts)


def _movable(states: dict[int, AbstractState]) -> dict[int, AbstractMovable]:
    """The states of the layers, without the input's."""
    return {k: state for k, state in sorted(states.items()) if k > 0 and isinstance(state, AbstractMovable)}


def _shapes(states: dict[int, AbstractMovable]) -> dict[int, list[torch.Size]]:
    return {k: [part.shape for part in state.parts()] for k, state in states.items()}


def _flat(states: dict[int, AbstractMovable]) -> Tensor:
    """All parts of all layers in one row a sample."""
    return torch.cat([part.flatten(1) for state in states.values() for part in state.parts()], 1)
