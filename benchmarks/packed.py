"""Time of layers with one bit a weight over the same layers in floats.

    python -m benchmarks.packed

The float layer is PyTorch's; the packed one computes the same to rounding, compiled where there is a C compiler, and by
unpacking tiles. All take turns in one process; on one thread the time is that of the processor, without what others had
of it. The weights are the larger part of what a product with few samples reads from memory, and a vanishing one with
many: that is what the ratios show.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any
from unittest.mock import patch

import torch
import tyro
from rich.console import Console
from rich.markdown import Markdown
from torch import Tensor, nn

from benchmarks.tables import markdown
from dyadnet.binary import pack, product
from dyadnet.train.environment import environment
from dyadnet.train.folder import write_json
from dyadnet.train.timing import interleaved

Row = dict[str, Any]

LINEAR = ((512, 512), (1024, 4608), (4096, 4096))
CONVOLUTIONS = ((128, 16), (512, 4))
BATCHES = (1, 2, 4, 16, 128)


@dataclass(frozen=True)
class Settings:
    """Measure, store the numbers, and print them."""

    out: Path = Path(__file__).parent / "results" / "packed.json"
    """The JSON file to write."""
    threads: int = 1
    """Threads on the CPU."""
    seconds: float = 2.0
    """How long to repeat a line; at least seven rounds are measured."""
    quick: bool = False
    """Tiny layers and few rounds: to see that everything runs, not to learn from the numbers."""


def main(settings: Settings, console: Console) -> None:
    """Measure all layers and store their rows."""
    torch.set_num_threads(settings.threads)
    rows = [measure(section, layer, x, settings) for section, layer, x in layers(settings)]
    settings.out.parent.mkdir(parents=True, exist_ok=True)
    shown = dataclasses.asdict(settings) | {"out": settings.out.name}
    write_json(settings.out, {"settings": shown, "environment": environment(), "rows": rows})
    console.print(Markdown(markdown(settings.out)))
    console.print(f"results: {settings.out}")


def layers(settings: Settings) -> Iterator[tuple[str, nn.Linear | nn.Conv2d, Tensor]]:
    """Yield layers with binary weights and inputs for them."""
    torch.manual_seed(0)
    for outputs, inputs in ((16, 24),) if settings.quick else LINEAR:
        for batch in BATCHES:
            yield "linear", _binary(nn.Linear(inputs, outputs)), torch.randn(batch, inputs)
    for channels, side in ((4, 5),) if settings.quick else CONVOLUTIONS:
        for batch in (1, 16):
            convolution = nn.Conv2d(channels, channels, 3, padding=1)
            yield "convolution", _binary(convolution), torch.randn(batch, channels, side, side)


@torch.no_grad()
def measure(section: str, layer: nn.Linear | nn.Conv2d, x: Tensor, settings: Settings) -> Row:
    """Return the times of a layer in its forms.

    Raises:
        ArithmeticError: if a packed layer does not compute what the float one does.
    """
    ways = actions(layer, x)
    expected = ways["float"]()
    for name, way in ways.items():
        if not torch.allclose(way(), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max())):
            raise ArithmeticError(f"{name} does not compute what the float layer does: do not use it")
    clock = time.process_time if settings.threads == 1 else time.perf_counter
    start = clock()
    for way in ways.values():
        way()
    rounds = 3 if settings.quick else max(7, min(1000, int(settings.seconds / (clock() - start + 1e-9))))
    times = interleaved(ways, rounds, clock=clock)
    return {
        "section": section,
        "layer": _named(layer, x),
        "batch": len(x),
        "samples": rounds,
        "smaller": round(layer.weight.nbytes / pack(layer).bits.nbytes, 2),
        "ms": {name: _spread([1e3 * value for value in values]) for name, values in times.items()},
        "speedups": {
            name: _spread([theirs / ours for ours, theirs in zip(values, times["float"], strict=True)])
            for name, values in times.items()
            if name != "float"
        },
    }


def actions(layer: nn.Linear | nn.Conv2d, x: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Return what computes the layer's output: in floats, by the compiled product, and by tiles."""
    packed = pack(layer)

    def by_tiles() -> Tensor:
        with patch.object(product, "compiled", lambda: None):
            return packed(x)

    ways: dict[str, Callable[[], Tensor]] = {"float": lambda: layer(x), "tiles": by_tiles}
    if isinstance(layer, nn.Linear) and product.compiled() is not None:
        ways["compiled"] = lambda: packed(x)
    return ways


@torch.no_grad()
def _binary(layer: Any) -> Any:
    layer.weight.copy_(torch.where(layer.weight < 0, -1.0, 1.0))
    return layer


def _named(layer: nn.Linear | nn.Conv2d, x: Tensor) -> str:
    if isinstance(layer, nn.Linear):
        return f"{layer.out_features}x{layer.in_features}"
    return f"{layer.out_channels}x{layer.in_channels}x3x3 on {x.shape[-2]}x{x.shape[-1]}"


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median and the quartiles."""
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return {"median": round(middle, 4), "low": round(low, 4), "high": round(high, 4)}


if __name__ == "__main__":
    main(tyro.cli(Settings), Console())
