"""`dyadnet export`, from a run to a file."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dyadnet import cli

SHORT = ["--hidden", "64", "64", "--epochs", "1", "--align-every", "0", "--train-samples", "400", "--batch-norm"]
Outcome = tuple[int, str, str]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with binary weights and one without."""
    path = tmp_path_factory.mktemp("runs")
    for name, options in (("binary", ["--binary", "ste"]), ("float", [])):
        assert cli.main(["train", *SHORT, *options, "--out", str(path / name)]) == 0
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], runs: Path) -> Any:
    def call(*words: Any) -> Outcome:
        capsys.readouterr()
        code = cli.main([str(word) for word in words])
        return code, *capsys.readouterr()

    return call


@pytest.mark.parametrize(("format", "suffix"), [("packed", "safetensors"), ("gguf", "gguf"), ("onnx", "onnx")])
def test_export_prints_sizes_and_the_difference(run: Any, runs: Path, tmp_path: Path, format: str, suffix: str) -> None:
    code, out, told = run("export", runs / "binary", "--format", format, "--out", tmp_path / "out")
    file = tmp_path / "out" / f"model.{suffix}"
    assert (code, told) == (0, "")
    assert f"{file}: {file.stat().st_size} bytes; in floats it would be" in out
    assert "on 360 test samples: largest difference" in out
    assert "0 predictions changed" in out


def test_bad_requests_are_one_line(run: Any, runs: Path, tmp_path: Path) -> None:
    for words, expected in (
        (["export", runs / "float", "--out", tmp_path], "no layer of the model has binary weights"),
        (["export", tmp_path / "nothing", "--out", tmp_path], "nothing"),
        (["export", runs / "binary", "--out", tmp_path, "--format", "pickle"], "pickle"),
    ):
        code, out, told = run(*words)
        assert (code, out, told.count("\n")) == (2, "", 1)
        assert told.startswith("dyadnet: ")
        assert expected in told


def test_importing_dyadnet_imports_no_package_of_the_formats() -> None:
    code = (
        "import sys, dyadnet, dyadnet.binary, dyadnet.cli\n"
        "print([name for name in ('gguf', 'onnx', 'onnxscript', 'onnxruntime') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
