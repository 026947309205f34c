"""The networks that the command line can name, as plain `nn.Sequential`s."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod
from typing import Literal

from torch import nn

from dyadnet.activation import UnitSigmoid

ChainName = Literal["mlp", "cnn", "vgg16"]
NetworkName = Literal[ChainName, "hopfield", "lifted", "dense"]
ActivationName = Literal["relu", "leaky-relu", "tanh", "sigmoid", "unit-sigmoid", "hard-sigmoid", "silu", "gelu"]
Initialisation = Literal["torch", "he", "lecun", "glorot", "orthogonal"]

ACTIVATIONS: dict[ActivationName, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky-relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "unit-sigmoid": UnitSigmoid,
    "hard-sigmoid": lambda: nn.Hardtanh(0.0, 1.0),
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}
_VGG16 = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


def mlp(
    shape: Sequence[int], classes: int, hidden: Sequence[int], activation: ActivationName = "relu"
) -> nn.Sequential:
    """Return a multi-layer perceptron with hidden layers of the given widths.

    >>> [tuple(p.shape) for p in mlp((1, 2, 2), 3, [5]).parameters()]
    [(5, 4), (5,), (3, 5), (3,)]
    """
    widths = [prod(shape), *hidden]
    layers: list[nn.Module] = [nn.Flatten()]
    for below, width in pairwise(widths):
        layers += [nn.Linear(below, width), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], classes))


def convolutional(
    shape: Sequence[int],
    classes: int,
    blocks: Sequence[tuple[int, int]],
    hidden: Sequence[int],
    activation: ActivationName = "relu",
    *,
    feedback: bool = False,
) -> nn.Sequential:
    """Return blocks of 3x3 convolutions, each closed by a 2x2 max-pooling, and a perceptron on top.

    With feedback, averages of drives are pooled, before the activation: feedback to the winner of a window can make it
    lose, and states that keep changing sides never settle.

    Args:
        shape: of one image, `(channels, height, width)`.
        classes: the width of the output.
        blocks: channels and number of convolutions of every block.
        hidden: widths of the hidden layers on top.
        activation: of every hidden layer.
        feedback: whether the network is to have feedback.

    Raises:
        ValueError: if samples are not images, or too small for the poolings.
    """
    if len(shape) != 3:
        raise ValueError(f"convolutions need images (channels, height, width), but samples have shape {tuple(shape)}")
    channels, height, width = shape
    if min(height, width) < 2 ** len(blocks):
        raise ValueError(f"images of {height}x{width} are too small for {len(blocks)} poolings that halve them")
    layers: list[nn.Module] = []
    for wide, count in blocks:
        for _ in range(count):
            layers += [nn.Conv2d(channels, wide, 3, padding=1), ACTIVATIONS[activation]()]
            channels = wide
        layers = [*layers[:-1], nn.AvgPool2d(2), layers[-1]] if feedback else [*layers, nn.MaxPool2d(2)]
        height, width = height // 2, width // 2
    return nn.Sequential(*layers, *mlp((channels, height, width), classes, hidden, activation))


def build(
    network: ChainName,
    shape: Sequence[int],
    classes: int,
    hidden: Sequence[int],
    activation: ActivationName = "relu",
    *,
    feedback: bool = False,
) -> nn.Sequential:
    """Return the named network: `mlp`, `cnn` (32 and 64 channels) or the `vgg16` of papers C and D."""
    match network:
        case "mlp":
            return mlp(shape, classes, hidden, activation)
        case "cnn":
            return convolutional(shape, classes, ((32, 1), (64, 1)), hidden, activation, feedback=feedback)
        case "vgg16":
            return convolutional(shape, classes, _VGG16, (4096, 4096), activation, feedback=feedback)


def initialise(model: nn.Module, how: Initialisation) -> None:
    """Draw the weights of linear maps and convolutions anew; biases become zero. `torch` leaves all as it is."""
    if how == "torch":
        return
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            match how:
                case "he":
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                case "lecun":
                    nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
                case "glorot":
                    nn.init.xavier_uniform_(module.weight)
                case "orthogonal":
                    nn.init.orthogonal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
