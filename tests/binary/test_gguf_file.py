"""GGUF files, read back by the gguf package and taken apart block by block."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader
from torch import nn

from dyadnet.binary import load, pack, save
from tests.binary.networks import binarised, convolutional, images


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "net.gguf"


def dequantised(tensor: gguf.ReaderTensor) -> np.ndarray:
    """Return the weights of a `Q1_0` tensor: 18 bytes hold a scale in half precision and 128 signs."""
    assert tensor.tensor_type == GGMLQuantizationType.Q1_0
    rows = []
    for row in np.array(tensor.data):
        values: list[float] = []
        for start in range(0, len(row), 18):
            block = row[start : start + 18].tobytes()
            d = float(np.frombuffer(block[:2], "<f2")[0])
            values += [d if block[2 + j // 8] >> (j % 8) & 1 else -d for j in range(128)]
        rows.append(values)
    return np.array(rows)


@pytest.mark.parametrize("by_output", [False, True])
def test_the_blocks_hold_the_weights(path: Path, by_output: bool) -> None:
    layer = binarised(nn.Linear(384, 5))
    with torch.no_grad():
        layer.weight.sign_().mul_(2.0 ** torch.arange(5)[:, None] if by_output else 0.75)
    assert save(nn.Sequential(layer), path) == []
    tensors = {tensor.name: tensor for tensor in GGUFReader(path).tensors}
    assert set(tensors) == {"0.weight", "0.bias"}
    assert tensors["0.weight"].shape.tolist() == [384, 5]  # GGUF's order: inputs first
    assert tensors["0.weight"].n_bytes == 5 * 3 * 18
    np.testing.assert_array_equal(dequantised(tensors["0.weight"]), layer.weight.detach().numpy())


def test_a_network_comes_back(path: Path) -> None:
    model, x = convolutional(), images()
    notes = save(model, path)
    assert notes[2:] == [
        "layer 4 is not Q1_0 but in single precision: Q1_0 is for linear layers",
        "layer 7.main.0 is not Q1_0 but in single precision: Q1_0 is for linear layers",
        "layer 7.main.3 is not Q1_0 but in single precision: Q1_0 is for linear layers",
        "layer 9 is not Q1_0 but in single precision: Q1_0 is for linear layers",
        "layer 10.1 is not Q1_0 but in single precision: its 64 inputs are no multiple of 128",
        "layer 11: its scales are rounded to half precision",
    ]
    found = load(path)
    assert repr(found) == repr(pack(model))
    torch.testing.assert_close(found[:11](x), model[:11](x), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[:12](x), model[:12](x), rtol=2**-10, atol=1e-3)


def test_weights_that_fit_into_half_precision_are_stored_in_it_and_come_back_exactly(path: Path) -> None:
    layer = binarised(nn.Conv2d(3, 4, 3))
    with torch.no_grad():
        layer.weight.sign_()
    model, x = nn.Sequential(layer), torch.randn(2, 3, 5, 5)
    assert save(model, path) == ["layer 0 is not Q1_0 but in half precision: Q1_0 is for linear layers"]
    (weight,) = (tensor for tensor in GGUFReader(path).tensors if tensor.name == "0.weight")
    assert weight.tensor_type == GGMLQuantizationType.F16
    np.testing.assert_array_equal(np.array(weight.data), layer.weight.detach().numpy())
    assert torch.equal(load(path)[0].bits, pack(model)[0].bits)
    torch.testing.assert_close(load(path)(x), model(x))


@pytest.mark.parametrize("scale", [1e-9, 1e6])
def test_scales_beyond_half_precision_are_not_forced_into_it(path: Path, scale: float) -> None:
    layer = binarised(nn.Linear(128, 3)).float()
    with torch.no_grad():
        layer.weight.sign_().mul_(scale)
    (note,) = save(nn.Sequential(layer), path)
    assert note == "layer 0 is not Q1_0 but in single precision: its scales are no numbers in half precision"
    x = torch.randn(2, 128, dtype=torch.float32)
    torch.testing.assert_close(load(path)(x), layer(x), rtol=1e-4, atol=1e-5 * scale)


def test_a_wide_layer_takes_eighteen_bytes_for_128_weights(path: Path) -> None:
    save(nn.Sequential(binarised(nn.Linear(2048, 2048, bias=False))), path)
    assert path.stat().st_size == pytest.approx(2048 * 2048 * 18 / 128, rel=0.01)


def test_a_damaged_file_or_one_of_another_program_is_refused(path: Path) -> None:
    save(convolutional(), path)
    sound = path.read_bytes()
    for damaged in (b"", sound[:100], sound[: len(sound) // 2], b"GGML" + sound[4:], b"nothing of that kind"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="is damaged or no network that dyadnet wrote") as told:
            load(path)
        assert "\n" not in str(told.value)
    writer = gguf.GGUFWriter(path, "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ValueError, match="no network that dyadnet wrote"):
        load(path)
