"""C functions beside this file: compiled once a process, in well under a second, for the processor at hand.

Nothing is left behind. Where there is no compiler, whoever asks has to do without.
"""

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

_COMMON = ("-O3", "-fno-math-errno", "-shared", "-fPIC")  # a root that sets errno is not computed eight at a time
_FLAGS = (("-march=native", "-fopenmp"), ("-march=native",), ("-fopenmp",), ())  # not every compiler knows all


def library(source: str) -> ctypes.CDLL | None:
    """Return a compiled C file of this folder, or None without a compiler ($CC, cc, gcc or clang) that takes it."""
    for compiler in _compilers():
        for flags in _FLAGS:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                made = Path(folder) / "kernel.so"
                command = [compiler, *_COMMON, *flags, str(Path(__file__).with_name(source)), "-o", str(made)]
                if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                    return ctypes.CDLL(str(made))
    return None


def _compilers() -> Iterator[str]:
    named = (os.environ.get("CC"), "cc", "gcc", "clang")
    return filter(None, (shutil.which(name) for name in named if name))
