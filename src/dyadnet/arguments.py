"""From the words of a command line, and a TOML file of options, to a command; every complaint is one line."""

import contextlib
import dataclasses
import io
import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_type_hints

import tyro

from dyadnet.names import RequestError
from dyadnet.suggest import meant

Command = Any
"""A dataclass whose fields are the options of a command."""
_FLAGS = (bool, bool | None)


def parse(commands: Mapping[str, type[Command]], arguments: Sequence[str]) -> Command:
    """Return the command that `arguments` ask for.

    `--config FILE` stands for the options that the TOML file holds; those on the command line win.

    Raises:
        RequestError: for an unknown command or option, or a value of the wrong type.
        SystemExit: after `--help` has been printed.
    """
    name, *rest = arguments or [""]
    if name == "--version":
        print(f"dyadnet {version('dyadnet')}")
        raise SystemExit(0)
    if name in ("-h", "--help"):
        return _read(commands, [name])
    if name not in commands:
        there_are = f"{', '.join(commands)}; see dyadnet --help"
        raise RequestError(
            f"there is no command {name}{meant(name, commands)}; there are {there_are}"
            if name
            else f"name a command: {there_are}"
        )
    options = _options(commands[name])
    known = [*options, *(f"no-{option}" for option, hint in options.items() if hint in _FLAGS)]
    for word in rest:
        option = word.partition("=")[0].replace("_", "-")
        if option.startswith("--") and option[2:] not in ("help", *known):
            there = f"there is no option {option}{meant(option, [f'--{word}' for word in known])}"
            raise RequestError(f"{there}; see dyadnet {name} --help")
    return _read(commands, [name, *_with_config(rest, options)])


def _options(command: type[Command]) -> dict[str, Any]:
    """Return the options of a command with their types, those of nested settings included."""
    options: dict[str, Any] = {}
    for name, hint in get_type_hints(command).items():
        nested = isinstance(hint, type) and dataclasses.is_dataclass(hint)
        options |= _options(hint) if nested else {name.replace("_", "-"): hint}
    return options


def _read(commands: Mapping[str, type[Command]], arguments: Sequence[str]) -> Command:
    """Let tyro read the words; its complaint in a box becomes one line."""
    read = partial(
        tyro.extras.subcommand_cli_from_dict,
        dict(commands),
        prog="dyadnet",
        args=arguments,
        config=(tyro.conf.DisallowNone,),
    )
    printed = io.StringIO()  # no terminal: tyro then writes plain text
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            return read()
    except SystemExit as stop:
        if not stop.code:
            return read()  # help was asked for: let the terminal have it
        raise RequestError(f"{_gist(printed.getvalue())}; see dyadnet {arguments[0]} --help") from None


def _gist(box: str) -> str:
    """Return what a box complains of: the part below its title without help texts, with the form of the option."""
    told, *rest = re.split(r"^ +-+ *$", box, flags=re.MULTILINE)[1:] or [box]
    first = " ".join(line.strip() for line in told.splitlines() if line.strip() and not line.startswith(" " * 10))
    wrong = re.fullmatch(
        r"Error parsing (--\S+): (?:.*(?:arguments:|errors: - (?:<class '\w+'>|typing.Literal\[.*?\]):) )?(.*)", first
    )
    if wrong is None:
        return re.sub(r"\(('.*')\)", _choices, first.rstrip("."))
    form = re.search(rf"^ +{wrong[1]} (.*\S)", "".join(rest), re.MULTILINE)
    return f"{wrong[1]} takes {form[1] if form else 'another value'}: {wrong[2]}"


def _choices(found: re.Match[str]) -> str:
    """List what could have been chosen, without the None of an option that may be left out, but not given as None."""
    choices = re.findall(r"'[^']*'", found[1])
    there = sorted(choice for choice in choices if choice != "'None'")
    return found[0] if len(there) == len(choices) else f"({', '.join(there)})"


def _with_config(words: list[str], options: Mapping[str, Any]) -> list[str]:
    """Replace `--config FILE` by the options that the file holds, ahead of the others."""
    at = next((i for i, word in enumerate(words) if word.partition("=")[0] == "--config"), None)
    if at is None:
        return words
    _, equals, file = words[at].partition("=")
    after = at + 1 if equals else at + 2
    if not equals:
        file = words[at + 1] if at + 1 < len(words) else ""
    if not file:
        raise RequestError("--config needs the name of a TOML file")
    return [*_from_toml(Path(file), options), *words[:at], *words[after:]]


def _from_toml(path: Path, options: Mapping[str, Any]) -> list[str]:
    """Return the options of a TOML file as words of a command line."""
    try:
        values = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RequestError(f"{path} cannot be read as TOML: {error}") from error
    words: list[str] = []
    for key, value in values.items():
        name = key.replace("_", "-")
        if name not in options or name == "config":
            there = f"there is no option {key}{meant(key, [known.replace('-', '_') for known in options])}"
            raise RequestError(f"{path}: {there}")
        if options[name] in _FLAGS:
            if not isinstance(value, bool):
                raise RequestError(f"{path}: {key} takes true or false, not {value!r}")
            words.append(f"--{name}" if value else f"--no-{name}")
            continue
        items = value if isinstance(value, list) else [value]
        if isinstance(value, str) and options[name] == tuple[int, ...]:
            raise RequestError(f"{path}: {key} takes a list of whole numbers, not {value!r}")
        if not all(isinstance(item, str | int | float) and not isinstance(item, bool) for item in items):
            raise RequestError(f"{path}: {key} takes values, not {value!r}")
        words += [f"--{name}", *map(str, items)]
    return words
