"""Layers of nodes joined by gyrators: the circuit whose equilibria are those of a skew-symmetric network.

A gyrator of conductance `G` between two nodes sends the current `G v_1` into node 2 and draws `G v_2` from node 1: it
turns no power into heat, and with two ports swapped its conductance changes sign. With a leak `g` from every node to
ground, and diodes that hold it in its range, layer k settles where

    g v_k = b_k + G_{k-1}^T v_{k-1} - G_k v_{k+1}                                (or its diodes conduct)

which is `Layered` with `lam = 0`, `W = G / g` and `b / g`. The symmetric part of the conductances is `g I` whatever
they are, so that there is one equilibrium, and currents move it by `1 / g` of their size at most. It is no minimum of
an energy: networks of gyrators learn by `Dyadic`, whose two phases are equilibria of the same circuit. The updates that
suit resistors, each layer exact in turn, may diverge once the coupling `|G| / g` exceeds 1; those of the network itself
are damped.

In a circuit the two ways through a gyrator are two amplifiers: `Mismatched` tells them apart.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import final

from torch import Tensor, nn

from dyadnet.bounds import positive
from dyadnet.network.boxed import boxed_linear
from dyadnet.network.feedback import Mismatched
from dyadnet.network.layered import Layered
from dyadnet.relax.relaxation import Relaxation


@final
@dataclass(frozen=True, eq=False)
class GyratorCircuit:
    """The circuit of a skew-symmetric layered network, which it shares.

    Args:
        net: of `lam = 0`, one linear map a stage, ReLU, Hardtanh or no activation; its feedback path is the transpose
            or `Mismatched`.
        leak: `g`, the conductance from every node to ground.

    Raises:
        ValueError: for another network or path, or a leak that is not positive.
        TypeError: naming the stage that is no layer of nodes held by diodes.

    >>> circuit = GyratorCircuit(gyrators([4, 3, 2]), leak=0.5)
    >>> [tuple(G.shape) for G, _ in circuit.gyrations()]
    [(3, 4), (2, 3)]
    """

    net: Layered
    leak: float = 1.0

    def __post_init__(self) -> None:
        if self.net.lam != 0:
            raise ValueError(f"gyrators make a skew-symmetric network, lam=0, not one of lam={self.net.lam:g}")
        if self.net.feedback is not None and not self.net.feedback.nominal:
            raise ValueError(
                "the way back through a gyrator is its own transpose: take no feedback path, or Mismatched"
            )
        positive(leak=self.leak)  # all that holds the nodes
        for stage in self.net.stages:
            boxed_linear(stage, "gyrator circuit")

    def gyrations(self) -> list[tuple[Tensor, Tensor]]:
        """Return the conductances below every layer, `(units, units below)`: on the way up, and on the way down."""
        maps = [boxed_linear(stage, "gyrator circuit") for stage in self.net.stages]
        back = {} if self.net.feedback is None else self.net.feedback.detours()
        return [(self.leak * m.weight.detach(), self.leak * back.get(m, m.weight.detach())) for m in maps]

    def currents(self) -> list[Tensor]:
        """Return the current sources of every layer, `(units,)`."""
        maps = [boxed_linear(stage, "gyrator circuit") for stage in self.net.stages]
        return [m.weight.new_zeros(m.out_features) if m.bias is None else self.leak * m.bias.detach() for m in maps]


def gyrators(widths: list[int], *, mismatch: Mismatched | None = None, relaxation: Relaxation | None = None) -> Layered:
    """Return a network of gyrators, its hidden nodes held above 0 by a diode each.

    Args:
        widths: how many inputs, hidden nodes of every layer, and outputs there are.
        mismatch: of the two ways through every gyrator.
        relaxation: how states reach equilibrium; None stands for odd and even layers in turn, damped as they need it.
    """
    layers = [module for below, above in pairwise(widths) for module in (nn.Linear(below, above), nn.ReLU())]
    return Layered.from_sequential(nn.Sequential(*layers[:-1]), 0.0, relaxation=relaxation, feedback=mismatch)
