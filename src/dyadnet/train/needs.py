"""What every rule needs of a network, and gets where none is named.

backprop, lagrangian, dual-propagation, and the rules of lifted energies     mlp
feedback-alignment, direct-feedback-alignment                                mlp, feedback random or direct
random-feedback-chl                                                          hopfield, feedback random, lam its own
equilibrium-propagation, contrastive-hebbian, coupled-learning               hopfield, lam = 1; dense: symmetric
dyadic, recurrent-backprop                                                   hopfield, lam = 0; dense: free
lrrn                                                                         lifted
"""

from dataclasses import dataclass

from dyadnet.network.dense import Structure
from dyadnet.rule.base import AbstractRule
from dyadnet.rule.contrastive_hebbian import ContrastiveHebbian, CoupledLearning
from dyadnet.rule.dyadic import Dyadic
from dyadnet.rule.equilibrium_propagation import EquilibriumPropagation
from dyadnet.rule.feedback_alignment import DirectFeedbackAlignment, FeedbackAlignment
from dyadnet.rule.lrrn import LRRN
from dyadnet.rule.random_feedback_chl import RandomFeedbackCHL
from dyadnet.rule.recurrent_backprop import RecurrentBackprop
from dyadnet.train.models import NetworkName


@dataclass(frozen=True)
class Need:
    """The network that a rule is for.

    Attributes:
        network: its kind.
        lam: the feedback parameter of a layered network; None for others.
        structure: of a dense network; None where the rule cannot train one.
        relaxes: whether states have to settle.
        path: how errors travel down; None for the transpose.
        own_lam: whether no other feedback parameter will do.
    """

    network: NetworkName = "mlp"
    lam: float | None = 0.5
    structure: Structure | None = None
    relaxes: bool = False
    path: str | None = None
    own_lam: bool = False


def need(rule: AbstractRule) -> Need:
    """Return what a rule needs.

    >>> need(Dyadic()).lam, need(RandomFeedbackCHL(gamma=0.5)).lam
    (0.0, 0.75)
    """
    match rule:
        case EquilibriumPropagation() | ContrastiveHebbian() | CoupledLearning():
            return Need("hopfield", 1.0, "symmetric", relaxes=True)
        case Dyadic() | RecurrentBackprop():
            return Need("hopfield", 0.0, "free", relaxes=True)
        case RandomFeedbackCHL():
            return Need("hopfield", rule.lam, relaxes=True, path="random", own_lam=True)
        case LRRN():
            return Need("lifted", None, relaxes=True)
        case FeedbackAlignment():
            return Need(path="random")
        case DirectFeedbackAlignment():
            return Need(path="direct")
        case _:
            return Need()
