"""Peak memory: of an action, and of the training steps of a case in a process of its own."""

import gc
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.cases import Case, bench

ROOT = Path(__file__).resolve().parent.parent
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
STEPS = 3
"""The first step makes gradients and momenta; the others meet them."""
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""glibc gives every tensor of at least so many bytes a mapping of its own, and so back to the system when it is freed.

Left alone it raises that threshold up to 32 MB as tensors are freed, and where the heap then has a hole too small,
which changes from one process to the next, the peak counts a tensor that is gone.
"""


def measurable(device: torch.device) -> bool:
    """Whether a peak can be read: on CUDA, and on Linux."""
    return device.type == "cuda" or os.access(CLEAR, os.W_OK)


def peak(action: Callable[[], object], device: torch.device) -> int:
    """Return by how many bytes memory grew at the most while `action` ran.

    On CUDA that is what PyTorch allocated; elsewhere the resident memory of the process, whose high-water mark Linux
    sets back on request.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        action()
        return torch.cuda.max_memory_allocated(device) - before
    before = _status("VmRSS")
    CLEAR.write_text("5")
    action()
    return _status("VmHWM") - before


def of_training(case: Case, rule: str, device: torch.device) -> int:
    """Return the peak of a few training steps in bytes, model, data and optimiser included."""

    def train(case: Case) -> None:
        step = bench(case, device).step(rule)
        for _ in range(STEPS):
            step()

    train(Case(2, (4,), case.blocks and ((4, 1),)))  # loads the libraries that a step needs
    return peak(lambda: train(case), device)


def in_a_fresh_process(case: Case, rule: str, device: torch.device) -> int:
    """Return `of_training` as a process finds it that does nothing else."""
    request = json.dumps([asdict(case), rule, str(device), torch.get_num_threads()])
    command = [sys.executable, "-m", "benchmarks.memory", request]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | ALLOCATOR, stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout)


def _status(field: str) -> int:
    """Read a size that Linux keeps of this process."""
    found = re.search(rf"^{field}:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])


def _answer(request: str) -> int:
    """Measure what `in_a_fresh_process` asks for."""
    case, rule, device, threads = json.loads(request)
    torch.set_num_threads(threads)
    blocks = tuple((wide, count) for wide, count in case["blocks"])
    return of_training(Case(case["batch"], tuple(case["hidden"]), blocks), rule, torch.device(device))


if __name__ == "__main__":
    print(_answer(sys.argv[1]))
