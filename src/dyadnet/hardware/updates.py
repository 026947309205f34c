"""How a circuit changes its weights: in pulses of some size, no two of them alike.

An optimiser asks for a change `D`, and the device makes `n` pulses of size `p` of it, up or down,

    n = round(D / p)  (up or down at random, right on average),     |n| <= most
    D' = p [ n (1 + spread) (1 - asymmetry sign(n) w / bound) + noise sqrt(|n|) xi ]

Pulses away from zero shrink on the way to the bound, those towards zero grow: soft bounds for an asymmetry of 1. Sizes
are in root mean squares of the weight when the circuit was made.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, final

import torch
from torch import Tensor, nn

from dyadnet.bounds import bounded, positive


@final
@dataclass(frozen=True)
class Updates:
    """The imperfections of updates; by default there are none.

    Args:
        pulse: the size of a pulse; 0 stands for changes of any size.
        most: a weight takes at most so many pulses a step; None: any number.
        spread: fixed relative spread of pulses from device to device, standard deviation.
        noise: of one pulse from the next, standard deviation in pulses.
        asymmetry: by which share pulses away from zero have shrunk at the bound, in [0, 1].
        bound: where that is.
        offset: fixed deviation of every estimated gradient, standard deviation, in root mean squares of the gradient
            that was estimated when the circuit was made.

    Raises:
        ValueError: for what no device can have, and for noise or a number of pulses that have no size.
    """

    pulse: float = 0.0
    most: int | None = None
    spread: float = 0.0
    noise: float = 0.0
    asymmetry: float = 0.0
    bound: float = 4.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        bounded("updates", 0, pulse=self.pulse, spread=self.spread, noise=self.noise, offset=self.offset)
        bounded("updates", 0, 1, asymmetry=self.asymmetry)
        bounded("updates", 1, most=self.most)
        positive("updates", bound=None if self.bound == inf else self.bound)
        if not self.pulse and (self.noise or self.most is not None):
            raise ValueError("updates: noise and the number of pulses need pulses: give pulse a size")

    @property
    def exact(self) -> bool:
        """Whether weights change by what is asked for."""
        return not (self.pulse or self.spread or self.asymmetry)

    def made(self, weight: Tensor, seed: int) -> "Changed":
        """Return the devices that change a weight.

        Args:
            weight: as it is when the circuit is made.
            seed: of what differs from device to device.
        """
        return Changed(self, weight, seed)


@final
class Changed:
    """The devices that change one weight.

    Args:
        updates: the imperfections.
        weight: as it is when the circuit is made.
        seed: of what differs from device to device.
    """

    def __init__(self, updates: Updates, weight: Tensor, seed: int) -> None:
        self.updates, generator = updates, torch.Generator().manual_seed(seed)
        self.unit = float(weight.detach().square().mean().sqrt())
        if self.unit == 0 and not updates.exact:
            raise ValueError("pulses are in units of a weight's root mean square, but one is zero: draw it at random")
        self.size = 1 + updates.spread * torch.randn(weight.shape, generator=generator).to(weight)
        self.offset = updates.offset * torch.randn(weight.shape, generator=generator).to(weight)

    def change(self, weight: Tensor, wanted: Tensor, generator: torch.Generator) -> Tensor:
        """Return the change that the devices make where one is asked for.

        Args:
            weight: before.
            wanted: the change that is asked for, of its shape.
            generator: of the randomness of pulses.
        """
        u = self.updates
        size = self.size * (1 - u.asymmetry * wanted.sign() * weight / (u.bound * self.unit))
        if not u.pulse:
            return wanted * size
        pulse = u.pulse * self.unit
        pulses = torch.floor(wanted / pulse + torch.rand(wanted.shape, generator=generator).to(wanted))
        if u.most is not None:
            pulses = pulses.clamp(-u.most, u.most)
        noise = u.noise * pulses.abs().sqrt() * torch.randn(wanted.shape, generator=generator).to(wanted)
        return pulse * (pulses * size + noise)


@final
class PulsedOptimizer(torch.optim.Optimizer):
    """Any optimiser, whose changes are made by devices.

    Args:
        base: asks for changes; its groups and its state are this one's.
        devices: of the weights that are changed so; others change as asked for.
        seed: of the randomness of pulses.
    """

    def __init__(self, base: torch.optim.Optimizer, devices: Mapping[nn.Parameter, Changed], seed: int = 0) -> None:
        super().__init__(base.param_groups, {})
        self.base, self.devices, self.generator = base, dict(devices), torch.Generator().manual_seed(seed)
        self.defaults = base.defaults
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Let the base ask for changes, and make them.

        Raises:
            ValueError: for a closure: rules leave gradients, and nothing is to be evaluated again.
        """
        if closure is not None:
            raise ValueError("changes are made from gradients that are there: a closure is not taken")
        before = {p: p.detach().clone() for p in self.devices if p.grad is not None}
        self.base.step()
        for p, weight in before.items():
            p.copy_(weight + self.devices[p].change(weight, p - weight, self.generator))

    def __getstate__(self) -> dict[str, Any]:
        """Return everything that copies and pickles take; that of torch leaves out what is not its own."""
        return {"base": self.base, "devices": self.devices, "generator": self.generator.get_state()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take it back."""
        super().__setstate__(state | {"defaults": state["base"].defaults})
        self.generator = torch.Generator()
        self.generator.set_state(state["generator"])
        self._share()

    def state_dict(self) -> dict[str, Any]:
        """Return the base's state and that of the randomness."""
        return self.base.state_dict() | {"pulses": self.generator.get_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore both."""
        held = dict(state_dict)
        self.generator.set_state(held.pop("pulses"))
        self.base.load_state_dict(held)
        self._share()

    def _share(self) -> None:
        """Have the base optimiser's groups and state for one's own."""
        self.param_groups, self.state = self.base.param_groups, self.base.state
