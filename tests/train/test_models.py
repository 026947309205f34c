"""The networks that can be named: their shapes by hand, their weights by their variance."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from dyadnet import Layered
from dyadnet.train.models import ACTIVATIONS, build, convolutional, initialise, mlp


def shapes(model: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(p.shape) for p in model.parameters() if p.dim() > 1]


def test_a_perceptron_flattens_its_inputs():
    model = mlp((2, 3, 4), 5, (7,))
    assert shapes(model) == [(7, 24), (5, 7)]
    assert model(torch.zeros(6, 2, 3, 4)).shape == (6, 5)


def test_a_perceptron_without_hidden_layers_is_linear():
    assert shapes(mlp((4,), 3, ())) == [(3, 4)]


def test_the_cnn_halves_its_images_twice():
    model = build("cnn", (1, 28, 28), 10, (32,))
    assert shapes(model) == [(32, 1, 3, 3), (64, 32, 3, 3), (32, 64 * 7 * 7), (10, 32)]
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_vgg16_has_thirteen_convolutions_and_three_linear_maps():
    with torch.device("meta"):
        model = build("vgg16", (3, 32, 32), 100, ())
    found = shapes(model)
    assert [len(shape) for shape in found] == [4] * 13 + [2] * 3
    assert found[12:] == [(512, 512, 3, 3), (4096, 512), (4096, 4096), (100, 4096)]


def kinds(model: nn.Sequential) -> list[str]:
    return [type(module).__name__ for module in model]


def test_with_feedback_the_mean_of_drives_is_pooled():
    without, with_it = (build("cnn", (1, 8, 8), 3, (), "hard-sigmoid", feedback=feedback) for feedback in (False, True))
    assert kinds(without)[:6] == ["Conv2d", "Hardtanh", "MaxPool2d"] * 2
    assert kinds(with_it)[:6] == ["Conv2d", "AvgPool2d", "Hardtanh"] * 2
    assert kinds(without)[6:] == kinds(with_it)[6:] == ["Flatten", "Linear"]
    assert with_it(torch.zeros(2, 1, 8, 8)).shape == (2, 3)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_makes_a_chain_of_stages(name: Any):
    net = Layered.from_sequential(build("cnn", (1, 8, 8), 3, (5,), name))
    assert [len(stage.parameters()) > 0 for stage in net.stages] == [True] * 4
    assert len({stage.activation.name for stage in net.stages[:-1]}) == 1


@pytest.mark.parametrize(
    ("network", "shape", "told"),
    [
        ("cnn", (64,), r"need images .* samples have shape \(64,\)"),
        ("cnn", (1, 3, 8), "images of 3x8 are too small for 2 poolings"),
        ("vgg16", (1, 28, 28), "images of 28x28 are too small for 5 poolings"),
    ],
)
def test_samples_that_do_not_fit_are_refused(network: Any, shape: tuple[int, ...], told: str):
    with pytest.raises(ValueError, match=told):
        build(network, shape, 10, ())


def test_the_smallest_image_is_accepted():
    assert convolutional((1, 4, 5), 2, ((3, 1), (3, 2)), ())(torch.zeros(1, 1, 4, 5)).shape == (1, 2)


@pytest.mark.parametrize(
    ("how", "linear", "conv"),
    [
        ("he", 2 / 400, 2 / (9 * 40)),
        ("lecun", 1 / 400, 1 / (9 * 40)),
        ("glorot", 2 / (400 + 300), 2 / (9 * (40 + 60))),
    ],
)
def test_weights_have_the_variance_of_their_scheme(how: Any, linear: float, conv: float):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(400, 300), nn.Conv2d(40, 60, 3))
    initialise(model, how)
    for module, variance in zip(model, (linear, conv), strict=True):
        weight, bias = module.parameters()
        assert weight.var().item() == pytest.approx(variance, rel=5 / math.sqrt(weight.numel()))
        assert bias.eq(0).all()


def test_the_defaults_of_torch_can_be_kept():
    model = nn.Sequential(nn.Linear(4, 3))
    before = [p.clone() for p in model.parameters()]
    initialise(model, "torch")
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
