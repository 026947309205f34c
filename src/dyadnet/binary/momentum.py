"""Momentum as an average of gradients with its bias corrected: the base optimiser of two published methods."""

from collections.abc import Callable, Iterable
from typing import Any, final

import torch
from torch import Tensor

from dyadnet.bounds import bounded, positive


@final
class CorrectedMomentum(torch.optim.Optimizer):
    """Descent along the running mean of gradients, as in Adam but without its division.

        m <- b m + (1 - b) (g + weight_decay theta),       theta <- theta - lr m / (1 - b^t)

    Args:
        params: parameters, or groups of them.
        lr: the learning rate.
        momentum: `b`, in [0, 1).
        weight_decay: what is added to the gradient in units of the parameter.

    >>> p = torch.nn.Parameter(torch.tensor(1.0))
    >>> p.grad = torch.tensor(2.0)
    >>> CorrectedMomentum([p], lr=0.1, momentum=0.5).step()
    >>> round(p.item(), 6)
    0.8
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
    ) -> None:
        positive(lr=lr)
        bounded(weight_decay=weight_decay)
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), not {momentum}")
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Move every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._move(p, group)
        return loss

    def _move(self, p: Tensor, group: dict[str, Any]) -> None:
        state, b = self.state[p], group["momentum"]
        mean = state.setdefault("mean", torch.zeros_like(p))
        state["step"] = state.get("step", 0) + 1
        pull = p.grad if group["weight_decay"] == 0 else p.grad + p * group["weight_decay"]
        mean.mul_(b).add_(pull * (1 - b))
        p.sub_((mean * group["lr"]).div_(1 - b ** state["step"]))
