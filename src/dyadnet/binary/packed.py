"""Layers that compute with packed weights, `weight = scale * signs`, one bit a sign."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dyadnet.binary.packing import pack_signs, unpack_signs
from dyadnet.binary.product import product, tiles


class AbstractPacked(nn.Module):
    """What packed layers hold: the buffers `bits`, `scale` (one, or one for every output) and `bias` (or None).

    Args:
        arguments: those of the layer that it stands for, `kind`.
        bias: whether there is one.
        per_output: whether every output has its own scale.
    """

    kind: ClassVar[type[nn.Linear] | type[nn.Conv2d]]
    bits: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, *arguments: Any, bias: bool = True, per_output: bool = False, **named: Any) -> None:
        super().__init__()
        form = self.kind(*arguments, **named, bias=False, device="meta")
        outputs, *inputs = form.weight.shape
        form.register_parameter("weight", None)
        self.form, self.inputs, self.per_output = form, torch.Size(inputs), per_output
        self.register_buffer("bits", torch.zeros(outputs, (self.inputs.numel() + 7) // 8, dtype=torch.uint8))
        self.register_buffer("scale", torch.ones(outputs if per_output else 1))
        self.register_buffer("bias", torch.zeros(outputs) if bias else None)

    def fill(self, weight: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        """Take over the signs of a weight of shape `(outputs, ...)`, its scale and its bias."""
        self.bits, self.scale = pack_signs(weight.detach().flatten(1)), scale
        self.bias = None if bias is None else bias.detach().clone()

    def signs(self) -> Tensor:
        """Return all signs unpacked, in the shape of the layer's weight."""
        return unpack_signs(self.bits, self.inputs.numel(), self.scale.dtype).unflatten(1, self.inputs)

    def extra_repr(self) -> str:
        """Say what is particular to the packed layer."""
        return f"bias={self.bias is not None}, per_output={self.per_output}"


class PackedLinear(AbstractPacked):
    """A linear map with one bit a weight, which agrees with the float one to rounding.

    >>> packed = PackedLinear(16, 3)
    >>> packed.fill(torch.ones(3, 16), torch.tensor([0.5]), torch.zeros(3))
    >>> tuple(packed.bits.shape), packed(torch.ones(16))
    ((3, 2), tensor([8., 8., 8.]))
    """

    kind = nn.Linear

    def forward(self, x: Tensor) -> Tensor:
        """Return the map of `x`, of shape `(..., inputs)`."""
        if x.shape[-1] != self.inputs.numel():
            raise ValueError(f"the layer takes {self.inputs.numel()} inputs, but x has {x.shape[-1]}")
        y = product(self.bits, x if x.dim() == 2 else x.reshape(-1, x.shape[-1]))
        y = y * self.scale if self.bias is None else torch.addcmul(self.bias, y, self.scale)
        return y if x.dim() == 2 else y.view(*x.shape[:-1], len(self.bits))


class PackedConv2d(AbstractPacked):
    """A convolution with one bit a weight.

    The weights of a few output channels at a time are unpacked; those of a convolution in groups, which are few, all.

    >>> packed = PackedConv2d(4, 2, 3, padding=1, bias=False)
    >>> packed.fill(torch.ones(2, 4, 3, 3), torch.ones(1), None)
    >>> packed(torch.ones(1, 4, 3, 3))[0, 0]
    tensor([[16., 24., 16.],
            [24., 36., 24.],
            [16., 24., 16.]])
    """

    kind = nn.Conv2d

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of `x`, of shape `(batch, channels, height, width)`."""
        assert isinstance(self.form, nn.Conv2d)
        count = self.inputs.numel()
        parts = tiles(self.bits, count) if self.form.groups == 1 else [self.bits]
        weights = (unpack_signs(part, count, x.dtype).unflatten(1, self.inputs) for part in parts)
        y = torch.cat([self.form._conv_forward(x, weight, None) for weight in weights], -3) * self.scale[:, None, None]
        return y if self.bias is None else y + self.bias[:, None, None]
