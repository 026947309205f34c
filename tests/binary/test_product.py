"""Products with packed signs against integers, with and without a compiler."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from dyadnet.binary import product as module
from dyadnet.binary.packing import pack_signs, unpack_signs
from dyadnet.binary.product import TILE, compiled, product, tiles

needs_compiler = pytest.mark.skipif(compiled() is None, reason="there is no C compiler here")


@pytest.fixture(params=["compiled", "tiles"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "compiled" and compiled() is None:
        pytest.skip("there is no C compiler here")
    if request.param == "tiles":
        monkeypatch.setattr(module, "compiled", lambda: None)
    return request.param


def integers(outputs: int, inputs: int, batch: int) -> tuple[Tensor, Tensor]:
    """Random signs and small whole numbers, whose sums are exact in single precision in whatever order."""
    signs = 2.0 * torch.randint(2, (outputs, inputs), dtype=torch.float32) - 1
    return signs, torch.randint(-9, 10, (batch, inputs)).float()


SIZES = [(1, 1, 1), (6, 8, 2), (7, 9, 3), (12, 64, 1), (13, 65, 5), (5, 7, 2), (64, 1000, 4), (3, 0, 2), (4, 16, 0)]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("outputs", "inputs", "batch"), SIZES)
def test_products_of_whole_numbers_are_exact(outputs: int, inputs: int, batch: int) -> None:
    signs, x = integers(outputs, max(inputs, 1), batch)
    found = product(pack_signs(signs), x)
    expected = np.array(
        [[sum(s * v for s, v in zip(row, sample, strict=True)) for row in signs.tolist()] for sample in x.tolist()]
    )
    np.testing.assert_array_equal(found.numpy(), expected.reshape(batch, outputs))


@needs_compiler
@given(st.integers(1, 20), st.integers(1, 70), st.integers(1, 9), st.integers(0, 2**31))
def test_the_compiled_product_is_exact_at_every_size(outputs: int, inputs: int, batch: int, seed: int) -> None:
    torch.manual_seed(seed)
    signs, x = integers(outputs, inputs, batch)
    assert torch.equal(product(pack_signs(signs), x), x @ signs.T)


@pytest.mark.usefixtures("way")
def test_products_of_any_numbers_agree_to_rounding() -> None:
    signs, x = integers(300, 1500, 7)[0], torch.randn(7, 1500, dtype=torch.float32)
    found, exact = product(pack_signs(signs), x), x.double() @ signs.T.double()
    assert (found - exact).abs().max() < 3e-7 * x.abs().sum(1).max()


@pytest.mark.usefixtures("way")
def test_what_is_not_a_number_is_not_hidden() -> None:
    signs, x = integers(7, 20, 2)
    x[1, 3] = torch.nan
    found = product(pack_signs(signs), x)
    assert found[0].isfinite().all()
    assert found[1].isnan().all()


@pytest.mark.usefixtures("way")
def test_inputs_and_bits_need_not_lie_in_one_piece() -> None:
    signs, x = integers(40, 64, 10)
    bits = pack_signs(signs)
    assert torch.equal(product(bits[::2], x.T.contiguous().T[::3]), x[::3] @ signs[::2].T)


@needs_compiler
def test_threads_share_the_rows() -> None:
    signs, x = integers(500, 4096, 3)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    found = product(pack_signs(signs), x)
    torch.set_num_threads(before)
    assert torch.equal(found, x @ signs.T)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_are_kept(dtype: torch.dtype) -> None:
    signs, x = integers(5, 12, 2)
    found = product(pack_signs(signs), x.to(dtype))
    assert found.dtype == dtype
    assert torch.equal(found, x.to(dtype) @ signs.T.to(dtype))


def test_gradients_of_inputs_are_those_of_the_float_map() -> None:
    signs, x = integers(9, 20, 3)
    x.requires_grad_()
    found = torch.autograd.grad(product(pack_signs(signs), x).square().sum(), x)[0]
    expected = torch.autograd.grad((x @ signs.T).square().sum(), x)[0]
    assert torch.equal(found, expected)


def test_only_a_tile_is_unpacked_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def spy(bits: Tensor, count: int, dtype: torch.dtype) -> Tensor:
        sizes.append(len(bits) * count)
        return unpack_signs(bits, count, dtype)

    monkeypatch.setattr(module, "compiled", lambda: None)
    monkeypatch.setattr(module, "unpack_signs", spy)
    signs, x = integers(700, 1000, 1)
    product(pack_signs(signs), x)
    assert sum(sizes) == signs.numel()
    assert max(sizes) <= TILE < signs.numel()


def test_a_row_wider_than_a_tile_is_a_tile() -> None:
    bits = torch.zeros(3, 2, dtype=torch.uint8)
    assert [len(tile) for tile in tiles(bits, 2 * TILE)] == [1, 1, 1]


@pytest.fixture
def recompiled() -> Iterator[Callable[[], object]]:
    """Compile anew, and forget it."""
    compiled.cache_clear()
    yield compiled
    compiled.cache_clear()


def test_without_a_compiler_all_still_works(monkeypatch: pytest.MonkeyPatch, recompiled: Callable[[], object]) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    assert recompiled() is None
    signs, x = integers(6, 30, 2)
    assert torch.equal(product(pack_signs(signs), x), x @ signs.T)


def test_a_compiler_that_fails_is_as_good_as_none(
    monkeypatch: pytest.MonkeyPatch, recompiled: Callable[[], object], tmp_path: Path
) -> None:
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CC", str(broken))
    assert recompiled() is None


@needs_compiler
def test_compiling_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, recompiled: Callable[[], object], tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert recompiled() is not None
    assert not list(tmp_path.iterdir())


def test_torch_compile_and_export_follow_the_tiles() -> None:
    class Packed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return product(bits, x)

    signs, x = integers(300, 1000, 2)
    bits = pack_signs(signs)
    graph = torch.export.export(Packed(), (x,)).module()
    assert torch.equal(graph(x), x @ signs.T)
