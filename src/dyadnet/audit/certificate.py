"""What can be promised of a recurrent network before it runs: existence, uniqueness, robustness and speed of settling.

For nondecreasing activations with slopes up to `L_f`, two equilibria for drives `b` and `b'` of the units satisfy

    (1/L_f) |s - s'|^2  <=  <s - s', sym(W)(s - s')> + <s - s', b - b'>

so that with the margin `m = 1/L_f - lambda_max(sym W) > 0` the equilibrium exists, is unique, and

    m |s - s'|^2  <=  <s - s', b - b'>                                                                        (*)

(the condition of monotone equilibrium networks, Winston and Kolter 2020). A skew W has `m = 1/L_f` for any size of its
weights: Lipschitz-1 for `L_f = 1` (thesis section 4.2). By (*) `s - s'` lies in the ball around `(b - b')/2m` of radius
`|b - b'|/2m`. Its part P on the output is therefore at most `(|P(b - b')| + |b - b'|)/2m`: half of `1/m` where
`b = theta_0 x` reaches hidden units only. Without feedback, a chain has the product of its slopes and norms as well.
"""

from dataclasses import dataclass
from math import inf, prod

import torch
from torch import Tensor

from dyadnet.audit.settling import settling_rate
from dyadnet.audit.spectra import connections, map_norm
from dyadnet.network.base import AbstractHopfield, AbstractNetwork, hopfield
from dyadnet.network.dense import Dense
from dyadnet.network.layered import Layered
from dyadnet.network.wiring import AbstractCoupling
from dyadnet.relax.schedule import BottomUp, OddEven, RandomOrder, Sweeps


@dataclass(frozen=True)
class Certificate:
    """What is certain, and how fast states settle.

    False and None stand for "not certain", never for "certainly not": many networks beyond these conditions settle.
    The constants hold for Euclidean norms and exact equilibria of the network without teaching. Maps between layers
    that are not affine (maxima, normalisations, blocks with activations) are taken at one input: margin and rate then
    hold near its activities, nothing has a Lipschitz constant, and only without loops is the equilibrium unique.

    Attributes:
        margin: `m = 1/L_f - lambda_max(sym W)`.
        unique: whether the equilibrium exists and is unique for every input: certain where `m > 0` or without loops.
        lipschitz_states: from a drive of any units (inputs, biases, noise) to the states, the output among them: `1/m`.
            None where `m <= 0`.
        lipschitz_output: from the drive of the inputs, `theta_0 x`, to the output: at most `1/m`, and `1/2m` if it
            reaches hidden units only, as in a chain. None where nothing bounds it.
        lipschitz_inputs: from the inputs `x` to the output: `lipschitz_output |theta_0|` or less. The norm of
            `theta_0` is learned: nothing keeps it small. None where nothing bounds it.
        rate: by which the chosen schedule and solver shrink the distance to the equilibrium in a pass, in the long run,
            on the linear network with every slope at `L_f`: the spectral radius of the pass. It is a guide for units
            that saturate, no bound. In random order it is that of the expected state; under acceleration that
            of the passes which are accelerated, and usually beaten. nan where no eigenvalue was found.
        energy_decreases: whether no update of the chosen schedule and solver raises the Hopfield energy.
    """

    margin: float
    unique: bool
    lipschitz_states: float | None
    lipschitz_output: float | None
    lipschitz_inputs: float | None
    rate: float
    energy_decreases: bool

    @property
    def settles(self) -> bool:
        """Whether the chosen solver reaches the equilibrium of that linear network."""
        return self.rate < 1


@torch.no_grad()
def certify(net: AbstractNetwork, x: Tensor) -> Certificate:
    """Return the certificate of a network.

    Args:
        net: the network; maps that are not affine are taken at their derivative for `x`.
        x: one input or more, of which the first is taken.

    Raises:
        TypeError: for a network of neurons with energies of their own.
        ValueError: naming the activation, if one is not monotone: nothing is certain then. Naming the module, if one
            computes something else at every visit. If means travel down through weights of their own, or units are not
            perfect.

    A skew network of any size, and the smallest chain with feedback: `s_1 = x - s_2`, `s_2 = s_1`.

    >>> from torch import nn
    >>> found = certify(Dense(3, 8, 2, structure="skew", scale=5.0), torch.zeros(1, 3))
    >>> found.margin, found.unique, found.lipschitz_states
    (1.0, True, 1.0)
    >>> model = nn.Sequential(nn.Linear(1, 1), nn.Identity(), nn.Linear(1, 1))
    >>> _ = [nn.init.ones_(linear.weight) for linear in (model[0], model[2])]
    >>> found = certify(Layered.from_sequential(model, lam=0.0), torch.zeros(1, 1))
    >>> found.lipschitz_output, found.lipschitz_inputs  # s_2 = x/2
    (0.5, 0.5)
    """
    net = hopfield(net, "a certificate")
    _check(net)
    net = net.with_feedback(None) if isinstance(net, Layered) else net  # without loops, means take no path
    x, slope = x[:1], max(activation.slope for activation in net.activations)
    weights, factor = connections(net, x), net.relaxation.factor_on(net.wire(x))
    share = (1 + net.gain) / 2  # sym W = share (theta + theta^T)
    margin = 1 / slope - (share * weights.eigenvalue if share else 0.0)
    states = 1 / margin if margin > 0 and _affine(net) else inf
    output, inputs = _to_output(net, x, states)
    return Certificate(
        margin=margin,
        unique=states < inf or net.loop_free(),
        lipschitz_states=_known(states),
        lipschitz_output=_known(output),
        lipschitz_inputs=_known(inputs),
        rate=settling_rate(net, weights, net.relaxation.schedule, factor, slope),
        energy_decreases=_descends(net, factor),
    )


def _check(net: AbstractHopfield) -> None:
    net.check_perfect("a certificate")
    for activation in net.activations:
        if not activation.monotone:
            raise ValueError(
                f"{activation.name} is not monotone: no certificate exists; take relu, tanh or hard-sigmoid"
            )
    if isinstance(net, Layered) and net.feedback is not None and net.gain != 0:
        raise ValueError("no certificate exists where means travel down through weights of their own")
    net.check_steady()


def _affine(net: AbstractHopfield) -> bool:
    """Whether `W` is the same at all states."""
    return isinstance(net, Dense) or (isinstance(net, Layered) and net.affine())


def _to_output(net: AbstractHopfield, x: Tensor, states: float) -> tuple[float, float]:
    """The Lipschitz constants from the inputs' drive and from the inputs to the output, `states` being `1/m`."""
    if isinstance(net, Dense):
        theta_0 = net.theta_0.double()
        norm, direct = (float(torch.linalg.matrix_norm(part, 2)) for part in (theta_0, theta_0[-net.outputs :]))
        return states, states * (direct + norm) / 2
    if not isinstance(net, Layered) or not net.affine():
        return inf, inf
    wiring, depth = net.wire(x).probe(), len(net.stages)
    output = states / 2 if depth > 1 else states
    if net.loop_free():
        slopes = prod(activation.slope for activation in net.activations)
        output = min(output, slopes * prod(_norm(net, wiring, k) for k in range(2, depth + 1)))
    return output, output * _norm(net, wiring, 1) if output < inf and net.affine(inputs=True) else inf


def _norm(net: Layered, wiring: AbstractCoupling, k: int) -> float:
    """The spectral norm of map k."""
    below = wiring.state(k - 1).mean()
    return map_norm(net.stages[k - 1].linearise(lambda: below), below)


def _descends(net: AbstractHopfield, factor: float) -> bool:
    """Whether every update is a step towards the minimum of a convex function that touches the energy from above.

    Units of a group must not hear one another. Part of the way to the minimum descends; beyond it, a quadratic alone
    is certain to, the energy of linear units. Layers below maxima move along a tangent of the energy: it must be taken
    where they are (every layer is visited between two visits of the one below), and lie above.
    """
    schedule, linear = net.relaxation.schedule, all(activation.linear for activation in net.activations)
    if net.energy_missing() is not None or net.relaxation.solver.constant_momentum != 0:
        return False
    if not isinstance(schedule, OddEven | BottomUp | Sweeps | RandomOrder) or (factor > 1 and not linear):
        return False
    if isinstance(net, Dense):
        return net.bipartite()
    fresh = isinstance(schedule, OddEven | BottomUp)
    return isinstance(net, Layered) and (net.affine() or (fresh and net.convex()))


def _known(constant: float) -> float | None:
    return constant if constant < inf else None
