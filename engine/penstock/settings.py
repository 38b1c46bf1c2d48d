"""Defaults from outside the program.

Every setting is an environment variable ``PENSTOCK_<NAME>``, or a key ``<name>`` in the table ``[tool.penstock]`` of
the nearest ``pyproject.toml``, or in ``config.toml`` in Penstock's home; what is named first wins.
docs/reference/settings.md lists them. Variables are read when a flow or task is defined or an engine is made, so that a
program can set them before that; the files when Penstock is imported, since later there may be a loop to hold up.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from penstock.errors import ConfigurationError

__all__ = ("given", "home", "settings", "truth")

CONFIG, PROJECT, PREFIX = "config.toml", "pyproject.toml", "PENSTOCK_"


def settings(name: str, convert: Callable[[str], Any], default: Any) -> Any:
    """The value of a setting.

    Args:
        name: The variable's name without ``PENSTOCK_``, in any case.
        convert: Makes a value of the text.
        default: The value if the setting is given nowhere, or empty.

    Raises:
        ConfigurationError: If the text cannot be converted; names where it stands.
    """
    variable = f"{PREFIX}{name.upper()}"
    text, place = os.environ.get(variable), _variable(variable)
    if not text:
        text, place = _in_files().get(name.lower(), ("", ""))
    if not text:
        return default
    try:
        return convert(text)
    except ValueError as error:
        raise ConfigurationError(f"{place} is {text!r}: {error}.") from None


def given() -> dict[str, tuple[str, str]]:
    """Every setting that is given outside the program, known or not: its text, and where it stands."""
    variables = {key: text for key, text in os.environ.items() if key.startswith(PREFIX) and text}
    found = {key.removeprefix(PREFIX).lower(): (text, _variable(key)) for key, text in variables.items()}
    return {**_in_files(), **found}


def truth(text: str) -> bool:
    """Read a yes or no.

    Raises:
        ValueError: If it is neither.
    """
    answers = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if text.lower() not in answers:
        raise ValueError("give true or false")
    return answers[text.lower()]


def home() -> Path:
    """Where the embedded defaults lie: ``PENSTOCK_HOME``, or the platform's folder for a program's state."""
    if given := os.environ.get("PENSTOCK_HOME"):
        return Path(given).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", "~")).expanduser() / "penstock"
    if sys.platform == "darwin":
        return Path("~/Library/Application Support/penstock").expanduser()
    return Path(os.environ.get("XDG_STATE_HOME", "~/.local/state")).expanduser() / "penstock"


def _variable(name: str) -> str:
    return f"The environment variable {name}"


@cache
def _in_files() -> Mapping[str, tuple[str, str]]:
    """Each setting in the files as the text that an environment variable would have, and where it stands."""
    found = dict[str, tuple[str, str]]()
    config = home() / CONFIG
    for path, table in ((config, _read(config)), *_project()):
        for key, value in table.items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            found[key.lower()] = text, f"{key} in {path}"
    return found


def _project() -> list[tuple[Path, Mapping[str, Any]]]:
    """The nearest ``pyproject.toml`` in the current folder or above it, with its table; most have none."""
    try:
        folder = Path.cwd()
    except FileNotFoundError:  # it has been deleted
        return []
    for path in (place / PROJECT for place in (folder, *folder.parents)):
        if path.is_file():
            named = b"tool.penstock" in path.read_bytes()  # to parse a file costs more than to import all of Penstock
            return [(path, _read(path).get("tool", {}).get("penstock", {}))] if named else []
    return []


def _read(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    import tomllib

    try:
        return tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"The settings in {path} cannot be read: {error}.") from error


try:
    _in_files()
except ConfigurationError:
    pass  # whoever asks for a setting is told
