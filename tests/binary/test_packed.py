"""Packed layers against the float ones, and which layers of a model are packed."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dyadnet import Dense, Layered
from dyadnet.binary import pack
from dyadnet.binary import packed as module
from dyadnet.binary.pack import as_sequential, unpacked_layers
from dyadnet.binary.packed import PackedConv2d, PackedLinear
from dyadnet.binary.packing import unpack_signs
from dyadnet.binary.product import TILE
from tests.binary.networks import binarised

CONVOLUTIONS: list[dict[str, Any]] = [
    {},
    {"bias": False},
    {"stride": 2, "padding": 1},
    {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)},
    {"padding": "same", "dilation": (1, 2)},
    {"padding": "same", "dilation": 2, "padding_mode": "reflect"},
    {"padding": 1, "padding_mode": "circular"},
    {"padding": "valid", "padding_mode": "replicate"},
    {"groups": 2, "padding": 1},
    {"groups": 4, "bias": False},
]


@pytest.mark.parametrize("by_output", [False, True])
@pytest.mark.parametrize("given", CONVOLUTIONS)
def test_a_packed_convolution_is_the_float_one(given: dict[str, Any], by_output: bool) -> None:
    layer = binarised(nn.Conv2d(4, 12, (3, 2), **given), by_output=by_output)
    found, x = pack(layer), torch.randn(3, 4, 9, 8)
    assert isinstance(found, PackedConv2d)
    torch.testing.assert_close(found(x), layer(x))
    torch.testing.assert_close(found(x[0]), layer(x[0]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("by_output", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(37,), (5, 37), (2, 3, 37), (0, 37)])
def test_a_packed_linear_map_is_the_float_one(
    shape: tuple[int, ...], bias: bool, by_output: bool, dtype: torch.dtype
) -> None:
    layer = binarised(nn.Linear(37, 11, bias=bias, dtype=dtype), by_output=by_output)
    found, x = pack(layer), torch.randn(shape, dtype=dtype)
    assert isinstance(found, PackedLinear)
    torch.testing.assert_close(found(x), layer(x))
    assert found(x).dtype == dtype


def test_a_flipped_bit_shows() -> None:
    layer = binarised(nn.Linear(37, 11))
    found, x = pack(layer), torch.randn(4, 37)
    found.bits[3, 2] ^= 4
    moved = (found(x) - layer(x)).abs() > 1e-9
    assert moved[:, 3].all()
    assert moved.sum() == 4


def test_a_convolution_unpacks_a_tile_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def spy(bits: Tensor, count: int, dtype: torch.dtype) -> Tensor:
        sizes.append(len(bits) * count)
        return unpack_signs(bits, count, dtype)

    monkeypatch.setattr(module, "unpack_signs", spy)
    layer = binarised(nn.Conv2d(256, 100, 3))
    x = torch.randn(1, 256, 4, 4)
    torch.testing.assert_close(pack(layer)(x), layer(x))
    assert sum(sizes) == layer.weight.numel()
    assert max(sizes) <= TILE < layer.weight.numel()


def test_memory_is_that_of_the_bits() -> None:
    held = sum(tensor.nbytes for tensor in pack(binarised(nn.Linear(1024, 512))).state_dict().values())
    assert held == 1024 * 512 // 8 + 8 + 8 * 512


def test_gradients_reach_the_inputs() -> None:
    layer, x = binarised(nn.Linear(20, 3)), torch.randn(2, 20, requires_grad=True)
    found, expected = (torch.autograd.grad(f(x).square().sum(), x)[0] for f in (pack(layer), layer))
    torch.testing.assert_close(found, expected)


def mixed() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Sequential(binarised(nn.Conv2d(4, 4, 3)), nn.Flatten()),
        nn.Dropout(),
        binarised(nn.Linear(64, 8), by_output=True),
        nn.Linear(8, 2),
    )


def test_only_binary_weights_are_packed_and_the_model_is_left_alone() -> None:
    model = mixed()
    before, training = copy.deepcopy(model.state_dict()), model.training
    found = pack(model)
    kinds = {name: type(layer).__name__ for name, layer in found.named_children()}
    assert [kinds[name] for name in "056"] == ["Conv2d", "PackedLinear", "Linear"]
    assert isinstance(found[3][0], PackedConv2d)
    assert unpacked_layers(found) == ["0", "6"]
    assert model.training == training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    x = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(found(x), model.eval()(x))


def test_a_packed_model_is_for_inference() -> None:
    found = pack(mixed())
    assert not any(module.training for module in found.modules())
    assert not any(p.requires_grad for p in found.parameters())


def test_packing_twice_is_packing_once() -> None:
    once = pack(mixed())
    twice, x = pack(once), torch.randn(2, 1, 8, 8)
    assert torch.equal(twice(x), once(x))


def test_any_module_can_be_packed() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = binarised(nn.Linear(6, 6))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.inner(x)

    model, x = nn.Sequential(Residual(), nn.ReLU()), torch.randn(2, 6)
    found = pack(model)
    assert isinstance(found[0].inner, PackedLinear)
    torch.testing.assert_close(found(x), model(x))


def test_a_layer_of_another_kind_is_not_taken_for_a_linear_one() -> None:
    class Doubled(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return 2 * super().forward(input)

    model, x = nn.Sequential(binarised(Doubled(4, 3)), binarised(nn.Linear(3, 2))), torch.randn(2, 4)
    torch.testing.assert_close(pack(model)(x), model(x))


def test_a_layer_with_hooks_is_refused() -> None:
    model = nn.Sequential(binarised(nn.Linear(16, 4)), nn.ReLU())
    model[0].register_forward_hook(lambda layer, given, out: 2 * out)
    with pytest.raises(TypeError, match="a Linear with binary weights has hooks"):
        pack(model)


def test_a_model_without_binary_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="no layer of the model has binary weights"):
        pack(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1)))


def test_a_feedforward_network_is_a_sequence_and_others_are_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
    net, x = Layered.from_sequential(model), torch.randn(2, 4)
    assert torch.equal(as_sequential(net)(x), model(x))
    for other in (net.with_lam(0.0), Dense(4, 3, 2)):
        with pytest.raises(TypeError, match="only feedforward networks"):
            as_sequential(other)


@pytest.mark.parametrize("width", [12, 20])
def test_inputs_of_another_width_are_refused(width: int) -> None:
    packed = pack(binarised(nn.Linear(16, 3)))
    with pytest.raises(ValueError, match=f"the layer takes 16 inputs, but x has {width}"):
        packed(torch.randn(2, width))


def test_of_a_chain_its_modules_are_packed_and_compute() -> None:
    chain = Layered.from_sequential(nn.Sequential(binarised(nn.Linear(16, 8)), nn.ReLU(), binarised(nn.Linear(8, 3))))
    packed, x = pack(chain), torch.randn(5, 16)
    assert [type(layer).__name__ for layer in packed.children()] == ["PackedLinear", "ReLU", "PackedLinear"]
    torch.testing.assert_close(packed(x), chain(x))
    packed.get_submodule("0").get_buffer("bits").bitwise_not_()
    assert not torch.allclose(packed(x), chain(x))
    with pytest.raises(TypeError, match="states relax"):
        pack(chain.with_lam(1.0))
