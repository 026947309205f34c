"""Layers described as data, and what a description refuses."""

import json

import pytest
from torch import nn

from dyadnet.activation import Sign, UnitSigmoid
from dyadnet.binary.architecture import LAYERS, arguments, build, describe
from dyadnet.binary.packed import PackedConv2d, PackedLinear
from dyadnet.network.residual import Residual

EXAMPLES = [
    PackedLinear(9, 4, bias=False, per_output=True),
    PackedConv2d(4, 6, (3, 1), stride=2, padding=(1, 0), groups=2),
    nn.Linear(3, 2, bias=False),
    nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding="valid", dilation=2, groups=2, bias=False, padding_mode="reflect"),
    nn.BatchNorm1d(3, eps=1e-3, momentum=None, affine=False),
    nn.BatchNorm2d(3, track_running_stats=False),
    nn.LayerNorm((3, 4), eps=1e-4, bias=False),
    nn.GroupNorm(2, 4, affine=False),
    nn.ReLU(inplace=True),
    nn.LeakyReLU(0.2),
    nn.Hardtanh(-2.0, 0.5),
    nn.Tanh(),
    nn.Sigmoid(),
    UnitSigmoid(),
    Sign(),
    nn.SiLU(),
    nn.GELU("tanh"),
    nn.Identity(),
    nn.MaxPool2d((3, 2), stride=1, padding=1, ceil_mode=True),
    nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    nn.AdaptiveMaxPool2d((None, 2)),
    nn.AdaptiveAvgPool2d(1),
    nn.Flatten(2, 3),
    nn.Unflatten(1, (2, 3)),
    nn.Dropout(0.1),
    nn.Dropout1d(0.2),
    nn.Dropout2d(0.3),
    nn.ZeroPad2d((1, 2, 3, 4)),
]


def test_every_layer_has_an_example() -> None:
    assert [type(example) for example in EXAMPLES] == list(LAYERS.values())


@pytest.mark.parametrize("layer", EXAMPLES, ids=lambda layer: type(layer).__name__)
def test_a_layer_comes_back_from_json_as_it_was(layer: nn.Module) -> None:
    description = json.loads(json.dumps(describe(layer)))
    found = build(description)
    assert repr(found) == repr(layer)
    assert describe(found) == describe(layer)
    assert {name: t.shape for name, t in found.state_dict().items()} == {
        name: t.shape for name, t in layer.state_dict().items()
    }


def test_sequences_keep_names_and_order() -> None:
    model = nn.Sequential()
    model.add_module("up", nn.Linear(2, 3))
    model.add_module("in", nn.Sequential(nn.ReLU(), nn.Linear(3, 1)))
    found = build(json.loads(json.dumps(describe(model))))
    assert list(found.state_dict()) == list(model.state_dict())
    assert repr(found) == repr(model)


def test_a_residual_block_comes_back_with_its_branches() -> None:
    for block in (Residual(4, 8, 2, nn.ReLU), Residual(4, 4, 1, nn.Tanh)):
        found = build(json.loads(json.dumps(describe(nn.Sequential(block)))))
        assert repr(found) == repr(nn.Sequential(block))
        assert list(found[0].state_dict()) == list(block.state_dict())


def test_what_is_as_by_default_is_left_out() -> None:
    assert arguments(nn.Conv2d(1, 2, 3)) == {"in_channels": 1, "out_channels": 2, "kernel_size": (3, 3)}
    assert arguments(nn.BatchNorm2d(4)) == {"num_features": 4}


def test_what_is_built_takes_no_memory_yet() -> None:
    found = build(describe(nn.Linear(3, 2)) | {"arguments": {"in_features": 10**6, "out_features": 10**6}})
    assert all(p.device.type == "meta" for p in found.parameters())


def test_a_layer_of_another_kind_is_named() -> None:
    class Own(nn.ReLU):
        pass

    class Linear(nn.Linear):
        """Has the name of a known layer, but is another."""

    with pytest.raises(TypeError, match="layer 1 is a Own, which a file cannot hold"):
        describe(nn.Sequential(nn.ReLU(), Own()))
    with pytest.raises(TypeError, match="the model is a Linear"):
        describe(Linear(2, 2))
    with pytest.raises(TypeError, match="layer 0 is a ModuleList"):
        describe(nn.Sequential(nn.ModuleList([nn.ReLU()])))
    with pytest.raises(TypeError, match="layer 0 is a LSTM"):
        describe(nn.Sequential(nn.LSTM(2, 2)))


def test_hooks_are_refused() -> None:
    model = nn.Sequential(nn.ReLU())
    model[0].register_forward_hook(lambda module, given, out: 2 * out)
    with pytest.raises(TypeError, match="layer 0, a ReLU, has hooks"):
        describe(model)


@pytest.mark.parametrize(
    ("description", "told"),
    [
        ({}, "a layer None"),
        ({"layer": "system", "arguments": {}}, "a layer 'system'"),
        ({"layer": "Linear"}, "a layer 'Linear'"),
        ({"layer": "Sequential", "arguments": {}}, "a layer 'Sequential'"),
        ({"layer": "Linear", "arguments": {"in_features": 2}}, "Linear cannot be made"),
        ({"layer": "Linear", "arguments": {"in_features": 2, "out_features": -1}}, "Linear cannot be made"),
        ({"layer": "ReLU", "arguments": {"of": 2}}, "ReLU cannot be made"),
    ],
)
def test_an_unknown_description_is_refused(description: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        build({"layer": "Sequential", "children": {"0": description}})
