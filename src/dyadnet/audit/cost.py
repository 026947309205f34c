"""What an update costs: multiplications and bytes, counted operation by operation, not timed."""

from dataclasses import dataclass
from math import prod
from typing import final

from dyadnet.audit.messages import factors
from dyadnet.audit.trace import Operation, Ref, Trace, aten


@final
@dataclass(frozen=True)
class Cost:
    """What was counted.

    Attributes:
        products: matrix products and convolutions.
        multiply_adds: multiplications, each with its addition, in them.
        bytes: read and written by all operations but views.
    """

    products: int
    multiply_adds: int
    bytes: int


def cost(trace: Trace) -> Cost:
    """Return what a computation costs.

    >>> import torch
    >>> from dyadnet.audit.trace import record
    >>> a, b = torch.ones(2, 3), torch.ones(3, 4)
    >>> cost(record(lambda: a @ b)[1])            # 4 bytes for each of 6 + 12 + 8 numbers
    Cost(products=1, multiply_adds=24, bytes=104)
    """
    counts = [multiply_adds(operation) for operation in trace.operations]
    moved = sum(_bytes(r) for op in trace.operations if op.writes for r in (*op.inputs, *op.outputs))
    return Cost(sum(count > 0 for count in counts), sum(counts), moved)


def multiply_adds(operation: Operation) -> int:
    """Return the multiplications of a product, 0 of other operations."""
    if not operation.given:
        return 0
    if operation.packet is aten.convolution:
        return prod(operation.outputs[0].size) * prod(operation.args[1].size[1:])
    if operation.packet is aten.convolution_backward:
        below, weights, _ = operation.args[-1]
        return (below + weights) * prod(operation.args[0].size) * prod(operation.args[2].size[1:])
    left = operation.args[factors(operation)[0]]
    return prod(operation.outputs[0].size) * left.size[-1]


def _bytes(r: Ref) -> int:
    return r.dtype.itemsize * prod(r.size)
