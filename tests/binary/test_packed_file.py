"""Packed files: what they hold, their size, and every way to damage them."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from torch import nn

from dyadnet.binary import load, pack, save
from dyadnet.binary.packed import PackedConv2d, PackedLinear
from dyadnet.binary.packed_file import _BLANK, _DIGEST, _seal, read_packed
from tests.binary.networks import binarised, convolutional, images


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "net.safetensors"


def test_a_network_comes_back_with_packed_layers(path: Path) -> None:
    model, x = convolutional(), images()
    assert save(model, path) == ["layer 0 has float weights", "layer 14 has float weights"]
    found = load(str(path))
    assert [type(m) for m in found.modules() if hasattr(m, "bits")] == [PackedConv2d] * 4 + [PackedLinear] * 2
    assert repr(found) == repr(pack(model))
    assert not any(m.training for m in found.modules())
    assert not any(p.requires_grad for p in found.parameters())
    assert torch.equal(found(x), pack(model)(x))
    torch.testing.assert_close(found(x), model(x))


def test_other_readers_of_safetensors_find_the_bits(path: Path) -> None:
    layer = binarised(nn.Linear(20, 6), by_output=True)
    save(nn.Sequential(layer), path)
    with safe_open(path, "np") as file:
        assert set(file.keys()) == {"0.bits", "0.scale", "0.bias"}
        bits, scale, metadata = file.get_tensor("0.bits"), file.get_tensor("0.scale"), file.metadata()
    signs = 2.0 * np.unpackbits(bits, axis=1, bitorder="little")[:, :20] - 1
    np.testing.assert_array_equal(signs * scale[:, None], layer.weight.detach().numpy())
    assert metadata["bit_order"].startswith("lowest bit first")
    assert json.loads(metadata["architecture"])["children"]["0"]["arguments"]["in_features"] == 20


def test_a_wide_layer_takes_a_thirtieth_of_its_floats(path: Path, tmp_path: Path) -> None:
    model = nn.Sequential(binarised(nn.Linear(4096, 4096), by_output=True)).float()
    safetensors.torch.save_file(model.state_dict(), tmp_path / "float.safetensors")
    save(model, path)
    assert (tmp_path / "float.safetensors").stat().st_size / path.stat().st_size > 31


def test_a_shared_layer_is_stored_wherever_it_stands(path: Path) -> None:
    layer, relu = binarised(nn.Linear(4, 4)), nn.ReLU()
    model, x = nn.Sequential(layer, relu, layer, relu, nn.Linear(4, 2)), torch.randn(3, 4)
    save(model, path)
    torch.testing.assert_close(load(path)(x), model(x))


def test_nothing_is_left_beside_the_file(path: Path) -> None:
    save(convolutional(), path)
    save(convolutional(), path)
    assert list(path.parent.iterdir()) == [path]


@pytest.fixture
def small(path: Path) -> Path:
    save(nn.Sequential(binarised(nn.Linear(20, 3)), nn.ReLU(), nn.Linear(3, 2)), path)
    return path


def refused(path: Path) -> str:
    with pytest.raises(ValueError, match=re.escape(str(path))) as told:
        load(path)
    assert "\n" not in str(told.value)
    return str(told.value)


@pytest.mark.parametrize("flip", [1, 128])
def test_every_altered_byte_is_noticed(small: Path, flip: int) -> None:
    sound = small.read_bytes()
    for place in range(len(sound)):
        small.write_bytes(sound[:place] + bytes([sound[place] ^ flip]) + sound[place + 1 :])
        assert "is damaged" in refused(small)
    small.write_bytes(sound)
    load(small)


def test_truncation_and_addition_are_noticed(small: Path) -> None:
    sound = small.read_bytes()
    for length in range(0, len(sound), 9):
        small.write_bytes(sound[:length])
        assert "is damaged" in refused(small)
    small.write_bytes(sound + b"\0")
    refused(small)


def resealed(path: Path, old: bytes, new: bytes) -> None:
    """Alter a file by text of the same length, and make its checksum right again."""
    data = _DIGEST.sub(b'"sha256":"' + _BLANK + b'"', path.read_bytes())
    assert data.count(old) == 1
    assert len(old) == len(new)
    path.write_bytes(_seal(data.replace(old, new)))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (b'"version":"1"', b'"version":"9"', "format dyadnet-packed 9"),
        (b"dyadnet-packed", b"dyadnet-pocket", "format dyadnet-pocket 1"),
        (b"ReLU", b"eval", "a layer 'eval'"),
        (rb"\"in_features\": 20", rb"\"in_features\": 30", "size mismatch for 0.bits"),
        (rb"\"in_features\": 20", rb"\"in_fortunes\": 20", "PackedLinear cannot be made"),
        (b'"architecture"', b'"agriculture_"', "architecture"),
        (b'"2.weight"', b'"3.weight"', "Missing key"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_though_its_checksum_is_right(
    small: Path, old: bytes, new: bytes, told: str
) -> None:
    resealed(small, old, new)
    assert told in refused(small)


def test_resealing_alone_changes_nothing(small: Path) -> None:
    before = small.read_bytes()
    resealed(small, b"ReLU", b"ReLU")
    assert small.read_bytes() == before


def test_files_of_other_kinds_are_refused(path: Path) -> None:
    safetensors.torch.save_file({"weight": torch.ones(3)}, path)
    refused(path)
    torch.save(nn.Linear(2, 2), path)
    refused(path)
    path.write_bytes(b"")
    refused(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        read_packed(path)


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    for act in (lambda path: save(convolutional(), path), load):
        with pytest.raises(ValueError, match=r"net\.bin must end with one of \.safetensors, \.gguf, \.onnx"):
            act(tmp_path / "net.bin")


def test_a_layer_that_a_file_cannot_hold_is_named(path: Path) -> None:
    with pytest.raises(TypeError, match="layer 1 is a Softplus"):
        save(nn.Sequential(binarised(nn.Linear(4, 3)), nn.Softplus()), path)
    assert not path.exists()
