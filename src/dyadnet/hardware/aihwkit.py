"""Noise models of aihwkit in the place of our own: any object with the methods of its `BaseNoiseModel`.

The package itself is not needed. Its models take conductances in microsiemens and seconds, and draw from the global
random state, which is set aside meanwhile.
"""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class AbstractModel(Protocol):
    """What is used of a noise model of aihwkit."""

    g_max: float

    def apply_programming_noise_to_conductance(self, g_target: Tensor) -> Tensor:
        """Return conductances after writing, in microsiemens."""
        ...

    def generate_drift_coefficients(self, g_target: Tensor) -> Tensor:
        """Return the drift exponents."""
        ...

    def apply_drift_noise_to_conductance(self, g_prog: Tensor, drift_noise_param: Tensor, t_inference: float) -> Tensor:
        """Return conductances some seconds after writing, in microsiemens."""
        ...


def by_model(model: AbstractModel, g: Tensor, age: float, generator: torch.Generator) -> Tensor:
    """Return conductances as a model writes and ages them, in shares of the largest.

    Args:
        model: of aihwkit.
        g: conductances that are wanted, in shares of the largest.
        age: `t / t_0`; drift is left out at 1. A model without a `t_0` of its own has one of a second.
        generator: from which the model's randomness is seeded.
    """
    with torch.random.fork_rng(devices=[g.device] if g.is_cuda else []):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        wanted = g * model.g_max
        g = model.apply_programming_noise_to_conductance(wanted)
        if age > 1:
            nu = model.generate_drift_coefficients(wanted)
            g = model.apply_drift_noise_to_conductance(g, nu, (age - 1) * getattr(model, "t_0", 1.0))
    return (g / model.g_max).clamp(min=0)
