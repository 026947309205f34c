"""An optical machine (AIM, the analog optical computer): a densely connected network whose products are made of light.

    u = light(W) s + clamp(theta_0 x + b),        s = f(u),        v = light(W^T) error

`light(W)` is what `light.py` makes of the weights; with an ideal machine `light(W) s = W s`. Inputs are projected
digitally and enter as voltages, which the electronics clamp. Errors travel through light too, with the transpose
written on a second part of the modulator: what the two directions do not have in common is the machine's mismatch.

A dyad's states shine one after the other, so that errors are differences of what was measured:

    v = ( light(W^T) s^- - light(W^T) s^+ ) / scale .

Every rule for densely connected networks runs on it. The weights that learn are the network's own, in full precision:
a digital accumulator, from which the modulator is written anew for every batch. Rounding and clamping are straight
through: the local update is the outer product of measured states.
"""

from collections.abc import Sequence
from math import sqrt
from typing import final

import torch
from torch import Tensor, nn

from dyadnet.hardware.calibration import Calibration
from dyadnet.hardware.light import Written, small_signal, write
from dyadnet.hardware.modulator import Modulator
from dyadnet.network.base import AbstractHopfield
from dyadnet.network.dense import Dense, DenseWiring
from dyadnet.network.linearisation import Gradients
from dyadnet.network.state import AbstractState, Activity, Pair, States
from dyadnet.network.wiring import AbstractCoupling, over
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.schedule import AbstractSchedule


@final
class OpticalMachine(AbstractHopfield):
    """A densely connected network on an optical machine; it shares the network's parameters.

    Args:
        net: the network, with activations of bounded range: light saturates.
        modulator: how weights are written; None stands for 9 bits.
        calibration: what distorts the product, with one channel a unit; None stands for a machine without distortions.
        relaxation: how states reach equilibrium; None stands for the network's own.

    Raises:
        ValueError: for an activation without bounds, or a calibration of another size.

    >>> torch.manual_seed(0).initial_seed()
    0
    >>> net = Dense(4, 6, 2, "symmetric", activation=nn.Tanh(), readout=nn.Tanh())
    >>> machine, x = OpticalMachine(net, Modulator(bits=None)), torch.ones(3, 4)
    >>> bool((machine(x) - net(x)).abs().max() < 1e-4)
    True
    """

    def __init__(
        self,
        net: Dense,
        modulator: Modulator | None = None,
        calibration: Calibration | None = None,
        relaxation: Relaxation | None = None,
    ) -> None:
        super().__init__()
        units = len(net.bias)
        calibration = Calibration.ideal(units) if calibration is None else calibration
        if calibration.channels != units:
            raise ValueError(
                f"the calibration has {calibration.channels} channels, the network {units} units: "
                f"take calibration.repeated({units}) or calibration.averaged({units})"
            )
        self.net, self.modulator, self.calibration = net, modulator or Modulator(), calibration
        self.relaxation, self.gain = relaxation or net.relaxation, net.gain
        fitted = calibration.saturation
        self.activations = net.activations if fitted is None else (fitted.activation(), fitted.activation())
        for activation in self.activations if fitted is None else ():
            if activation.lower == -torch.inf or activation.upper == torch.inf:
                raise ValueError(
                    f"{activation.name} has no bounds, and light saturates: take activation=nn.Tanh() and "
                    "readout=nn.Tanh(), or other bounded ones"
                )

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs at equilibrium, `(batch, outputs)`."""
        return self.relax(x).states[-1].mean()

    def written(self) -> Written:
        """Return the weights as the machine holds them now."""
        return write(self.net.connectivity().detach(), self.modulator, self.calibration)

    def matrix(self) -> Tensor:
        """Return the matrix that small states see in the place of `W`, `(units, units)`."""
        return small_signal(self.written())

    def wire(self, x: Tensor, states: States | None = None, copies: int = 1) -> "OpticalWiring":
        """Return the wiring for one batch: the weights are written now."""
        inner = self.net.wire(x, states, copies)
        saturation = self.calibration.saturation
        per_volt = 1.0 if saturation is None else saturation.a
        inner.input = inner.input.clamp(self.calibration.low * per_volt, self.calibration.high * per_volt)
        back = write(inner.weights.T, self.modulator, self.calibration)
        return over(self.substrate, OpticalWiring(inner, self.written(), back))

    def changing(self) -> list[str]:
        """Nothing changes between visits."""
        return []

    def coupling(self) -> list[nn.Parameter]:
        """Return those of the network."""
        return self.net.coupling()

    def energy_missing(self) -> str | None:
        """What the machine approximates has an energy, or has none."""
        return self.net.energy_missing()


@final
class OpticalWiring(AbstractCoupling):
    """The wiring of an optical machine: that of its network, `inner`, with drives and feedback made of light."""

    depth = 2

    def __init__(self, inner: DenseWiring, forth: Written, back: Written) -> None:
        self.inner, self.forth, self.back, self.states = inner, forth, back, inner.states

    def again(self, states: States, copies: int = 1) -> "OpticalWiring":
        """Return the wiring of the same inputs and other states; nothing is written anew."""
        return over(self.substrate, OpticalWiring(self.inner.again(states, copies), self.forth, self.back))

    def state(self, k: int) -> AbstractState:
        """Return the state of layer k."""
        return self.inner.state(k)

    def drive(self, k: int) -> Tensor:
        """Return `(light(W) mean + input)_k`."""
        return (self.inner.input + self.forth(self.inner.means()))[:, self.inner.rows[k]]

    def feedback(self, k: int) -> Tensor | None:
        """Return `(light(W^T) s^- - light(W^T) s^+)_k / scale`.

        Raises:
            TypeError: for errors that are not differences of two states.
        """
        pairs = [state for state in (self.states[1], self.states[2]) if state.error() is not None]
        if not k or not pairs:
            return self.inner.feedback(k)
        first = pairs[0]
        if not isinstance(first, Pair):
            raise TypeError("light carries no errors, only states: take Dyadic, or a rule of several phases")
        plus, minus = (
            torch.cat([state.parts()[side] if isinstance(state, Pair) else state.mean() for state in self._layers()], 1)
            for side in (0, 1)
        )
        return (self.back(minus) - self.back(plus))[:, self.inner.rows[k]] / first.scale

    def _layers(self) -> Sequence[AbstractState]:
        return self.states[1], self.states[2]

    def couple(self, k: int, vectors: dict[int, Tensor], up: float, down: float) -> Tensor | None:
        """Return the network's own product, which is what a digital model of the machine without distortions has."""
        return self.inner.couple(k, vectors, up, down)

    def probe(self) -> DenseWiring:
        """Return the network's own wiring of the first sample."""
        return self.inner.probe()

    def sent(self, k: int) -> Tensor:
        """Return the network's own `(theta mean + theta_0 x + b)_k`."""
        return self.inner.sent(k)

    def discount(self, k: int) -> float:
        """Return 1."""
        return self.inner.discount(k)

    def learn(self, deltas: dict[int, Tensor]) -> Gradients:
        """Return the gradients of `<theta mean + theta_0 x + b, delta>`, in the states that were reached."""
        return self.inner.learn(deltas)

    def gradients(self) -> Gradients:
        """Return the gradients that the errors tell."""
        return self.inner.gradients()

    def best_factor(self, schedule: AbstractSchedule, iterations: int, margin: float) -> float:
        """Return the network's own."""
        return self.inner.best_factor(schedule, iterations, margin)


def sampled(
    states: States, noise: float, samples: int = 40, generator: torch.Generator | None = None
) -> tuple[Activity, ...]:
    """Return states as the machine reads them: averages of `samples` readings with independent noise.

    Args:
        states: as the relaxation reached them.
        noise: deviation of one reading, in units of the states.
        samples: that are averaged, which divides the deviation by its root; the analog optical computer takes 40.
        generator: of the noise; without one a fixed seed is used.

    Raises:
        ValueError: for negative noise or no sample.
    """
    if noise < 0 or samples < 1:
        raise ValueError(f"a reading needs noise of at least 0 and a sample, not {noise} and {samples}")
    generator = generator or torch.Generator().manual_seed(0)
    deviation = noise / sqrt(samples)
    read = [state.mean() for state in states]
    return tuple(
        Activity(s + deviation * torch.randn(s.shape, generator=generator, dtype=s.dtype).to(s.device)) for s in read
    )
