"""Elementwise activations `f` and what inference may know of them without differentiating.

A neuron's state is `s = f(a)` with `f = (grad G)^{-1}` (thesis eq. 3.8): monotone activations are minimisers of a
neuron energy `G(s) - s a`, which is why the library keeps their inverse, range and slope.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

Elementwise = Callable[[Tensor], Tensor]
Derivative = Callable[[Tensor, Tensor], Tensor]


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
        derivative: `(a, f(a)) -> f'(a)`, elementwise, for rules that need it.
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
    derivative: Derivative
    lower: float = -inf
    upper: float = inf
    slope: float = 1.0
    kinks: tuple[float, ...] = ()

    @property
    def linear(self) -> bool:
        """Whether `f` is the identity."""
        return self.f is _identity

    @property
    def monotone(self) -> bool:
        """Whether `f` is nondecreasing, so that a neuron energy `G` exists."""
        return self.inverse is not None

    @property
    def holomorphic(self) -> bool:
        """Whether `f` and its inverse continue to complex arguments: monotone, and without kinks."""
        return self.monotone and not self.kinks


def _identity_derivative(a: Tensor, s: Tensor) -> Tensor:
    return torch.ones_like(a)


def half_square(s: Tensor) -> Tensor:
    """Return `s^2 / 2`, the potential of linear and clipped neurons."""
    return s * s / 2


def _entropy(s: Tensor) -> Tensor:
    """`s ln s + (1 - s) ln(1 - s)`, the potential of the logistic function."""
    return torch.xlogy(s, s) + torch.xlogy(1 - s, 1 - s)


_aten = torch.ops.aten
IDENTITY = Activation("identity", _identity, _identity, _identity, half_square, _identity_derivative)


class UnitSigmoid(nn.Module):
    """The logistic function of slope 1, `1 / (1 + exp(-4 a))`.

    Its largest slope is 1, as that of `tanh` and of the hard sigmoid; `nn.Sigmoid` has 1/4.

    >>> UnitSigmoid()(torch.tensor([0.0, 0.25]))
    tensor([0.5000, 0.7311])
    """

    def forward(self, a: Tensor) -> Tensor:
        """Return the activity of pre-activations `a` of any shape."""
        return torch.sigmoid(4 * a)


class _Sign(torch.autograd.Function):
    """The sign, with the derivative of the hard tanh."""

    @staticmethod
    def forward(ctx: Any, a: Tensor) -> Tensor:
        ctx.save_for_backward(a)
        return _sign(a)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return _aten.hardtanh_backward.default(grads[0], ctx.saved_tensors[0], -1.0, 1.0)


class Sign(nn.Module):
    """Neurons of two values, -1 and 1, by the sign of the drive; that of zero is 1.

    Differentiated, the jump is taken for the slope of the hard tanh: 1 between -1 and 1, and 0 beyond. Rules that take
    differences of states need no slope: a difference is 2 where a jump lies between two drives, else 0.

    >>> Sign()(torch.tensor([-0.3, 0.0, 2.0]))
    tensor([-1.,  1.,  1.])
    """

    def forward(self, a: Tensor) -> Tensor:
        """Return the activity of pre-activations `a` of any shape."""
        return _two_valued(a)


def _sign(a: Tensor) -> Tensor:
    return torch.copysign(a.new_ones(()), a)


def _sign_(a: Tensor) -> Tensor:
    return torch.copysign(a.new_ones(()), a, out=a)


def _two_valued(a: Tensor) -> Tensor:
    """The sign; where autograd looks on, with a slope."""
    return _Sign.apply(a) if a.requires_grad and torch.is_grad_enabled() else _sign(a)  # pyright: ignore[reportReturnType]


def _inside(s: Tensor, lower: float, upper: float) -> Tensor:
    """`s` moved off the ends of an open range, where the inverse is infinite."""
    margin = torch.finfo(s.dtype).eps * (upper - lower)
    return s.clamp(lower + margin, upper - margin)


def _tanh_inverse(s: Tensor) -> Tensor:
    return _inside(s, -1, 1).atanh()


def _sigmoid_inverse(s: Tensor) -> Tensor:
    return _inside(s, 0, 1).logit()


def _unit_sigmoid(a: Tensor) -> Tensor:
    return torch.sigmoid(4 * a)


def _unit_sigmoid_(a: Tensor) -> Tensor:
    return a.mul_(4).sigmoid_()


def _unit_sigmoid_inverse(s: Tensor) -> Tensor:
    return _sigmoid_inverse(s) / 4


def _relu_derivative(a: Tensor, s: Tensor) -> Tensor:
    return s.sign()


def _tanh_derivative(a: Tensor, s: Tensor) -> Tensor:
    return 1 - s * s


def _sigmoid_derivative(a: Tensor, s: Tensor) -> Tensor:
    return s - s * s


def _unit_sigmoid_derivative(a: Tensor, s: Tensor) -> Tensor:
    return 4 * (s - s * s)


def _leaky_derivative(a: Tensor, s: Tensor, slope: float) -> Tensor:
    return _aten.leaky_relu_backward.default(torch.ones_like(a), a, slope, False)


def _clip_derivative(a: Tensor, s: Tensor, lower: float, upper: float) -> Tensor:
    return _aten.hardtanh_backward.default(torch.ones_like(a), a, lower, upper)


def _silu_derivative(a: Tensor, s: Tensor) -> Tensor:
    return _aten.silu_backward.default(torch.ones_like(a), a)


def _gelu_derivative(a: Tensor, s: Tensor, approximate: str) -> Tensor:
    return _aten.gelu_backward.default(torch.ones_like(a), a, approximate=approximate)


def _leaky_inverse(s: Tensor, slope: float) -> Tensor:
    return torch.where(s < 0, s / slope, s)


def _leaky_potential(s: Tensor, slope: float) -> Tensor:
    return _leaky_inverse(s, slope) * s / 2


def _tanh_potential(s: Tensor) -> Tensor:
    return (torch.xlogy(1 + s, 1 + s) + torch.xlogy(1 - s, 1 - s)) / 2


def _unit_sigmoid_potential(s: Tensor) -> Tensor:
    return _entropy(s) / 4


def _hard_sigmoid_inverse(s: Tensor) -> Tensor:
    return 6 * s - 3


def _hard_sigmoid_potential(s: Tensor) -> Tensor:
    return 3 * (s * s - s)


def _hard_sigmoid_derivative(a: Tensor, s: Tensor) -> Tensor:
    return _aten.hardsigmoid_backward.default(torch.ones_like(a), a)


_HARD_SIGMOID = Activation(
    "hard-sigmoid/6",
    nn.functional.hardsigmoid,
    partial(nn.functional.hardsigmoid, inplace=True),
    _hard_sigmoid_inverse,
    _hard_sigmoid_potential,
    _hard_sigmoid_derivative,
    lower=0.0,
    upper=1.0,
    slope=1 / 6,
    kinks=(-3.0, 3.0),
)
_RELU = Activation("relu", torch.relu, torch.relu_, _identity, half_square, _relu_derivative, lower=0.0, kinks=(0.0,))
_TANH = Activation(
    "tanh", torch.tanh, torch.tanh_, _tanh_inverse, _tanh_potential, _tanh_derivative, lower=-1.0, upper=1.0
)
_SIGMOID = Activation(
    "sigmoid",
    torch.sigmoid,
    torch.sigmoid_,
    _sigmoid_inverse,
    _entropy,
    _sigmoid_derivative,
    lower=0.0,
    upper=1.0,
    slope=0.25,
)
_UNIT_SIGMOID = Activation(
    "unit-sigmoid",
    _unit_sigmoid,
    _unit_sigmoid_,
    _unit_sigmoid_inverse,
    _unit_sigmoid_potential,
    _unit_sigmoid_derivative,
    lower=0.0,
    upper=1.0,
)
_SILU = Activation(
    "silu",
    nn.functional.silu,
    partial(nn.functional.silu, inplace=True),
    None,
    None,
    _silu_derivative,
    lower=-0.2784645,
    slope=1.0998393,
)
_SIGN = Activation(
    "sign",
    _two_valued,
    _sign_,
    None,
    None,
    partial(_clip_derivative, lower=-1.0, upper=1.0),
    lower=-1.0,
    upper=1.0,
    slope=inf,
    kinks=(0.0,),
)
_GELU_BOUNDS = {"none": (-0.1699712, 1.1289042), "tanh": (-0.1700408, 1.1289931)}


def _leaky(slope: float) -> Activation:
    return Activation(
        f"leaky-relu({slope:g})",
        partial(nn.functional.leaky_relu, negative_slope=slope),
        partial(nn.functional.leaky_relu_, negative_slope=slope),
        inverse=partial(_leaky_inverse, slope=slope) if slope > 0 else None,
        potential=partial(_leaky_potential, slope=slope) if slope > 0 else None,
        derivative=partial(_leaky_derivative, slope=slope),
        slope=max(1.0, abs(slope)),
        kinks=(0.0,),
    )


def _clip(lower: float, upper: float) -> Activation:
    """The hard sigmoid on [0, 1], the hard tanh on [-1, 1]."""
    return Activation(
        f"clip({lower:g}, {upper:g})",
        partial(nn.functional.hardtanh, min_val=lower, max_val=upper),  # autograd's slope of a clamp is 1 at its ends
        partial(nn.functional.hardtanh_, min_val=lower, max_val=upper),
        inverse=_identity,
        potential=half_square,
        derivative=partial(_clip_derivative, lower=lower, upper=upper),
        lower=lower,
        upper=upper,
        kinks=(lower, upper),
    )


def _gelu(approximate: str) -> Activation:
    gelu = partial(nn.functional.gelu, approximate=approximate)
    lower, slope = _GELU_BOUNDS[approximate]
    derivative = partial(_gelu_derivative, approximate=approximate)
    return Activation(f"gelu({approximate})", gelu, gelu, None, None, derivative, lower=lower, slope=slope)


def recognise(module: nn.Module) -> Activation | None:
    """Return the activation that `module` computes, or None where it is not one that the library knows.

    Known: `nn.Identity`, `nn.ReLU`, `nn.LeakyReLU`, `nn.Hardtanh` and `nn.ReLU6`, `nn.Tanh`, `nn.Sigmoid`,
    `nn.Hardsigmoid`, `UnitSigmoid`, and for feedforward use `Sign` and the non-monotone `nn.SiLU` and
    `nn.GELU`. A subclass may compute something else and is not known. A module of one's own is known by an attribute
    `activation`, an `Activation`, that says what it computes.

    >>> recognise(nn.Hardtanh(0, 1)).name
    'clip(0, 1)'
    >>> recognise(nn.Softmax(dim=1)) is None
    True
    """
    plain = {
        nn.Identity: IDENTITY,
        nn.ReLU: _RELU,
        nn.Tanh: _TANH,
        nn.Sigmoid: _SIGMOID,
        UnitSigmoid: _UNIT_SIGMOID,
        nn.Hardsigmoid: _HARD_SIGMOID,
        nn.SiLU: _SILU,
        Sign: _SIGN,
    }
    kind = type(module)
    match module:
        case nn.LeakyReLU() if kind is nn.LeakyReLU:
            return _leaky(module.negative_slope)
        case nn.Hardtanh() if kind in (nn.Hardtanh, nn.ReLU6):
            return _clip(module.min_val, module.max_val)
        case nn.GELU() if kind is nn.GELU:
            return _gelu(module.approximate)
    own = getattr(module, "activation", None)
    return own if isinstance(own, Activation) else plain.get(kind)
