"""What events cost in circuits that relax by themselves: networks of resistors, and of gyrators.

    resistive    P = sum_ij g_ij dv_ij^2            tau = C / (g lambda)   of the slowest pattern of voltages, `slowest`
    gyrator      P = sum_i g v_i^2 + sum_k I_k V    tau = C / g            exactly: gyrators dissipate nothing, leaks do

A relaxation takes `T = ln(1/tolerance) tau` and `P T`. In a resistive one the conductance cancels: what conducts better
settles sooner. Inputs of a resistive network come twice, as x and -x, since conductances are not negative. A gyrator is
two transconductors, and one that stays linear up to v takes a current `I = gamma v`; inputs take one transconductor a
weight. Contrasts of squared voltages are local: the update is counted as writes alone, for every weight once a step.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import final

import torch

from dyadnet.hardware import merits
from dyadnet.hardware.costs import (
    CONVERTERS,
    WRITES,
    AbstractCosts,
    Converters,
    WeightWrites,
    settling_constants,
    thermal_capacitance,
    thermal_noise,
)
from dyadnet.hardware.figure import Figure, multiplied
from dyadnet.hardware.workload import Workload


def static_power(devices: float, conductance: Figure, drop: Figure) -> Figure:
    """Return the power that devices dissipate, `sum g dv^2`, in W.

    >>> from dyadnet.hardware.figure import given
    >>> one = static_power(1568 * 512, given("g", 1e-6, 1e-6, "S"), given("dv", 0.1, 0.1, "V"))
    >>> f"{one.low:.2e} {one.unit}"
    '8.03e-03 W'
    """
    return multiplied("power", "W", conductance, drop, drop, factor=devices)


def slowest(work: Workload) -> float:
    """Return `lambda`: how fast the slowest pattern of voltages decays, where one device and one node decay with 1.

    It is the least eigenvalue of the matrix of equal conductances, with the inputs, which come twice, held. Patterns
    without a mean in any layer decay as single nodes do; the means of the layers, faster in one another's company, by

        n_{k-1} + n_{k+1}  on the diagonal,    -sqrt(n_k n_{k+1})  beside it

    and in a dense network, where all units may move together, by what the inputs hold.

    >>> from dyadnet.hardware.workload import Phases
    >>> round(slowest(Workload((64, 128, 128, 10), "hopfield", 50, 1, Phases(2))), 2)
    44.95
    """
    sources = 2 * work.inputs
    if work.network == "dense":
        return float(sources)
    below, n, above = [sources, *work.widths[1:-1]], work.widths[1:], [*work.widths[2:], 0]
    alone = torch.tensor([down + up for down, up in zip(below, above, strict=True)], dtype=torch.float64)
    beside = torch.tensor([math.sqrt(one * next_) for one, next_ in pairwise(n)], dtype=torch.float64)
    matrix = alone.diag() - beside.diag(1) - beside.diag(-1)
    return float(torch.linalg.eigvalsh(matrix)[0])


def _check_circuit(work: Workload, network: str) -> None:
    """Circuits hear both ways, and hold one state a unit."""
    if work.network == "mlp":
        raise ValueError(f"a {network} network has feedback: take network hopfield or dense, not mlp")
    if work.phases.states > 1:
        raise ValueError(
            f"a {network} network holds one state a unit: take a rule of several phases, or dyadic:form=two-phase"
        )


def _bounds(work: Workload, capacitance: Figure, bits: int) -> list[Figure]:
    """Thermal noise of a node, and what the bits of the converters take."""
    low, high = thermal_noise(capacitance.high), thermal_noise(capacitance.low)
    most = thermal_capacitance(bits)
    return [
        Figure("thermal noise of a node, sqrt(kT/C)", low, high, "V", capacitance.source, capacitance.status),
        Figure(f"capacitance that {bits} bits of 1 V need", most, most, "F", "12 kT 4^bits / V^2, 300 K", "assumed"),
    ]


@final
@dataclass(frozen=True)
class Resistive(AbstractCosts):
    """A network of resistors and diodes.

    Args:
        conductance: of a device.
        drop: voltage across it.
        capacitance: of a node.
        tolerance: how close to equilibrium a relaxation comes.
        settling: of a relaxation; None stands for `ln(1/tolerance) tau`.
        converters, writes: of voltages and of conductances.
    """

    conductance: Figure = merits.CONDUCTANCE
    drop: Figure = merits.DROP
    capacitance: Figure = merits.CAPACITANCE
    tolerance: float = 1e-3
    settling: Figure | None = None
    converters: Converters = CONVERTERS
    writes: WeightWrites = WRITES

    def check(self, work: Workload) -> None:
        """Refuse derivatives, networks without feedback, and dyads in one relaxation."""
        super().check(work)
        _check_circuit(work, "resistive")

    def devices(self, work: Workload) -> int:
        """Return how many resistors there are."""
        return 2 * work.input_weights + work.couplings

    def relaxation(self, work: Workload) -> list[Figure]:
        """Return energy and latency of settling."""
        devices = self.devices(work)
        if self.settling is not None:
            power = static_power(devices, self.conductance, self.drop)
            return [multiplied("energy", "J", power, self.settling), multiplied("latency", "s", self.settling)]
        taus = settling_constants(self.tolerance) / slowest(work)
        return [
            multiplied("energy", "J", self.drop, self.drop, self.capacitance, factor=devices * taus),
            multiplied("latency", "s", self.capacitance, self.conductance.per(), factor=taus),
        ]

    def inputs(self, work: Workload) -> list[Figure]:
        """Return what converting x and -x costs."""
        return self.converters.costs(2 * work.inputs)

    def reading(self, work: Workload, units: int) -> list[Figure]:
        """Return what converting the voltages of units costs."""
        return self.converters.costs(units)

    def update(self, work: Workload) -> list[Figure]:
        """Return what writing every conductance once costs; rows are those of one unit or input."""
        return self.writes.costs(self.devices(work), 2 * work.inputs + work.units)

    def bounds(self, work: Workload) -> list[Figure]:
        """Return the thermal noise of a node, and the capacitance that the converters' bits need."""
        return _bounds(work, self.capacitance, self.converters.bits)


@final
@dataclass(frozen=True)
class Gyrator(AbstractCosts):
    """A network of leaky nodes that gyrators couple, skew-symmetric.

    Args:
        leak: conductance of a node to ground.
        gyration: transconductance of a coupling.
        drop: voltage of a node.
        supply: of the transconductors.
        capacitance, tolerance, settling, converters, writes: as of a resistive network.
    """

    leak: Figure = merits.LEAK
    gyration: Figure = merits.GYRATION
    drop: Figure = merits.DROP
    supply: Figure = merits.SUPPLY
    capacitance: Figure = merits.CAPACITANCE
    tolerance: float = 1e-3
    settling: Figure | None = None
    converters: Converters = CONVERTERS
    writes: WeightWrites = WRITES

    def check(self, work: Workload) -> None:
        """Refuse derivatives, networks without feedback, dyads in one relaxation, and rules that need an energy."""
        super().check(work)
        _check_circuit(work, "gyrator")
        if work.phases.energy:
            raise ValueError("a gyrator network has no energy to learn from: take the rule dyadic")

    def transconductors(self, work: Workload) -> int:
        """Return how many there are."""
        return work.input_weights + 2 * work.couplings

    def relaxation(self, work: Workload) -> list[Figure]:
        """Return the energies that leaks and transconductors take while the circuit settles, and how long that is."""
        if self.settling is not None:
            leaking, factor = [self.leak, self.drop, self.drop, self.settling], 1.0
            latency = multiplied("latency", "s", self.settling)
        else:  # g v^2 times C / g
            leaking, factor = [self.drop, self.drop, self.capacitance], settling_constants(self.tolerance)
            latency = multiplied("latency", "s", self.capacitance, self.leak.per(), factor=factor)
        amplifying = [self.gyration, self.drop, self.supply, latency]
        return [
            multiplied("energy of leaks", "J", *leaking, factor=factor * work.units),
            multiplied("energy of couplings", "J", *amplifying, factor=self.transconductors(work)),
            latency,
        ]

    def inputs(self, work: Workload) -> list[Figure]:
        """Return what converting the inputs costs."""
        return self.converters.costs(work.inputs)

    def reading(self, work: Workload, units: int) -> list[Figure]:
        """Return what converting the voltages of units costs."""
        return self.converters.costs(units)

    def update(self, work: Workload) -> list[Figure]:
        """Return what writing every transconductor once costs, row by row."""
        return self.writes.costs(self.transconductors(work), work.inputs + work.units)

    def bounds(self, work: Workload) -> list[Figure]:
        """Return the thermal noise of a node, and the capacitance that the converters' bits need."""
        return _bounds(work, self.capacitance, self.converters.bits)
