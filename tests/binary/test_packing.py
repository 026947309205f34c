"""Bits against NumPy's, and the weights that count as binary."""

from math import inf, nan

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dyadnet.binary.packing import SIGNS, binary_scale, pack_signs, unpack_signs


def signs_of(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return 2.0 * torch.randint(2, shape, generator=torch.Generator().manual_seed(seed)) - 1


shapes = st.lists(st.integers(1, 5), max_size=2).flatmap(
    lambda rows: st.integers(1, 40).map(lambda width: (*rows, width))
)


@given(shapes, st.integers(0, 2**31))
def test_bytes_are_those_of_numpy_with_the_lowest_bit_first(shape: tuple[int, ...], seed: int) -> None:
    signs = signs_of(shape, seed)
    expected = np.packbits(signs.numpy() > 0, axis=-1, bitorder="little")
    np.testing.assert_array_equal(pack_signs(signs).numpy(), expected)


@given(shapes, st.integers(0, 2**31), st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
def test_unpacking_gives_back_what_was_packed(shape: tuple[int, ...], seed: int, dtype: torch.dtype) -> None:
    signs = signs_of(shape, seed).to(dtype)
    found = unpack_signs(pack_signs(3.5 * signs), shape[-1], dtype)
    assert found.dtype == dtype
    assert torch.equal(found, signs)


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 2**31))
def test_packing_gives_back_what_was_unpacked(rows: int, width: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    bits = torch.randint(256, (rows, width), generator=generator, dtype=torch.uint8)
    assert torch.equal(pack_signs(unpack_signs(bits, 8 * width)), bits)


def test_the_bits_that_fill_a_row_up_are_clear() -> None:
    assert pack_signs(torch.ones(2, 11)).tolist() == [[255, 7], [255, 7]]


def test_the_table_of_bytes_is_that_of_the_binary_numerals() -> None:
    for byte in range(256):
        assert SIGNS[byte].tolist() == [1.0 if digit == "1" else -1.0 for digit in reversed(f"{byte:08b}")]


@given(st.integers(1, 5), st.integers(2, 20), st.booleans(), st.integers(0, 2**31))
def test_the_scale_of_a_binary_weight_is_found(outputs: int, inputs: int, one: bool, seed: int) -> None:
    torch.manual_seed(seed)
    scale = torch.rand(1).expand(outputs) + 0.1 if one else torch.rand(outputs) + 0.1
    found = binary_scale(signs_of((outputs, inputs), seed) * scale[:, None])
    assert found is not None
    assert torch.equal(found, scale[:1] if one or outputs == 1 else scale)


def test_a_weight_off_by_one_rounding_is_not_binary() -> None:
    weight = signs_of((3, 4)) * 0.3
    assert binary_scale(weight) is not None
    weight[1, 2] = torch.nextafter(weight[1, 2], torch.tensor(inf))
    assert binary_scale(weight) is None


@pytest.mark.parametrize("value", [0.0, inf, nan])
def test_what_is_no_scale_is_not_binary(value: float) -> None:
    weight = signs_of((3, 4))
    weight[1] = value
    assert binary_scale(weight) is None


def test_a_single_input_is_no_sign_of_a_binary_weight() -> None:
    assert binary_scale(torch.randn(5, 1)) is None
    assert binary_scale(torch.randn(5, 0)) is None


def test_kernels_have_their_scale_by_output_channel() -> None:
    scale = torch.tensor([0.5, 2.0])
    assert torch.equal(binary_scale(signs_of((2, 3, 3, 3)) * scale.view(2, 1, 1, 1)), scale)
