"""ONNX files, checked by onnx and run by onnxruntime."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from dyadnet.binary import load, save
from tests.binary.networks import binarised, convolutional, images


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "net.onnx"
    notes = save(convolutional(), path, images(1))
    assert notes == ["layer 0 has float weights", "layer 14 has float weights"]
    return path


@pytest.mark.parametrize("count", [1, 2, 7])
def test_onnxruntime_computes_what_the_network_does_at_every_batch_size(path: Path, count: int) -> None:
    x = images(count)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": x.numpy()})
    np.testing.assert_allclose(found, convolutional()(x).detach().numpy(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(load(path)(x), torch.from_numpy(found))


def test_the_file_is_sound_and_tells_nothing_of_the_machine(path: Path) -> None:
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert str(Path(torch.__file__).parent).encode() not in path.read_bytes()


def test_signs_stay_packed(tmp_path: Path) -> None:
    layer = binarised(nn.Linear(1024, 700)).float()
    path, x = tmp_path / "wide.onnx", torch.randn(3, 1024, dtype=torch.float32)
    save(nn.Sequential(layer), path, x)
    stored = {tuple(item.dims): item.data_type for item in onnx.load(path).graph.initializer}
    assert stored[700, 128] == onnx.TensorProto.UINT8
    assert path.stat().st_size < 1024 * 700 / 8 + 25_000
    torch.testing.assert_close(load(path)(x), layer(x), rtol=1e-4, atol=1e-4)


def test_an_example_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs an example of the inputs"):
        save(convolutional(), tmp_path / "net.onnx")


def test_a_damaged_file_is_refused(path: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.onnx"
    for data in (b"", path.read_bytes()[:-500], b"nothing of that kind"):
        damaged.write_bytes(data)
        with pytest.raises(ValueError, match="is damaged or no ONNX network"):
            load(damaged)
