"""An optimiser wrapped, so that some of its parameters are binary: it moves their latents, which are kept here.

In a parameter's own place stand the weights that its method wants in the forward pass. A step lends the base optimiser
the latents in their stead, with the gradient that the method makes of `p.grad`, and writes new weights afterwards.
Where a method and a fused Adam allow, all of that is one pass over memory (`wells.py`).
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from dyadnet.binary.course import Course
from dyadnet.binary.method import AbstractMethod
from dyadnet.binary.wells import Wells, prepared


@dataclass(frozen=True, eq=False)
class Owned:
    """A binary parameter.

    Attributes:
        parameter: the user's; it holds the weights of the forward pass.
        latent: what is learned.
        scale: of every output channel, or None for 1.
        group: the number of its group.
    """

    parameter: nn.Parameter
    latent: Tensor
    scale: Tensor | None
    group: int

    def unscale(self) -> None:
        """Have weights and gradient be those of a scale of 1."""
        if self.scale is not None:
            assert self.parameter.grad is not None
            self.parameter.data.div_(self.scale)
            self.parameter.grad.mul_(self.scale)

    def rescale(self) -> None:
        """Multiply new weights."""
        if self.scale is not None:
            self.parameter.data.mul_(self.scale)


@final
class BinaryOptimizer(torch.optim.Optimizer):
    """Trains the parameters of the groups marked `binary` with a method for binary weights, the others as they are.

    The gradient is read from `p.grad`, whoever put it there, and used up. Learning rates, schedulers and gradient
    clipping work as with the base optimiser, whose groups these are. `state_dict` holds the latents; the weights of the
    forward pass are in the model's own.

    Args:
        base: any optimiser of `torch.optim` that needs no closure, with groups that have the key `binary`.
        method: how latents become weights, and learn.
        course: how long training will be.
        scale: what stands for 1: 1, or the mean size of the initial weights of every output channel (`channel`).
        seed: of the method's randomness.

    Raises:
        ValueError: if no group is binary; for a closure in `step`.

    >>> from dyadnet.binary.straight_through import STE
    >>> layer = nn.Linear(3, 2, bias=False)
    >>> base = torch.optim.Adam([{"params": layer.parameters(), "binary": True}])
    >>> optimizer = BinaryOptimizer(base, STE(), Course(steps=100))
    >>> layer.weight.abs()
    tensor([[1., 1., 1.],
            [1., 1., 1.]], grad_fn=<AbsBackward0>)
    """

    def __init__(
        self,
        base: torch.optim.Optimizer,
        method: AbstractMethod,
        course: Course,
        *,
        scale: str | None = None,
        seed: int = 0,
    ) -> None:
        if not any(group.get("binary") for group in base.param_groups):
            raise ValueError("no group of parameters is binary: mark those that are with the key binary=True")
        if scale not in (None, "channel"):
            raise ValueError(f"scale must be None or 'channel', not {scale!r}")
        self.base, self.method, self.course, self.scaling = base, method, course, scale
        self.owned: list[Owned] = []
        device = next(p.device for group in base.param_groups for p in group["params"])
        self.generator = torch.Generator(device).manual_seed(seed)
        super().__init__(base.param_groups, base.defaults)
        self._share()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Take a group of parameters in; latents start from the weights that binary ones hold."""
        super().add_param_group(param_group)
        if param_group.get("binary"):
            self.owned += [self._own(p, len(self.param_groups) - 1) for p in param_group["params"]]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Make one update with the gradients in `p.grad`; also if the base fails, weights are those of the latents."""
        if closure is not None:
            raise ValueError("binary weights learn from p.grad: compute it first, and call step without a closure")
        learning = [one for one in self.owned if one.parameter.grad is not None]
        for one in learning:
            one.unscale()
        ready, moved = self._prepared(learning), set[Owned]()
        try:
            with _aside([one.parameter for one in ready]):
                self._through_base([one for one in learning if one not in ready])
            moved = self._at_once(ready)
            self.course = self.course.onward()
        finally:
            for one in self.owned:  # annealing goes on for those without a gradient, too
                if one not in moved:
                    self.method.write(one.parameter.data, one.latent, self.course, self.generator)
                one.rescale()

    @contextmanager
    def binarized(self) -> Iterator[None]:
        """Put the binary weights in place, exactly -1 and 1 times the scale, and afterwards those that were there."""
        kept = [one.parameter.data for one in self.owned]
        try:
            for one in self.owned:
                one.parameter.data = self.binary(one)
            yield
        finally:
            for one, weight in zip(self.owned, kept, strict=True):
                one.parameter.data = weight

    @torch.no_grad()
    def binary(self, one: Owned) -> Tensor:
        """Return the binary weights of a parameter."""
        signs = self.method.signs(one.latent)
        return signs if one.scale is None else signs.mul_(one.scale)

    def state_dict(self) -> dict[str, Any]:
        """Return the base optimiser's state, the latents, and the place in training."""
        return {
            "base": self.base.state_dict(),
            "latents": [one.latent for one in self.owned],
            "scales": [one.scale for one in self.owned],
            "done": self.course.done,
            "generator": self.generator.get_state(),
        }

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go back to where `state_dict` was taken; the weights in the parameters come with the model's own state.

        Raises:
            ValueError: if the latents are not those of these parameters.
        """
        latents, scales = state_dict["latents"], state_dict["scales"]
        if [latent.shape for latent in latents] != [one.latent.shape for one in self.owned]:
            raise ValueError("the latents are not of the shapes of the binary parameters, or of another method")
        if [scale is None for scale in scales] != [one.scale is None for one in self.owned]:
            raise ValueError("the binary parameters have scales and the state has none, or the other way round")
        for one, latent, scale in zip(self.owned, latents, scales, strict=True):
            one.latent.copy_(latent)
            if one.scale is not None:
                one.scale.copy_(scale)
        self.base.load_state_dict(state_dict["base"])
        self.course = Course(self.course.steps, self.course.epoch, self.course.samples, state_dict["done"])
        self.generator.set_state(state_dict["generator"].cpu())
        self._share()

    def __getstate__(self) -> dict[str, Any]:
        """Return everything that copies and pickles take; that of torch leaves out what is not its own."""
        own = ("base", "method", "course", "scaling", "owned")
        return {name: getattr(self, name) for name in own} | {"generator": self.generator.get_state()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take it back."""
        super().__setstate__(state | {"defaults": state["base"].defaults})
        self.generator = torch.Generator(self.owned[0].latent.device)
        self.generator.set_state(state["generator"])
        self._share()

    def _share(self) -> None:
        """Have the base optimiser's groups and state for one's own."""
        self.param_groups, self.state = self.base.param_groups, self.base.state

    @torch.no_grad()
    def _own(self, p: nn.Parameter, group: int) -> Owned:
        size = p.square().mean().sqrt().clamp(min=torch.finfo(p.dtype).tiny)
        scale = _of_channels(p) if self.scaling and p.dim() > 1 else None
        one = Owned(p, self.method.start(p / size, self.generator), scale, group)
        self.method.write(p.data, one.latent, self.course, self.generator)
        one.rescale()
        return one

    def _prepared(self, learning: list[Owned]) -> dict[Owned, Callable[[], None]]:
        """Return what makes the steps that can be made in one pass."""
        wells = self.method.wells(self.course) if type(self.base) is torch.optim.Adam else None
        if wells is None:
            return {}
        steps = {one: self._step_of(one, wells) for one in learning}
        return {one: step for one, step in steps.items() if step is not None}

    def _step_of(self, one: Owned, wells: Wells) -> Callable[[], None] | None:
        p = one.parameter
        assert p.grad is not None
        return prepared(wells, one.latent, p.data, p.grad, self.state.get(p, {}), self.param_groups[one.group])

    def _at_once(self, steps: dict[Owned, Callable[[], None]]) -> set[Owned]:
        """Count the steps and make them; return the parameters that were moved."""
        for one in steps:
            self.state[one.parameter]["step"] += 1
        for step in steps.values():  # one after the other: they drive all of Python out of the cache
            step()
        return set(steps)

    def _through_base(self, learning: list[Owned]) -> None:
        """Have the base optimiser make its step, of these latents and of parameters that are not binary."""
        with ExitStack() as stack:
            befores = [stack.enter_context(self._lent(one)) for one in learning]
            self.base.step()
            for one, before in zip(learning, befores, strict=True):
                self.method.settle(one.latent, before, self.param_groups[one.group]["lr"], self.course)

    @contextmanager
    def _lent(self, one: Owned) -> Iterator[Tensor | None]:
        """Put the latents in the parameter's place for a while; yield a copy of them if they are remembered."""
        p, weight, grad = one.parameter, one.parameter.data, one.parameter.grad
        assert grad is not None
        made = self.method.gradient(one.latent, weight, grad, self.course)
        before = one.latent.clone() if self.method.remembers else None
        try:
            _put(p, one.latent, made)
            yield before
        finally:
            _put(p, weight, grad)


def _of_channels(p: Tensor) -> Tensor:
    """The mean size of the weights of every output channel; 1 for one of zeros, by which nothing could be divided."""
    sizes = p.abs().flatten(1).mean(1)
    return sizes.where(sizes > 0, 1.0).view(-1, *[1] * (p.dim() - 1))


def _put(p: nn.Parameter, data: Tensor, grad: Tensor | None) -> None:
    """Give a parameter other data and another gradient; the old one, which need not fit, goes first."""
    p.grad = None
    p.data = data
    p.grad = grad


@contextmanager
def _aside(parameters: list[nn.Parameter]) -> Iterator[None]:
    """Take gradients away, so that the base optimiser leaves these parameters alone, and bring them back."""
    grads = [p.grad for p in parameters]
    try:
        for p in parameters:
            p.grad = None
        yield
    finally:
        for p, grad in zip(parameters, grads, strict=True):
            p.grad = grad
