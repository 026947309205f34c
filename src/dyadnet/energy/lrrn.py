"""The energy of a lifted regression/reconstruction network, and its minima under conditions on the output.

    E(z; x) = sum_k gamma^(k-L) [ kappa/2 |z_k - W_k z_{k-1} - b_k|^2  +  rho_k/2 |z_{k-1} - V_k z_k - c_k|^2 ]

There is no activation in it, only boxes for the states: at a minimum its derivative in the parameters is local, and
needs no `f'`. With the errors `e_k = W_k z_{k-1} + b_k - z_k` and `d_k = V_k z_k + c_k - z_{k-1}`,

    dE/dW_k = gamma^(k-L) kappa e_k z_{k-1}^T        dE/dV_k = gamma^(k-L) rho_k d_k z_k^T

and the transpose of the latter adds to the former where `V_k = W_k^T`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dyadnet.energy.base import AbstractEnergy, Output
from dyadnet.energy.hopfield import under_condition
from dyadnet.loss import AbstractLoss, one_hot
from dyadnet.network.lifted import Lifted
from dyadnet.network.linearisation import Gradients, merge
from dyadnet.network.quadratic import QuadraticWiring
from dyadnet.network.state import Neuron, States
from dyadnet.network.wiring import AbstractWiring
from dyadnet.relax.relaxation import Relaxation


@dataclass(frozen=True)
class LRRNEnergy(AbstractEnergy):
    """The energy of a lifted network, its output layer counting once.

    Args:
        net: the network.

    >>> from torch import nn
    >>> from dyadnet import Layered
    >>> from dyadnet.network.state import Activity
    >>> net = Lifted(Layered.from_sequential(nn.Sequential(nn.Linear(1, 1, bias=False))))
    >>> _ = nn.init.constant_(net.maps[0].weight, 2.0)
    >>> LRRNEnergy(net).value(torch.tensor([[1.0]]), [Activity(torch.tensor([[5.0]]))])      # 1/2 (5 - 2)^2
    tensor([4.5000])
    """

    net: Lifted

    @torch.no_grad()
    def value(self, x: Tensor, states: States) -> Tensor:
        """Return `E`, `(batch,)`."""
        return self.net.energy([x.flatten(1), *(state.mean() for state in states)])

    def wire(self, x: Tensor, states: States | None = None, copies: int = 1) -> QuadraticWiring:
        """Return the network's own wiring."""
        return self.net.wire(x, states, copies)

    def settling(self) -> Relaxation:
        """Return the network's own relaxation."""
        return self.net.relaxation

    def neuron(self, wiring: AbstractWiring, output: Output | None) -> Neuron:
        """Return the step of a layer towards its minimum."""
        return under_condition(self.net, wiring.depth, output)

    def clamped(self, y: Tensor, like: Tensor) -> Output:
        """Return the condition that holds the output at its targets, integer classes as one-hot rows.

        Args:
            y: targets of the prediction `K z_L`, with K the output gain.
            like: an output, for its shape.
        """
        values = one_hot(y, like) / self.net.output_gain
        return lambda drive, before: values

    def nudged(self, wiring: QuadraticWiring, loss: AbstractLoss, y: Tensor, beta: float) -> Output:
        """Return the condition of an output that minimises `E + beta l(K z_L, y)`.

        Where the output's step goes to `u`, with the curvature `h`, that is `argmin h/2 |z - u|^2 + beta l(K z, y)`.

        Raises:
            ValueError: for a loss without a proximal step.
        """
        if not loss.exact:
            raise ValueError("a loss of one's own has no proximal step to nudge an output with: clamp it, without beta")
        gain = self.net.output_gain
        step = loss.nudge(y, loss.applied(beta) * gain**2 / float(wiring.blocks[-1].curvature))
        return lambda drive, before: step(gain * drive) / gain

    @torch.no_grad()
    def gradients(self, wiring: AbstractWiring, weights: Sequence[complex]) -> Gradients:
        """Learn from the errors of every autoencoder."""
        z = [wiring.state(k).mean() for k in range(wiring.depth + 1)]
        each = torch.tensor(weights, dtype=z[0].dtype, device=z[0].device).repeat_interleave(len(z[0]))
        grads: Gradients = {}
        for k in range(1, wiring.depth + 1):
            merge(grads, self.net.learn(k, z[k - 1], z[k], self.net.discount(k) * each))
        return grads
