"""What a result was computed with: versions, commit, hardware; and the device that settings name."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

from dyadnet.names import RequestError


def environment(device: torch.device | None = None) -> dict[str, str | int]:
    """Return versions, commit and hardware.

    >>> environment()["dyadnet"] == version("dyadnet")
    True
    """
    device = device or torch.device("cpu")
    return {
        "dyadnet": version("dyadnet"),
        "commit": commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def commit() -> str:
    """Return the commit of the source that runs, with `+` where it has been changed; `unknown` outside a repository."""
    here = Path(__file__).resolve().parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
        tracked = subprocess.run(
            ["git", "ls-files", "--error-unmatch", __file__], cwd=here, capture_output=True, check=False, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return described.stdout.strip() if tracked.returncode == 0 else "unknown"


def _processor() -> str:
    """The processor's model name, as Linux tells it, else what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def pick_device(name: str) -> torch.device:
    """Return the device of that name; `auto` is a CUDA device where there is one.

    Raises:
        RequestError: naming the devices that are there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    there = ["cpu"]
    if accelerator is not None:
        numbered = (f"{accelerator.type}:{number}" for number in range(torch.accelerator.device_count()))
        there += [accelerator.type, *numbered]
    if name not in there:
        raise RequestError(f"there is no device {name!r} here; there is {', '.join(there)}")
    return torch.device(name)
