"""Learning in lifted regression/reconstruction networks (paper A): contrastive, or by reconstruction alone.

    clamped         J = K^2 / kappa ( min_z { E | K z_L = y } - min_z E )
    nudged          J = (min_z { E + beta l(K z_L, y) } - min_z E) / beta
    unsupervised    J = gamma^(L-1) min_z E

with the energy E of `energy.lrrn`, the weight kappa of its regression and the output gain K. By the envelope theorem
`dJ/dtheta` is the difference of `dE/dtheta` at the two minima (thesis eq. 3.11). E counts the output layer once, the
lowest one `gamma^(1-L)` times: the states of the two phases differ by `O(gamma^(L-k))` in layer k, so that `dJ/dtheta`
has a limit for `gamma -> 0`. It is the gradient of the loss through the chain of layers that each minimise their own
autoencoder, `z_k = argmin_z kappa/2 |z - W_k z_{k-1} - b_k|^2 + rho_k/2 |z_{k-1} - V_k z - c_k|^2`: for regression
alone that is backpropagation.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from dyadnet.bounds import positive
from dyadnet.energy.lrrn import LRRNEnergy
from dyadnet.loss import Loss, as_loss
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.lifted import Lifted, lifted
from dyadnet.network.linearisation import Gradients
from dyadnet.network.quadratic import QuadraticWiring
from dyadnet.network.state import States
from dyadnet.relax.relaxation import Relaxation, Solution
from dyadnet.rule.base import AbstractRule, Estimate
from dyadnet.rule.contrast import contrast, summary


@final
@dataclass(frozen=True)
class LRRN(AbstractRule):
    """Learning of a `Lifted` network; a plain feedforward chain is trained as one with the default terms.

    What is learned is a network of energy minima: predict with `Lifted(chain)`, not with the chain's own forward pass.

    Args:
        beta: nudges the output with that strength; None clamps it to the target, which learns the squared error (of
            one-hot classes), whatever `loss` is reported.
        supervised: False learns to reconstruct, in one free phase: `loss` and `y` are not looked at, the estimate's
            loss is the mean energy in units of the lowest layer, and a regression output does not learn.
        relaxation: how states reach the minima; None stands for the network's own.

    Raises:
        ValueError: for a `beta` that is not positive, or in unsupervised learning.
    """

    beta: float | None = None
    supervised: bool = True
    relaxation: Relaxation | None = None

    def __post_init__(self) -> None:
        positive(beta=self.beta)
        if self.beta is not None and not self.supervised:
            raise ValueError("unsupervised learning has no output to nudge: leave beta out")

    def estimate(
        self,
        net: AbstractNetwork,
        loss: Loss,
        x: Tensor,
        y: Tensor,
        *,
        states: States | None = None,
        generator: torch.Generator | None = None,
        keep_states: bool = True,
    ) -> Estimate:
        """Relax freely, then (if supervised) under the target from there; the states are the free ones."""
        net = lifted(net)
        energy, relaxation, wiring = LRRNEnergy(net), self.relaxation or net.relaxation, net.wire(x, states)
        if self.supervised:
            _check_signal(net, relaxation, x.dtype)
        free = energy.minimise(wiring, relaxation=relaxation, generator=generator)
        output = net.prediction(free.states)
        if self.supervised:
            value = as_loss(loss)(output, y).mean()
            grads, taught = self._contrast(energy, wiring, free, loss, y, relaxation, generator)
            solution = summary(free, taught, len(x))
        else:
            lowest = 1 / net.discount(1)  # in units of the lowest layer, which is the first to learn
            value, solution = lowest * energy.value(x, free.states).mean(), free
            grads = energy.gradients(wiring.read(), [lowest / len(x)])
            if not net.rho(net.depth):  # what inference left of its error is no gradient
                grads |= {p: torch.zeros_like(p) for p in net.stages[-1].parameters()}
        kept = free.states if keep_states else None
        return Estimate(value, output, grads, kept, solution.iterations, solution)

    def _contrast(
        self,
        energy: LRRNEnergy,
        wiring: QuadraticWiring,
        free: Solution,
        loss: Loss,
        y: Tensor,
        relaxation: Relaxation,
        generator: torch.Generator | None,
    ) -> tuple[Gradients, Solution]:
        """The difference of the derivatives at the taught and the free minimum, and how settled the former is."""
        if self.beta is None:
            weight = energy.net.output_gain**2 / energy.net.terms.regression
            output = energy.clamped(y, free.states[-1].mean())
        else:
            weight = 1 / self.beta
            output = energy.nudged(wiring, as_loss(loss), y, self.beta)
        return contrast(
            energy, wiring, free, output, [weight], free_weight=-weight, relaxation=relaxation, generator=generator
        )


def _check_signal(net: Lifted, relaxation: Relaxation, dtype: torch.dtype) -> None:
    """Refuse feedback so weak that the inference's own error drowns it.

    Raises:
        ValueError: if `gamma^(L-1)`, by which the lowest layer feels the target, is less than ten times the tolerance.
    """
    tolerance, signal = relaxation.stop.tolerance_for(dtype), 1 / net.discount(1)
    if tolerance is not None and signal < 10 * tolerance:
        raise ValueError(
            f"with gamma={net.terms.gamma:g} the lowest of {net.depth} layers feels the target by a factor of "
            f"{signal:.0e}, less than ten times the tolerance of the inference, {tolerance:.0e}: take a larger gamma, "
            "a smaller tolerance or double precision"
        )
