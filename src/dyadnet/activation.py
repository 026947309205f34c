"""Elementwise activations `f` and what inference may know of them without differentiating.

A neuron's state is `s = f(a)` with `f = (grad G)^{-1}` (thesis eq. 3.8): monotone activations are minimisers of a
neuron energy `G(s) - s a`, which is why the library keeps their inverse, range and slope.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor, nn

Elementwise = Callable[[Tensor], Tensor]


def _identity(a: Tensor) -> Tensor:
    return a


@dataclass(frozen=True)
class Activation:
    """An elementwise function `f` with its derivative-free facts.

    Attributes:
        name: what reports call it.
        f: the function, of any shape; never changes its argument.
        f_: the same, free to overwrite its argument (for arithmetic on temporaries).
        inverse: `f^{-1} = grad G` on the open range, or None where `f` is not monotone.
        potential: `G` itself, elementwise, or None where `f` is not monotone.
        lower, upper: the range of `f`.
        slope: the largest `|f'|`, the Lipschitz constant `L_f`.
        kinks: pre-activations at which `f'` jumps.

    >>> relu = recognise(nn.ReLU())
    >>> relu.f(torch.tensor([-1.0, 2.0])), relu.slope, relu.kinks
    (tensor([0., 2.]), 1.0, (0.0,))
    """

    name: str
    f: Elementwise
    f_: Elementwise
    inverse: Elementwise | None
    potential: Elementwise | None
    lower: float = -inf
    upper: float = inf
    slope: float = 1.0
    kinks: tuple[float, ...] = ()

    @property
    def monotone(self) -> bool:
        """Whether `f` is nondecreasing, so that a neuron energy `G` exists."""
        return self.inverse is not None


def half_square(s: Tensor) -> Tensor:
    """Return `s^2 / 2`, the potential of linear and clipped neurons."""
    return s * s / 2


def _entropy(s: Tensor) -> Tensor:
    """`s ln s + (1 - s) ln(1 - s)`, the potential of the logistic function."""
    return torch.xlogy(s, s) + torch.xlogy(1 - s, 1 - s)


IDENTITY = Activation("identity", _identity, _identity, _identity, half_square)


class UnitSigmoid(nn.Module):
    """The logistic function of slope 1, `1 / (1 + exp(-4 a))`.

    Its largest slope is 1, as that of `tanh` and of the hard sigmoid; `nn.Sigmoid` has 1/4.

    >>> UnitSigmoid()(torch.tensor([0.0, 0.25]))
    tensor([0.5000, 0.7311])
    """

    def forward(self, a: Tensor) -> Tensor:
        """Return the activity of pre-activations `a` of any shape."""
        return torch.sigmoid(4 * a)


def _inside(s: Tensor, lower: float, upper: float) -> Tensor:
    """`s` moved off the ends of an open range, where the inverse is infinite."""
    margin = torch.finfo(s.dtype).eps * (upper - lower)
    return s.clamp(lower + margin, upper - margin)


def _leaky(slope: float) -> Activation:
    return Activation(
        f"leaky-relu({slope:g})",
        f=lambda a: nn.functional.leaky_relu(a, slope),
        f_=lambda a: nn.functional.leaky_relu_(a, slope),
        inverse=(lambda s: torch.where(s < 0, s / slope, s)) if slope > 0 else None,
        potential=(lambda s: torch.where(s < 0, s / slope, s) * s / 2) if slope > 0 else None,
        slope=max(1.0, abs(slope)),
        kinks=(0.0,),
    )


def _clip(lower: float, upper: float) -> Activation:
    """The hard sigmoid on [0, 1], the hard tanh on [-1, 1]."""
    return Activation(
        f"clip({lower:g}, {upper:g})",
        f=lambda a: a.clamp(lower, upper),
        f_=lambda a: a.clamp_(lower, upper),
        inverse=_identity,
        potential=half_square,
        lower=lower,
        upper=upper,
        kinks=(lower, upper),
    )


def recognise(module: nn.Module) -> Activation | None:
    """Return the activation that `module` computes, or None where it is not one that the library knows.

    Known: `nn.Identity`, `nn.ReLU`, `nn.LeakyReLU`, `nn.Hardtanh` (and `nn.ReLU6`), `nn.Tanh`, `nn.Sigmoid`,
    `UnitSigmoid`, and for feedforward use the non-monotone `nn.SiLU` and `nn.GELU`.

    >>> recognise(nn.Hardtanh(0, 1)).name
    'clip(0, 1)'
    >>> recognise(nn.Softmax(dim=1)) is None
    True
    """
    match module:
        case nn.Identity():
            return IDENTITY
        case nn.ReLU():
            return Activation(
                "relu", torch.relu, torch.relu_, inverse=_identity, potential=half_square, lower=0.0, kinks=(0.0,)
            )
        case nn.LeakyReLU():
            return _leaky(module.negative_slope)
        case nn.Hardtanh():
            return _clip(module.min_val, module.max_val)
        case nn.Tanh():
            return Activation(
                "tanh",
                torch.tanh,
                torch.tanh_,
                inverse=lambda s: _inside(s, -1, 1).atanh(),
                potential=lambda s: (torch.xlogy(1 + s, 1 + s) + torch.xlogy(1 - s, 1 - s)) / 2,
                lower=-1.0,
                upper=1.0,
            )
        case nn.Sigmoid():
            return Activation(
                "sigmoid",
                torch.sigmoid,
                torch.sigmoid_,
                inverse=lambda s: _inside(s, 0, 1).logit(),
                potential=_entropy,
                lower=0.0,
                upper=1.0,
                slope=0.25,
            )
        case UnitSigmoid():
            return Activation(
                "unit-sigmoid",
                f=module.forward,
                f_=lambda a: a.mul_(4).sigmoid_(),
                inverse=lambda s: _inside(s, 0, 1).logit() / 4,
                potential=lambda s: _entropy(s) / 4,
                lower=0.0,
                upper=1.0,
            )
        case nn.SiLU():
            return Activation(
                "silu",
                nn.functional.silu,
                lambda a: nn.functional.silu(a, inplace=True),
                inverse=None,
                potential=None,
                lower=-0.2784645,
                slope=1.0998393,
            )
        case nn.GELU():
            return _gelu(module.approximate)
    return None


def _gelu(approximate: str) -> Activation:
    def gelu(a: Tensor) -> Tensor:
        return nn.functional.gelu(a, approximate=approximate)

    return Activation(
        f"gelu({approximate})", gelu, gelu, inverse=None, potential=None, lower=-0.1699712, slope=1.1289042
    )
