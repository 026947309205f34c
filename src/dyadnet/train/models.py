"""The networks that the command line can name, as plain `nn.Sequential`s."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod
from typing import Literal

from torch import nn

from dyadnet.activation import Sign, UnitSigmoid
from dyadnet.train.resnet import resnet18

ChainName = Literal["mlp", "cnn", "vgg", "vgg16", "resnet18"]
NetworkName = Literal[ChainName, "hopfield", "lifted", "dense", "resistive"]
ActivationName = Literal[
    "relu", "leaky-relu", "tanh", "sigmoid", "unit-sigmoid", "hard-sigmoid", "silu", "gelu", "sign"
]
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
    "sign": Sign,
}
_VGG16 = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


def linear(below: int, width: int, normed: bool = False) -> list[nn.Module]:
    """Return a linear map, with a bias or with batch normalisation, which has neither weights nor a bias of its own."""
    norm = [nn.BatchNorm1d(width, affine=False)] if normed else []
    return [nn.Linear(below, width, bias=not normed), *norm]


def convolution(below: int, channels: int, normed: bool = False) -> list[nn.Module]:
    """Return a 3x3 convolution that keeps the size of images, with a bias or with batch normalisation."""
    norm = [nn.BatchNorm2d(channels, affine=False)] if normed else []
    return [nn.Conv2d(below, channels, 3, padding=1, bias=not normed), *norm]


def mlp(
    shape: Sequence[int],
    classes: int,
    hidden: Sequence[int],
    activation: ActivationName = "relu",
    *,
    normed: bool = False,
) -> nn.Sequential:
    """Return a multi-layer perceptron with hidden layers of the given widths, with biases or batch normalisation.

    >>> [tuple(p.shape) for p in mlp((1, 2, 2), 3, [5]).parameters()]
    [(5, 4), (5,), (3, 5), (3,)]
    """
    widths = [prod(shape), *hidden]
    layers: list[nn.Module] = [nn.Flatten()]
    for below, width in pairwise(widths):
        layers += [*linear(below, width, normed), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers, *linear(widths[-1], classes, normed))


def convolutional(
    shape: Sequence[int],
    classes: int,
    blocks: Sequence[tuple[int, int]],
    hidden: Sequence[int],
    activation: ActivationName = "relu",
    *,
    feedback: bool = False,
    normed: bool = False,
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
        normed: whether batch normalisation takes the place of biases.

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
            layers += [*convolution(channels, wide, normed), ACTIVATIONS[activation]()]
            channels = wide
        layers = [*layers[:-1], nn.AvgPool2d(2), layers[-1]] if feedback else [*layers, nn.MaxPool2d(2)]
        height, width = height // 2, width // 2
    return nn.Sequential(*layers, *mlp((channels, height, width), classes, hidden, activation, normed=normed))


def build(
    network: ChainName,
    shape: Sequence[int],
    classes: int,
    hidden: Sequence[int],
    activation: ActivationName = "relu",
    *,
    feedback: bool = False,
    normed: bool = False,
) -> nn.Sequential:
    """Return the named network, with biases or batch normalisation.

    `mlp`, `cnn` (32 and 64 channels), `vgg` (64, 128 and 256, twice each) or the `vgg16` of papers C and D; normalised,
    that is the one of paper B, with hidden layers of 512. `resnet18` is always normalised.

    Raises:
        ValueError: if a network of convolutions cannot take samples of that shape, or a residual one is to have
            feedback.
    """
    if network == "mlp":
        return mlp(shape, classes, hidden, activation, normed=normed)
    if network == "resnet18":
        if feedback or len(shape) != 3:
            raise ValueError("resnet18 is a feedforward network for images (channels, height, width)")
        return resnet18(shape[0], classes, ACTIVATIONS[activation])
    blocks = {"cnn": ((32, 1), (64, 1)), "vgg": ((64, 2), (128, 2), (256, 2)), "vgg16": _VGG16}[network]
    if network == "vgg16":
        hidden = (512, 512) if normed else (4096, 4096)
    return convolutional(shape, classes, blocks, hidden, activation, feedback=feedback, normed=normed)


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
