"""Layered networks: a chain of stages `s_k = f_k(map_k(s_{k-1}))`, made from a user's `nn.Sequential`.

The connectivity of a layered network is `W_lam = theta - theta^T + 2 lam theta^T` (thesis, end of section 4.2): skew
for `lam = 0`, feedforward for 1/2, symmetric for 1.
"""

import warnings
from collections.abc import Iterator
from itertools import dropwhile
from typing import final

from torch import Tensor, nn

from dyadnet.activation import IDENTITY, Activation, recognise
from dyadnet.network.base import AbstractHopfield
from dyadnet.network.feedback import AbstractFeedback, FeedbackPath, Straight
from dyadnet.network.modules import changes, computes, hooked, in_sequence, modules_of, silent
from dyadnet.network.stage import Stage
from dyadnet.network.state import States
from dyadnet.network.wiring import ChainWiring, over
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.schedule import BottomUp
from dyadnet.relax.solver import Plain
from dyadnet.relax.stopping import Count

_AVERAGES = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
_MAXIMA = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)
_MOVES = (nn.Flatten, nn.Unflatten, nn.Identity, nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_AFFINE = (nn.Linear, *_CONVOLUTIONS, *_AVERAGES, *_MOVES)
_MONOTONE = (*_MAXIMA, *_AVERAGES, *_MOVES)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_STEADY = (*_NORMS, *_DROPOUTS)
"""Affine where the network is found to be steady."""
_OWN = ("stages", "activations", "lam", "gain", "relaxation", "feedback", "training")
_UPWARD = Relaxation(BottomUp(), Plain(), Count(1))
"""All that a chain without loops needs."""


@final
class Layered(AbstractHopfield):
    """A chain of stages that shares the modules of an `nn.Sequential`.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> net = Layered.from_sequential(model)
    >>> [(stage.name, stage.activation.name) for stage in net.stages]
    [('1 Linear', 'relu'), ('3 Linear', 'identity')]
    >>> list(net.state_dict()) == list(model.state_dict())
    True
    """

    mixed_precision = True

    def __init__(
        self,
        modules: dict[str, nn.Module],
        stages: tuple[Stage, ...],
        lam: float = 0.5,
        relaxation: Relaxation | None = None,
        feedback: AbstractFeedback | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= lam <= 1:
            raise ValueError(f"lam must lie in [0, 1], not {lam}")
        for name, module in modules.items():
            self.add_module(name, module)
        self.stages, self.activations = stages, tuple(stage.activation for stage in stages)
        self.lam, self.gain = lam, 2 * lam - 1
        self.relaxation = relaxation or Relaxation()
        self.feedback = feedback
        if isinstance(feedback, Straight) and self.gain != 0:
            raise ValueError(f"direct feedback is for feedforward chains, lam=0.5, not {lam:g}")

    @classmethod
    def from_sequential(
        cls,
        model: nn.Sequential,
        lam: float = 0.5,
        *,
        relaxation: Relaxation | None = None,
        feedback: FeedbackPath | None = None,
    ) -> "Layered":
        """Cut `model` into stages: each ends with an activation, the last with a linear map.

        The modules are shared, not copied, under the names that they have in `model`.

        Args:
            model: activations that `dyadnet.activation.recognise` knows, between maps of any kind.
            lam: the feedback parameter; 1/2 is the plain feedforward network.
            relaxation: how the states of a recurrent network (any other `lam`) reach equilibrium.
            feedback: how errors travel down; None stands for the transpose of the maps.

        Raises:
            TypeError: naming the module, if the model is not a chain of such stages, or has no place for the path.
            ValueError: for a `lam` outside [0, 1].
        """
        if not isinstance(model, nn.Sequential) or type(model).forward is not nn.Sequential.forward:
            raise TypeError(
                f"from_sequential takes an nn.Sequential, not a {type(model).__name__}: a network with branches is not "
                "a chain of stages; put each block that branches into the sequence as one module"
            )
        if hooked(model):
            raise TypeError("the model has hooks of its own, and its stages are run one by one: hook its modules")
        modules, stages = dict(_children(model)), tuple(_stages(model))
        for name in (name for name in modules if hasattr(cls, name) or name in _OWN):
            raise TypeError(f"the model has a module named {name}, which is a name of the network's own: rename it")
        unknown = [f"{name} {type(m).__name__}" for name, m in _leaves(model) if recognise(m) is None and silent(m)]
        if unknown:
            warnings.warn(
                f"{', '.join(unknown)}: taken as part of a map, inside which autograd does the work; an activation has "
                "an attribute `activation` (dyadnet.activation.Activation)",
                stacklevel=2,
            )
        return cls(modules, stages, lam, relaxation, None if feedback is None else feedback.lay(stages))

    def with_lam(self, lam: float, relaxation: Relaxation | None = None) -> "Layered":
        """Return the same stages under another feedback parameter; the modules are shared, not copied.

        What one network learns, the other has learned, and an optimiser of one serves both: a feedforward network is
        the start of a recurrent one, and `lam` may change from epoch to epoch.

        Args:
            lam: the feedback parameter.
            relaxation: how states reach equilibrium; None stands for this network's own.

        >>> net = Layered.from_sequential(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
        >>> skew = net.with_lam(0.0)
        >>> skew.gain, skew.stages[0].map is net.stages[0].map
        (-1.0, True)
        """
        return self._twin(lam, relaxation or self.relaxation, self.feedback)

    def with_feedback(self, path: FeedbackPath | None) -> "Layered":
        """Return the same stages with errors that travel down another path; the modules are shared, not copied.

        Args:
            path: how errors travel down; None stands for the transpose.

        >>> from dyadnet.network.feedback import RandomFeedback
        >>> net = Layered.from_sequential(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
        >>> [name for name in net.with_feedback(RandomFeedback(seed=1)).state_dict() if name.startswith("feedback")]
        ['feedback.B1']
        """
        return self._twin(self.lam, self.relaxation, None if path is None else path.lay(self.stages))

    def _twin(self, lam: float, relaxation: Relaxation, feedback: AbstractFeedback | None) -> "Layered":
        modules = {name: module for name, module in self.named_children() if name != "feedback"}
        twin = Layered(modules, self.stages, lam, relaxation, feedback)
        twin.training, twin.substrate = self.training, self.substrate
        return twin

    def extra_repr(self) -> str:
        """Say where the chain was cut, and what it has besides its modules."""
        stages = " | ".join(f"{stage.name} -> {stage.activation.name}" for stage in self.stages)
        return f"lam={self.lam:g}, stages: {stages}"

    def forward(self, x: Tensor) -> Tensor:
        """Return the output for inputs `x` of shape `(batch, ...)`: at equilibrium, where the network is recurrent."""
        if self.gain != 0:
            return self.relax(x).states[-1].mean()
        if self.substrate is not None:
            return self.relax(x, relaxation=_UPWARD).states[-1].mean()
        for stage in self.stages:
            x = stage.activation.f(stage.map(x))
        return x

    @property
    def differentiable(self) -> bool:
        """Without loops it is."""
        return self.loop_free()

    @property
    def relaxes(self) -> bool:
        """With loops they have to."""
        return not self.loop_free()

    def loop_free(self) -> bool:
        """Return whether it is a feedforward chain."""
        return self.gain == 0

    def wire(self, x: Tensor, states: States | None = None, copies: int = 1) -> ChainWiring:
        """Return the wiring for one batch."""
        self.check_inputs(x, states, copies)
        held = dict(enumerate(states or (), 1))
        return over(self.substrate, ChainWiring(self.stages, self.gain, x, held, copies, self.feedback))

    def groups(self) -> list[tuple[str, list[nn.Parameter]]]:
        """Return the parameters of every stage."""
        return [(stage.name, stage.parameters()) for stage in self.stages]

    def coupling(self) -> list[nn.Parameter]:
        """Return the weights of all stages but the lowest."""
        return [p for stage in self.stages[1:] for p in stage.parameters() if p.dim() > 1]

    def energy_missing(self) -> str | None:
        """Feedback must not be negative or absent, nor take a path of its own, and activations must be monotone."""
        for stage in self.stages:
            if not stage.activation.monotone:
                return (
                    f"{stage.name} has the activation {stage.activation.name}, which is not monotone: no energy exists"
                )
        if self.gain > 0 and self.feedback is not None and not self.feedback.nominal:
            return "feedback through weights of its own has no energy: use RandomFeedbackCHL or Dyadic"
        if self.gain > 0:
            return None
        return f"a layered network of lam={self.lam:g} has no energy: take lam above 1/2, or use Dyadic"

    def affine(self, *, inputs: bool = False) -> bool:
        """Return whether every map between layers is affine as it stands (linear maps, convolutions, averages).

        Args:
            inputs: whether that of the inputs must be, too.
        """
        stages = self.stages if inputs else self.stages[1:]
        return all(computes(module, _AFFINE) for stage in stages for module in modules_of(stage.map))

    def curved(self) -> list[str]:
        """Name the maps between layers that are neither affine, nor averages and maxima, nor running statistics."""
        if self.gain == 0:
            return []
        straight = (*_AFFINE, *_MAXIMA, *_STEADY)
        return [
            f"{stage.name}'s {type(module).__name__}"
            for stage in self.stages[1:]
            for module in modules_of(stage.map)
            if not computes(module, straight)
        ]

    def convex(self) -> bool:
        """Return whether every map between layers is affine, or takes maxima of affine ones for units of at least 0.

        `-<s_k, map_k(s_{k-1})>` is then concave in `s_{k-1}`.
        """
        return all(_convex(stage) for stage in self.stages[1:])

    def changing(self) -> list[str]:
        """Name the modules whose map differs between two visits: dropout, batch statistics, spectral normalisation."""
        return [f"{name} {type(module).__name__}" for name, module in self.named_modules() if changes(module)]


def _convex(stage: Stage) -> bool:
    """Whether a stage is affine, or takes averages and maxima of affine maps below units that are not negative."""
    above = list(dropwhile(lambda module: computes(module, _AFFINE), modules_of(stage.map)))
    return not above or (stage.activation.lower >= 0 and all(computes(module, _MONOTONE) for module in above))


def _children(model: nn.Sequential) -> Iterator[tuple[str, nn.Module]]:
    """Walk the places of a sequence; a module may stand in several, which `named_children` would give once."""
    return zip(model._modules, model, strict=True)


def _leaves(model: nn.Sequential, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Walk nested sequences as one chain."""
    for name, module in _children(model):
        if in_sequence(module):
            yield from _leaves(module, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", module


def _stages(model: nn.Sequential) -> list[Stage]:
    """Group the modules between activations into maps."""
    stages: list[Stage] = []
    maps: list[tuple[str, nn.Module]] = []
    for name, module in _leaves(model):
        activation = recognise(module)
        if activation is not None and hooked(module):
            raise TypeError(f"{name} {type(module).__name__} has hooks, but a stage computes its activation by itself")
        if activation is not None:
            stages.append(_stage(maps, activation))
            maps = []
        elif type(module).__module__ == "torch.nn.modules.activation":
            raise TypeError(
                f"{name} {type(module).__name__} is not an activation that a stage can have; known are ReLU, "
                "LeakyReLU, Hardtanh, ReLU6, Tanh, Sigmoid, Hardsigmoid, UnitSigmoid, Sign, SiLU, GELU, "
                "Identity, and modules of your own with an attribute `activation` (dyadnet.activation.Activation)"
            )
        else:
            maps.append((name, module))
    if not maps and stages and stages[-1].activation.linear:
        return stages
    if not any(True for _, module in maps for _ in module.parameters()):
        raise TypeError(
            "the model has no final linear map: after its last activation comes "
            + (", ".join(f"{name} {type(module).__name__}" for name, module in maps) or "nothing")
            + "; end it with an nn.Linear and leave a softmax to the loss"
        )
    return [*stages, _stage(maps, IDENTITY)]


def _stage(maps: list[tuple[str, nn.Module]], activation: Activation) -> Stage:
    """Make a stage, named after the first of its modules that learns."""
    named = next((m for m in maps if any(True for _ in m[1].parameters())), maps[0] if maps else ("", nn.Identity()))
    modules = [module for _, module in maps]
    single = modules[0] if len(modules) == 1 else nn.Sequential(*modules)
    return Stage(single, activation, f"{named[0]} {type(named[1]).__name__}".strip())
