"""From words to a command: values, complaints of one line, and options from a TOML file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
import tyro

from dyadnet.arguments import parse
from dyadnet.names import RequestError


@dataclass(frozen=True)
class Nested:
    """Settings within a command."""

    hidden: tuple[int, ...] = (8, 8)
    """Widths."""
    clip: float | None = None
    """Norm."""
    kind: Literal["mlp", "cnn"] = "mlp"
    """Network."""
    batch_size: int = 10
    """Samples."""
    normed: bool | None = None
    """Normalisation."""


@dataclass(frozen=True)
class Train:
    """Train."""

    nested: Annotated[Nested, tyro.conf.arg(name="")]
    out: Path
    """Folder."""
    fast: bool = False
    """Speed."""
    config: Path | None = None
    """TOML."""


@dataclass(frozen=True)
class Show:
    """Show."""

    run: tyro.conf.Positional[Path]
    """Folder."""


COMMANDS: dict[str, type] = {"train": Train, "show": Show}


def read(line: str) -> Train:
    return parse(COMMANDS, line.split())


def test_options_fill_the_command_and_its_settings():
    assert read("train --out x --hidden 3 4 5 --clip 1 --kind cnn --fast") == Train(
        Nested((3, 4, 5), 1.0, "cnn"), Path("x"), fast=True
    )
    assert read("train --out=x --batch_size=3").nested.batch_size == 3
    assert read("train --out x --hidden").nested.hidden == ()
    assert parse(COMMANDS, ["show", "a b"]) == Show(Path("a b"))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("", "name a command: train, show; see dyadnet --help"),
        ("trian --out x", "there is no command trian (did you mean train?); there are train, show; see dyadnet --help"),
        ("--out x", "there is no command --out; there are train, show; see dyadnet --help"),
        (
            "train --out x --bacth-size 3",
            "there is no option --bacth-size (did you mean --batch-size?); see dyadnet train",
        ),
        ("train --out x --no-fats", "there is no option --no-fats (did you mean --no-fast?); see dyadnet train --help"),
        ("train --out x --no-kind", "there is no option --no-kind (did you mean --kind?); see dyadnet train --help"),
        ("train --out x --zzz", "there is no option --zzz; see dyadnet train --help"),
        ("show x --zzz", "there is no option --zzz; see dyadnet show --help"),
        ("train", "Missing from dyadnet train: --out PATH; see dyadnet train --help"),
        ("show", "Missing from dyadnet show: PATH; see dyadnet show --help"),
        ("train --out", "Missing value for argument '--out'. Expected 1 values; see dyadnet train --help"),
        ("train --out x y", "Unrecognized options: y; see dyadnet train --help"),
        ("train --out x --fast yes", "Unrecognized options: yes; see dyadnet train --help"),
        ("train --out x --batch-size a", "--batch-size takes INT: invalid literal for int() with base 10: 'a'; see"),
        ("train --out x --clip a", "--clip takes FLOAT: could not convert string to float: 'a'; see"),
        ("train --out x --hidden 3 a", "--hidden takes [INT [INT ...]]: ['3', 'a']; see dyadnet train --help"),
        ("train --out x --kind rnn", "invalid choice 'rnn' for argument '--kind'. Expected one of ('mlp', 'cnn'); see"),
    ],
)
def test_every_complaint_is_one_line_and_names_the_culprit(
    line: str, told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(RequestError) as refusal:
        read(line)
    assert told in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 140
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("line", ["--help", "-h", "train --help", "train --out x --help"])
def test_help_is_printed_and_ends_well(line: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        read(line)
    assert not stop.value.code
    assert "usage: dyadnet" in capsys.readouterr().out


def toml(tmp_path: Path, text: str) -> str:
    (tmp_path / "options.toml").write_text(text)
    return str(tmp_path / "options.toml")


def test_a_file_gives_options_and_the_command_line_wins(tmp_path: Path):
    file = toml(tmp_path, 'hidden = [3, 4]\nclip = 0.5\nfast = true\nout = "there"\nbatch_size = 7\nkind = "cnn"')
    everything = Train(Nested((3, 4), 0.5, "cnn", 7), Path("there"), fast=True)
    assert read(f"train --config {file}") == everything
    assert read(f"train --config={file}") == everything
    for line in (f"train --config {file} --hidden 9 --out here", f"train --hidden 9 --out here --config {file}"):
        assert read(line) == Train(Nested((9,), 0.5, "cnn", 7), Path("here"), fast=True)


def test_dashes_and_false_are_understood(tmp_path: Path):
    file = toml(tmp_path, "batch-size = 7\nfast = false\nnormed = false")
    assert read(f"train --out x --config {file}") == Train(Nested(batch_size=7, normed=False), Path("x"))


def test_the_command_line_takes_back_what_the_file_switches_on(tmp_path: Path):
    file = toml(tmp_path, "fast = true\nnormed = true")
    assert read(f"train --out x --config {file}") == Train(Nested(normed=True), Path("x"), fast=True)
    taken_back = read(f"train --out x --no-fast --no-normed --config {file}")
    assert taken_back == Train(Nested(normed=False), Path("x"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("bacth_size = 3", "options.toml: there is no option bacth_size (did you mean batch_size?)"),
        ('config = "other.toml"', "options.toml: there is no option config"),
        ("[nested]\nclip = 1", "options.toml: there is no option nested"),
        ("[clip]\na = 1", "options.toml: clip takes values, not {'a': 1}"),
        ('hidden = "128"', "options.toml: hidden takes a list of whole numbers, not '128'"),
        ("clip = true", "options.toml: clip takes values, not True"),
        ("hidden = [[1]]", "options.toml: hidden takes values, not [[1]]"),
        ("fast = 1", "options.toml: fast takes true or false, not 1"),
        ("fast = [true]", "options.toml: fast takes true or false, not [True]"),
        ("clip = ", "options.toml cannot be read as TOML"),
        ('clip = "much"', "--clip takes FLOAT: could not convert string to float: 'much'"),
    ],
)
def test_a_mistake_in_the_file_is_told_in_one_line(tmp_path: Path, text: str, told: str):
    with pytest.raises(RequestError) as refusal:
        read(f"train --out x --config {toml(tmp_path, text)}")
    assert told in str(refusal.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(RequestError, match=r"none\.toml cannot be read as TOML"):
        read(f"train --out x --config {tmp_path / 'none.toml'}")
    with pytest.raises(RequestError, match="--config needs the name of a TOML file"):
        read("train --out x --config")
    with pytest.raises(RequestError, match="there is no option --config"):
        read("show x --config y")
