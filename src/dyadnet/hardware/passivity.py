"""How far the outputs of a resistive network may be nudged away from their targets.

A nudge of strength `beta < 0` is a negative conductance at every output. The nudged energy is convex while

    |beta| < lambda_min(S_L),      S_1 = diag(h_1),      S_k = diag(h_k) - c A g_k^T S_{k-1}^-1 g_k

with S the Schur complement of the outputs: what holds them with all hidden nodes eliminated, in the worst case, where
no diode conducts. It is 0 where an output has lost all its conductances. Beyond, the updates settle at a saddle or
nowhere, and what is learned from there may have the wrong sign in every layer. Nudges towards the target are ordinary
conductances, and of any strength.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dyadnet.loss import AbstractLoss, Strength

if TYPE_CHECKING:
    import dyadnet.hardware.resistive  # the network is built on this module


@torch.no_grad()
def passive_bound(net: "dyadnet.hardware.resistive.ResistiveNetwork") -> float:
    """Return `lambda_min(S_L)`.

    >>> from dyadnet.hardware.resistive import ResistiveNetwork
    >>> net = ResistiveNetwork([1, 1, 1])
    >>> for g, values in zip(net.conductances, ([[1.0], [1.0]], [[2.0]])):
    ...     _ = g.data.copy_(torch.tensor(values))
    >>> passive_bound(net)                                  # 2 in series with 1 and 1: 2 * 2 / (2 + 2)
    1.0
    """
    schur = torch.diag(_held(net, 1))
    for k in range(2, net.depth + 1):
        g, feedback = net.conductances[k - 1], net.circuit.current_gain * net.circuit.gain
        eliminated = g / schur.diagonal()[:, None] if k == 2 else torch.linalg.solve(schur, g)
        schur = torch.addmm(torch.diag(_held(net, k)), g.T, eliminated, alpha=-feedback)
    return float(torch.linalg.eigvalsh(schur)[0])


def _held(net: "dyadnet.hardware.resistive.ResistiveNetwork", k: int) -> Tensor:
    """What holds the nodes of layer k: nothing may hold outputs; hidden nodes that nothing holds reach no other."""
    return net.conductances[-1].sum(0) if k == net.depth else net.stiffness(k)


def check_passive(net: "dyadnet.hardware.resistive.ResistiveNetwork", loss: AbstractLoss, strength: Strength) -> None:
    """Refuse a nudge that may leave the energy without a minimum.

    Raises:
        ValueError: naming the bound; for a negative nudge by a loss whose curvature nobody knows, or a complex one.
    """
    if isinstance(strength, Tensor) and strength.is_complex():
        raise ValueError("voltages are real: a resistive network takes no complex nudges")
    lowest = float(strength.min()) if isinstance(strength, Tensor) else strength
    if lowest >= 0:
        return
    if not loss.exact:
        raise ValueError("a loss of one's own has no proximal step, which outputs of a circuit are nudged by")
    bound = passive_bound(net) / loss.curvature
    if -lowest >= bound:
        raise ValueError(
            f"a nudge of {lowest:g} away from the target is a negative conductance of more than the circuit bears, "
            f"{bound:.4g}: take a smaller beta, or nudge towards the target alone (variant positive)"
        )
