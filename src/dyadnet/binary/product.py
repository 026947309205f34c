"""Products with packed signs, `x @ signs.T`: compiled where there is a C compiler, else by tiles of unpacked rows."""

import ctypes
import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from dyadnet.binary.kernel import library
from dyadnet.binary.packing import SIGNS, unpack_signs

TILE = 2**17
"""The largest number of signs that are unpacked at a time."""

_Kernel = Callable[..., None]


def product(bits: Tensor, x: Tensor) -> Tensor:
    """Return `x @ signs.T`, of shape `(batch, outputs)`.

    The signs are never all unpacked, but for an exporter, whose graph unpacks them wherever it runs.

    Args:
        bits: `(outputs, ceil(inputs / 8))`, packed signs.
        x: `(batch, inputs)`.

    >>> product(torch.tensor([[5], [7]], dtype=torch.uint8), torch.tensor([[1.0, 2.0, 4.0]]))
    tensor([[3., 7.]])
    """
    kernel = compiled() if _plain(bits, x) else None
    return _by_kernel(kernel, bits, x) if kernel else _by_tiles(bits, x)


def tiles(bits: Tensor, inputs: int) -> Sequence[Tensor]:
    """Cut packed rows of so many signs into those that are unpacked at a time: all only where they are few."""
    rows = max(1, TILE // inputs)
    return [bits] if len(bits) <= rows or torch.compiler.is_exporting() else bits.split(rows)


@functools.cache
def compiled() -> _Kernel | None:
    """Return the function of `product.c`, or None without a compiler that takes it."""
    made = library("product.c")
    if made is None:
        return None
    made.product.argtypes = [*[ctypes.c_void_p] * 4, *[ctypes.c_int64] * 3, ctypes.c_int]
    made.product.restype = None
    return made.product


def _plain(bits: Tensor, x: Tensor) -> bool:
    """Whether the compiled function can take the tensors: it knows one precision, and neither gradients nor graphs."""
    on_cpu = bits.device.type == x.device.type == "cpu" and x.dtype == torch.float32
    return on_cpu and not (x.requires_grad and torch.is_grad_enabled()) and not torch.compiler.is_compiling()


def _by_kernel(kernel: _Kernel, bits: Tensor, x: Tensor) -> Tensor:
    outputs, width = bits.shape
    padding = 8 * width - x.shape[1]
    x = nn.functional.pad(x, (0, padding)) if padding else x.contiguous()
    bits, y = bits.contiguous(), x.new_empty(len(x), outputs)
    pointers = (tensor.data_ptr() for tensor in (bits, x, SIGNS, y))
    kernel(*pointers, width, outputs, len(x), torch.get_num_threads())
    return y


def _by_tiles(bits: Tensor, x: Tensor) -> Tensor:
    inputs = x.shape[1]
    return torch.cat([nn.functional.linear(x, unpack_signs(tile, inputs, x.dtype)) for tile in tiles(bits, inputs)], 1)
