"""What events cost on machines that iterate: optical ones, and digital computers to compare with.

    optical    a turn is one product of light with the whole matrix of n units: 2 n^2 operations; dyads take 2 n
    digital    2 operations a multiply-accumulate

An optical machine projects its inputs digitally, reads analog states for the update, computes the outer products
digitally, and writes its modulator once a step, whatever has changed.
"""

from dataclasses import dataclass
from typing import final

from dyadnet.hardware import merits
from dyadnet.hardware.costs import CONVERTERS, AbstractCosts, Converters
from dyadnet.hardware.figure import Figure, multiplied
from dyadnet.hardware.workload import Workload


@final
@dataclass(frozen=True)
class Digital(AbstractCosts):
    """A digital computer that is kept busy: latencies of its memory, of kernels and of synchronisation do not count.

    Args:
        efficiency: operations a joule.
        throughput: operations a second.
        transfer: energy of moving one weight of 32 bits to memory and back.
        bandwidth: weights a second.
    """

    efficiency: Figure = merits.EFFICIENCY
    throughput: Figure = merits.THROUGHPUT
    transfer: Figure = merits.MEMORY
    bandwidth: Figure = merits.BANDWIDTH

    def check(self, work: Workload) -> None:
        """Refuse nothing."""

    def operations(self, products: float) -> list[Figure]:
        """Return what so many multiply-accumulates cost."""
        return [
            multiplied("energy", "J", self.efficiency.per(), factor=2 * products),
            multiplied("latency", "s", self.throughput.per(), factor=2 * products),
        ]

    def relaxation(self, work: Workload) -> list[Figure]:
        """Return what the products of one relaxation cost."""
        return self.operations(work.products)

    def inputs(self, work: Workload) -> list[Figure]:
        """Return nothing: inputs are numbers already."""
        return []

    def reading(self, work: Workload, units: int) -> list[Figure]:
        """Return nothing."""
        return []

    def outer_products(self, work: Workload) -> list[Figure]:
        """Return what a batch's gradients cost; those of backpropagation take a backward pass besides."""
        backward = work.couplings if work.phases.derivatives else 0
        learned = work.phases.relaxations - work.phases.spared
        return self.operations(work.batch * (learned * work.weights + backward))

    def update(self, work: Workload) -> list[Figure]:
        """Return what gradients, and reading and writing every weight, cost."""
        return [
            *(figure.called(f"{figure.quantity} of gradient") for figure in self.outer_products(work)),
            multiplied("energy of memory", "J", self.transfer, factor=work.weights),
            multiplied("latency of memory", "s", self.bandwidth.per(), factor=work.weights),
        ]


DIGITAL = Digital()


@final
@dataclass(frozen=True)
class Optical(AbstractCosts):
    """An optical machine: as built where its makers give latencies, as projected beside it.

    Args:
        turn, turn_projected: latency of one turn of the loop, of the machine that exists and of the projected one.
        operation: projected energy of an operation.
        reading_time: until the states of one sample have been averaged.
        samples: readings that are averaged.
        frame: latency of writing the modulator.
        converters: of the electronics.
        digital: what projects inputs and computes updates.
    """

    turn: Figure = merits.TURN
    turn_projected: Figure = merits.TURN_PROJECTED
    operation: Figure = merits.OPERATION
    reading_time: Figure = merits.READING
    samples: int = 40
    frame: Figure = merits.FRAME
    converters: Converters = CONVERTERS
    digital: Digital = DIGITAL

    def relaxation(self, work: Workload) -> list[Figure]:
        """Return the latencies of all turns, built and projected, and their energy, which is only projected."""
        units = work.units * work.phases.states
        return [
            multiplied("energy", "J", self.operation, factor=2 * units**2 * work.turns),
            multiplied("latency", "s", self.turn, factor=work.turns),
            multiplied("latency", "s", self.turn_projected, factor=work.turns),
        ]

    def inputs(self, work: Workload) -> list[Figure]:
        """Return what the digital projection of the inputs and its conversion cost."""
        converted = self.converters.costs(work.units)
        projected = self.digital.operations(work.input_weights)
        return [
            *(figure.called(f"{figure.quantity} of projection") for figure in projected),
            *(figure.called(f"{figure.quantity} of conversion") for figure in converted),
        ]

    def reading(self, work: Workload, units: int) -> list[Figure]:
        """Return what reading states costs: every one is converted as often as readings are averaged."""
        energy = self.converters.costs(units * work.phases.states * self.samples)[0]
        return [energy, multiplied("latency", "s", self.reading_time)]

    def update(self, work: Workload) -> list[Figure]:
        """Return what the digital update and the modulator's frame cost."""
        return [*self.digital.update(work), multiplied("latency of modulator", "s", self.frame)]
