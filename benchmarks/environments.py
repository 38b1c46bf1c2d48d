"""An environment for each peer, made by uv from the versions that the peer's program names in its first lines."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

HOME = Path(__file__).parents[1] / ".venv-peers"
# The inline metadata of a script, as PEP 723 defines it.
METADATA = re.compile(r"^# /// script$\s(?P<content>(^#(| .*)$\s)+)^# ///$", re.MULTILINE)


class CannotInstall(Exception):
    """uv's answer, where a peer cannot be installed."""


def requirements(program: Path) -> list[str]:
    """What a program wants to be installed; nothing if it runs where we do."""
    found = METADATA.search(program.read_text(encoding="utf-8"))
    if found is None:
        return []
    text = "".join(line.removeprefix("#").removeprefix(" ") for line in found["content"].splitlines(keepends=True))
    return list(tomllib.loads(text)["dependencies"])


def interpreter(name: str, program: Path) -> str:
    """The interpreter that a peer's program runs on, made ready.

    Raises:
        CannotInstall: If uv cannot.
    """
    wanted = requirements(program)
    if not wanted:
        return sys.executable
    home = HOME / name
    python, stamp = home / "bin" / "python", home / "installed"
    content = "\n".join([sys.version, *wanted])
    if not stamp.exists() or stamp.read_text() != content:
        _uv("venv", "--clear", "--python", sys.executable, str(home))
        _uv("pip", "install", "--python", str(python), *wanted)
        stamp.write_text(content)
    return str(python)


def _uv(*arguments: str) -> None:
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        raise CannotInstall("there is no uv: pip install uv")
    ended = subprocess.run([uv, *arguments], capture_output=True, text=True)
    if ended.returncode:
        raise CannotInstall(" ".join(ended.stderr.split()))
