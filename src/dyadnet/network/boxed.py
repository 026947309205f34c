"""Stages of one linear map whose neurons are projections on boxes: what circuits and lifted networks are made of."""

from torch import nn

from dyadnet.activation import half_square
from dyadnet.network.modules import hooked, modules_of
from dyadnet.network.stage import Stage


def boxed_linear(stage: Stage, network: str) -> nn.Linear:
    """Return the only map of a stage, apart from flattening, once its neurons are seen to be projections.

    Args:
        stage: of a chain.
        network: what is to be made of it, for the complaint.

    Raises:
        TypeError: naming the stage.

    >>> from dyadnet.activation import recognise
    >>> boxed_linear(Stage(nn.Linear(3, 2), recognise(nn.ReLU()), "0 Linear"), "lifted network")
    Linear(in_features=3, out_features=2, bias=True)
    """
    maps = [module for module in modules_of(stage.map) if not isinstance(module, nn.Flatten)]
    if len(maps) != 1 or type(maps[0]) is not nn.Linear or hooked(maps[0]):
        names = ", ".join(type(module).__name__ for module in maps) or "nothing"
        raise TypeError(f"{stage.name}: a {network} is made of one plain nn.Linear a stage, not of {names}")
    if stage.activation.potential is not half_square:
        raise TypeError(
            f"{stage.name} has the activation {stage.activation.name}: the layers of a {network} lie in boxes, "
            "which takes ReLU, Hardtanh or no activation"
        )
    return maps[0]
