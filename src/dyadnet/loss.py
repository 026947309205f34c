"""Losses: one value a sample, with the gradient and the proximal step that nudge an output layer.

A loss maps `(output, y)` to `(batch,)`; rules take the mean, so that the nudging strength `beta` means the same at
every batch size. Nudging an output `a` with strength `c` moves it to one of

    a - c grad l(a)                                  linearised
    argmin_s  c l(s) + 1/2 |s - a|^2                 proximal (a maximiser of the second term for c < 0)

The proximal step is the exact minimiser (maximiser) of an output layer of energy `1/2 |s - a|^2` (thesis eq. 4.3).
"""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

import torch
from jaxtyping import Float, Inexact
from torch import Tensor, nn

Outputs = Inexact[Tensor, "batch *output"]
Strength = float | Tensor
"""A nudge; a tensor holds one a sample, broadcastable to the output."""


class AbstractLoss(abc.ABC):
    """A loss of outputs `(batch, ...)` and targets, one value a sample.

    Attributes:
        curvature: the largest eigenvalue of the Hessian in the output; a proximal step needs `c > -1 / curvature`.
            Infinite where it is not known.
        exact: whether it has a proximal step.
        quadratic: whether it is the squared error.
    """

    curvature: float
    exact = True
    quadratic = False

    @abc.abstractmethod
    def __call__(self, output: Outputs, y: Tensor) -> Float[Tensor, "batch"]:
        """Return the loss of every sample, `(batch,)`."""

    @abc.abstractmethod
    def gradient(self, output: Outputs, y: Tensor) -> Outputs:
        """Return `grad l` of every sample with respect to its output, of the output's shape."""

    def mass(self, y: Tensor) -> Strength:
        """Return by how much these targets multiply the curvature: 1, but where soft labels do not sum to 1."""
        return 1.0

    def applied(self, strength: Strength) -> Strength:
        """Return the strength of a nudge where this one is asked for: the same, but in circuits."""
        return strength

    def nudge(self, y: Tensor, strength: Strength) -> Callable[[Outputs], Outputs]:
        """Return the proximal step as a function of the output, for many steps with the same targets."""
        rows = held(self, y)
        return lambda a: self.proximal(a, rows(a), strength)

    @abc.abstractmethod
    def proximal(self, a: Outputs, y: Tensor, strength: Strength) -> Outputs:
        """Return the stationary point of `strength l(s, y) + 1/2 |s - a|^2`.

        Raises:
            ValueError: if `strength mass(y) <= -1 / curvature`, where that point is not unique.
        """


def _check_strength(name: str, strength: Strength, curvature: float) -> None:
    """Refuse a nudge that is stronger than the output's own energy: a negative one, or a circle around zero."""
    if not isinstance(strength, Tensor):
        weakest = strength
    else:
        weakest = -float(strength.abs().max()) if strength.is_complex() else float(strength.min())
    if weakest * curvature <= -1:
        raise ValueError(
            f"{name} is nudged away from the target with strength {-weakest:g}, "
            f"but its exact step needs a strength below {1 / curvature:g}: take a smaller beta or the linearised nudge"
        )


@dataclass(frozen=True)
class SquaredError(AbstractLoss):
    """`l(s, y) = 1/2 |s - y|^2`, summed over a sample's outputs.

    `y` holds real targets of the output's shape, or integer classes `(batch,)` that stand for one-hot rows.

    >>> squared_error(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]]))
    tensor([2.5000])
    >>> squared_error.proximal(torch.tensor([[1.0]]), torch.tensor([[0.0]]), 1.0)
    tensor([[0.5000]])
    """

    curvature = 1.0
    quadratic = True

    def __call__(self, output: Outputs, y: Tensor) -> Float[Tensor, "batch"]:
        """Return `1/2 |output - y|^2`, `(batch,)`."""
        return self.gradient(output, y).square().flatten(1).sum(1) / 2

    def gradient(self, output: Outputs, y: Tensor) -> Outputs:
        """Return `output - y`."""
        return output - one_hot(y, output)

    def nudge(self, y: Tensor, strength: Strength) -> Callable[[Outputs], Outputs]:
        """Return `a -> (a + strength y) / (1 + strength)`."""
        _check_strength("squared error", strength, self.curvature)
        share = strength / (1 + strength)
        rows = held(self, y)

        def nudged(a: Outputs) -> Outputs:
            a = a.to(share.dtype) if isinstance(share, Tensor) and share.is_complex() else a
            return torch.lerp(a, rows(a), share)

        return nudged

    def proximal(self, a: Outputs, y: Tensor, strength: Strength) -> Outputs:
        """Return `(a + strength y) / (1 + strength)`."""
        return self.nudge(y, strength)(a)


@dataclass(frozen=True)
class CrossEntropy(AbstractLoss):
    """`l(s, y) = -sum_i y_i log softmax(s)_i` over the classes of an output `(batch, classes)`.

    `y` holds integer classes `(batch,)`, or soft labels `(batch, classes)`: distributions over the classes, or any
    weights of them, whose sum multiplies the curvature.

    >>> cross_entropy(torch.zeros(1, 4), torch.tensor([2])).exp()
    tensor([4.])
    """

    curvature = 0.5  # of diag(p) - p p^T over the simplex

    def __call__(self, output: Outputs, y: Tensor) -> Float[Tensor, "batch"]:
        """Return the cross-entropy of every sample, `(batch,)`.

        Raises:
            ValueError: for an output that is not `(batch, classes)`: of an image, each place would have a loss.
        """
        _check_classes(output)
        return nn.functional.cross_entropy(output, _fitting(y, output), reduction="none")

    def gradient(self, output: Outputs, y: Tensor) -> Outputs:
        """Return `sum_i y_i softmax(output) - y`."""
        _check_classes(output)
        y = one_hot(y, output)
        return torch.addcmul(-y, y.sum(1, keepdim=True), output.softmax(1))

    def mass(self, y: Tensor) -> Strength:
        """Return the sum of every sample's soft labels, `(batch, 1)`; 1 for classes."""
        return y.sum(-1, keepdim=True) if y.dtype.is_floating_point else 1.0

    def nudge(self, y: Tensor, strength: Strength) -> Callable[[Outputs], Outputs]:
        """Return the solution of `s + strength grad l(s) = a` as a function of a, its targets checked once."""
        _check_strength("cross-entropy", strength * self.mass(y), self.curvature)
        rows = held(self, y)
        return lambda a: self._solved(a, rows(a), strength)

    def proximal(self, a: Outputs, y: Tensor, strength: Strength) -> Outputs:
        """Return the solution of `s + strength grad l(s) = a`."""
        return self.nudge(y, strength)(a)

    def _solved(self, a: Tensor, y: Tensor, strength: Strength) -> Tensor:
        """Solve by Newton's method with step halving, to machine precision."""
        _check_classes(a)
        c = strength * y.sum(1, keepdim=True)

        def residual(s: Tensor) -> Tensor:
            return s + strength * self.gradient(s, y) - a

        s, r = a, residual(a)
        for _ in range(100):
            shorter, r_shorter = _descend(residual, s, r, _newton_step(s.softmax(1), r, c))
            if not (r_shorter.abs().max() < r.abs().max()):  # rounding has the last word
                break
            s, r = shorter, r_shorter
        return s


def _check_classes(output: Tensor) -> None:
    if output.dim() != 2:
        raise ValueError(
            f"cross-entropy is over classes, (batch, classes), and does not fit an output of {tuple(output.shape)}: "
            "write a loss of one value a sample, which sums over places"
        )


def _descend(residual: Callable[[Tensor], Tensor], s: Tensor, r: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """Go along a Newton step, halved sample by sample until the residual is shorter; return `s` itself if it never is.

    It falls along the step, as the Hessian is positive.
    """
    share, size = torch.ones_like(s[:, :1]), r.abs().amax(1, keepdim=True)
    rounding = 4 * torch.finfo(s.dtype).eps * s.abs().amax(1, keepdim=True).clamp(min=1)
    for _ in range(50):
        trial = s - share * step
        r_trial = residual(trial)
        worse = (r_trial.abs().amax(1, keepdim=True) >= size) & (size > rounding)
        if not worse.any():
            return trial, r_trial
        share = torch.where(worse, share / 2, share)
    trial = torch.where(share < 2.0**-49, s, s - share * step)
    return (s, r) if torch.equal(trial, s) else (trial, residual(trial))


def _newton_step(p: Tensor, r: Tensor, c: Strength) -> Tensor:
    """Return the solution of `(I + c (diag(p) - p p^T)) x = r`, a row a sample, in O(classes).

        (1 + c p_i) x_i = r_i + c p_i u,      u = sum_i p_i x_i,      sum_i x_i = sum_i r_i

    For `c <= -1` the factor of the largest p may vanish: its row gives way to the sum of all.
    """
    m, total = p.argmax(1, keepdim=True), r.sum(1, keepdim=True)
    p_m, q = p.gather(1, m), (c * p).scatter(1, m, 0)
    a, b = r.scatter(1, m, 0) / (1 + q), q / (1 + q)  # x = a + b u but in row m
    u = (p_m * total + ((p - p_m) * a).sum(1, keepdim=True)) / (1 - ((p - p_m) * b).sum(1, keepdim=True))
    x = torch.addcmul(a, b, u)
    return x.scatter(1, m, total - x.sum(1, keepdim=True))


@dataclass(frozen=True)
class CustomLoss(AbstractLoss):
    """A user's own `function(output, y) -> (batch,)`, its gradient taken by autograd.

    >>> absolute = CustomLoss(lambda output, y: (output - y).abs().sum(1))
    >>> absolute.gradient(torch.tensor([[3.0, -1.0]]), torch.zeros(1, 2))
    tensor([[ 1., -1.]])
    """

    function: Callable[[Tensor, Tensor], Tensor]
    curvature = inf  # nobody knows
    exact = False

    def __call__(self, output: Outputs, y: Tensor) -> Float[Tensor, "batch"]:
        """Return `function(output, y)`, `(batch,)`.

        Raises:
            ValueError: if it is not one value a sample, for a mean would make rules disagree about the size of a nudge.
        """
        value = self.function(output, y)
        if value.shape != output.shape[:1]:
            raise ValueError(
                f"a loss gives one value a sample, of shape {tuple(output.shape[:1])}, not {tuple(value.shape)}: "
                "take reduction='none', and sum over all but the batch"
            )
        return value

    def gradient(self, output: Outputs, y: Tensor) -> Outputs:
        """Return the gradient with respect to `output`."""
        with torch.enable_grad():
            leaf = output.detach().requires_grad_()
            return torch.autograd.grad(self(leaf, y).sum(), leaf)[0]

    def proximal(self, a: Outputs, y: Tensor, strength: Strength) -> Outputs:
        """Refuse: the library cannot know the step of a function that it has not seen."""
        raise ValueError("a loss of one's own has no proximal step: use the linearised nudge, output='linear'")


Loss = AbstractLoss | Callable[[Tensor, Tensor], Tensor]

squared_error = SquaredError()
cross_entropy = CrossEntropy()


def as_loss(loss: Loss) -> AbstractLoss:
    """Return `loss` itself, or a plain function `(output, y) -> (batch,)` as a loss."""
    return loss if isinstance(loss, AbstractLoss) else CustomLoss(loss)


def fitted(loss: AbstractLoss, y: Tensor, output: Outputs) -> Tensor:
    """Return targets that need no check at every use: rows, or as they are for a loss of one's own."""
    return one_hot(y, output) if loss.exact else y


def held(loss: AbstractLoss, y: Tensor) -> Callable[[Outputs], Tensor]:
    """Return `output -> fitted targets`, made from the first output and held for all passes of a relaxation."""
    made: list[Tensor] = []

    def rows(output: Outputs) -> Tensor:
        if not made:
            made.append(fitted(loss, y, output))
        return made[0]

    return rows


def one_hot(y: Tensor, output: Outputs) -> Outputs:
    """Return targets of the output's shape and dtype: real `y` as they are, integer classes `(batch,)` as one-hot rows.

    >>> one_hot(torch.tensor([1]), torch.zeros(1, 3))
    tensor([[0., 1., 0.]])

    Raises:
        ValueError: if the shapes do not fit, or (on the CPU, where looking is free) a class is out of range.
    """
    fitting = _fitting(y, output)
    return fitting if y.dtype.is_floating_point else torch.zeros_like(output).scatter_(1, fitting[:, None], 1)


def _fitting(y: Tensor, output: Outputs) -> Tensor:
    """Return real targets in the output's dtype, or integer classes, once they are seen to fit the output."""
    if y.dtype.is_floating_point:
        if y.shape != output.shape:
            raise ValueError(f"targets have shape {tuple(y.shape)}, but the output has {tuple(output.shape)}")
        return y.to(output.dtype)
    if y.shape != output.shape[:1] or output.dim() != 2:
        raise ValueError(f"classes have shape {tuple(y.shape)}, which does not fit an output of {tuple(output.shape)}")
    if not y.is_cuda and y.numel():
        lowest, highest = (int(end) for end in y.aminmax())
        if lowest < 0 or highest >= output.shape[1]:
            raise ValueError(f"classes range from {lowest} to {highest}, but the output has {output.shape[1]} of them")
    return y.long()
