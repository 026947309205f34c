"""Operating points of netlists by ngspice, a circuit simulator that knows nothing of this library.

It is no dependency: install it where it is wanted (`apt install ngspice`).
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dyadnet.hardware.netlist import Netlist


class SpiceError(RuntimeError):
    """The simulator is missing, or found no operating point."""


def available() -> bool:
    """Return whether ngspice is installed."""
    return shutil.which("ngspice") is not None


def operating_point(netlist: Netlist, *, seconds: float = 300) -> list[Tensor]:
    """Return the voltages of every layer, `(units,)` each, in double precision.

    Args:
        netlist: of a circuit with its input.
        seconds: how long the simulator may take.

    Raises:
        SpiceError: if ngspice is not installed, or finds no operating point.
    """
    if not available():
        raise SpiceError("ngspice is not installed: apt install ngspice")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "circuit.cir").write_text(netlist.text())
        command = ["ngspice", "-b", "-n", "-r", "found.raw", "circuit.cir"]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            raise SpiceError(f"ngspice found no operating point of the {netlist.title} in {seconds:g} s") from None
        raw = Path(folder) / "found.raw"
        found = _voltages(raw.read_bytes()) if raw.exists() else {}
    nodes = [node for layer in netlist.nodes for node in layer]
    if done.returncode or not all(np.isfinite(found.get(node, np.nan)) for node in nodes):
        raise SpiceError(f"ngspice found no operating point of the {netlist.title}: {_complaint(done)}")
    return [torch.tensor([found[node] for node in layer], dtype=torch.float64) for layer in netlist.nodes]


def _voltages(raw: bytes) -> dict[str, float]:
    """Read a raw file: a head that names the variables, and their values in double precision."""
    head, _, values = raw.partition(b"Binary:\n")
    _, _, listed = head.decode().partition("Variables:\n")
    names = [line.split()[1].removeprefix("v(").removesuffix(")") for line in listed.splitlines()]
    return dict(zip(names, np.frombuffer(values[: 8 * len(names)]).tolist(), strict=False))


def _complaint(done: subprocess.CompletedProcess[str]) -> str:
    """The first line in which the simulator names an error, or its last words."""
    said = [line.strip() for line in (done.stderr + "\n" + done.stdout).splitlines() if line.strip()]
    errors = [line for line in said if any(word in line.lower() for word in ("error", "singular", "converge"))]
    return (errors or said[-1:] or ["it said nothing"])[0]
