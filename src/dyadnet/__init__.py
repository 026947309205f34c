"""Train PyTorch networks with local learning rules, and see how they compare with backpropagation."""

from importlib.metadata import version

from dyadnet.audit.alignment import alignment
from dyadnet.audit.certificate import certify
from dyadnet.loss import cross_entropy, squared_error
from dyadnet.network.dense import Dense
from dyadnet.network.energetic import Energetic
from dyadnet.network.feedback import DirectFeedback, KolenPollack, Mismatched, RandomFeedback, SignSymmetric
from dyadnet.network.layered import Layered
from dyadnet.network.lifted import Lifted
from dyadnet.relax.schedule import BottomUp, OddEven, Parallel, RandomOrder, Sweeps
from dyadnet.rule.auxiliary_coordinates import AuxiliaryCoordinates
from dyadnet.rule.backprop import Backprop
from dyadnet.rule.base import AbstractRule, Estimate
from dyadnet.rule.contrastive_hebbian import ContrastiveHebbian, CoupledLearning
from dyadnet.rule.dual_propagation import DualPropagation
from dyadnet.rule.dyadic import Dyadic
from dyadnet.rule.equilibrium_propagation import EquilibriumPropagation
from dyadnet.rule.feedback_alignment import DirectFeedbackAlignment, FeedbackAlignment
from dyadnet.rule.lagrangian import Lagrangian
from dyadnet.rule.lifted_proximal import LiftedProximal
from dyadnet.rule.lpom import LPOM
from dyadnet.rule.lrrn import LRRN
from dyadnet.rule.predictive_coding import PredictiveCoding
from dyadnet.rule.random_feedback_chl import RandomFeedbackCHL
from dyadnet.rule.recurrent_backprop import RecurrentBackprop

__version__ = version("dyadnet")
__all__ = [
    "LPOM",
    "LRRN",
    "AbstractRule",
    "AuxiliaryCoordinates",
    "Backprop",
    "BottomUp",
    "ContrastiveHebbian",
    "CoupledLearning",
    "Dense",
    "DirectFeedback",
    "DirectFeedbackAlignment",
    "DualPropagation",
    "Dyadic",
    "Energetic",
    "EquilibriumPropagation",
    "Estimate",
    "FeedbackAlignment",
    "KolenPollack",
    "Lagrangian",
    "Layered",
    "Lifted",
    "LiftedProximal",
    "Mismatched",
    "OddEven",
    "Parallel",
    "PredictiveCoding",
    "RandomFeedback",
    "RandomFeedbackCHL",
    "RandomOrder",
    "RecurrentBackprop",
    "SignSymmetric",
    "Sweeps",
    "alignment",
    "certify",
    "cross_entropy",
    "squared_error",
]
