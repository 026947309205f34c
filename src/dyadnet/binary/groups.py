"""Which parameters are to be binary."""

from typing import Any

from torch import nn


def binary_groups(model: nn.Module, *, first: bool = True, last: bool = True) -> list[dict[str, Any]]:
    """Return the parameters of a model for an optimiser: the weights of maps, marked binary, and all others.

    The weights of maps have two dimensions or more; biases and gains have one.

    Args:
        model: its parameters come in the order of the layers.
        first: whether the weights next to the inputs are binary.
        last: whether those next to the outputs are.

    Raises:
        ValueError: if none is left to be binary.

    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> [(group.get("binary", False), len(group["params"])) for group in binary_groups(model, first=False)]
    [(True, 1), (False, 3)]
    """
    weights = [p for p in model.parameters() if p.requires_grad and p.dim() > 1]
    chosen = weights[0 if first else 1 : None if last else -1]
    if not chosen:
        raise ValueError("no weight is left to be binary: the network has no layers but those left out")
    taken = {id(p) for p in chosen}
    others = [p for p in model.parameters() if id(p) not in taken]
    return [{"params": chosen, "binary": True}, *([{"params": others}] if others else [])]
