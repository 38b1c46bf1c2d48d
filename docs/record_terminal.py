"""Records the terminal pictures of docs/howto/command-line.md.

``python docs/record_terminal.py`` executes the commands below in a pseudo-terminal, in a folder and a home that are
gone afterwards, and draws what they wrote. Nothing in the pictures is written by hand but the commands. Times and ids
differ from one recording to the next, so no test compares them; one records them anew and looks at what is there.
"""

from __future__ import annotations

import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

DOCS = Path(__file__).parent
PROGRAM = DOCS / "examples" / "nightly.py"
COLUMNS = 112
PICTURES = {
    "terminal-run.svg": (
        "penstock run nightly.py:nightly -p folder=reports",
        "penstock runs ls",
        "penstock runs show {name}",
    ),
    "terminal-resume.svg": (
        "mkdir reports",
        "penstock runs resume {name}",
        "penstock runs ls",
        "penstock runs show {name}",
    ),
}
"""The commands of each picture, one after the other; ``{name}`` is the newest run."""


def main(folder: Path) -> None:
    """Record all pictures into a folder."""
    with TemporaryDirectory(prefix="penstock-") as place:
        shutil.copy(PROGRAM, place)
        for name, commands in PICTURES.items():
            console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True)
            for command in commands:
                line = command.format(name=newest(Path(place))) if "{name}" in command else command
                console.print(Text(f"$ {line}", style="bold"))
                console.print(Text.from_ansi(execute(line, Path(place))))
            drawn = console.export_svg(title="penstock", theme=MONOKAI, unique_id=name.partition(".")[0])
            (folder / name).write_text(without_downloads(drawn), encoding="utf-8")


def environment(place: Path) -> dict[str, str]:
    """What the commands see: a home of their own, and the command on the path."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith(("PENSTOCK_", "PYTEST_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    terminal = {"TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "TZ": "UTC"}
    return {**ours, **terminal, "PATH": path, "PENSTOCK_HOME": str(place / "home")}


def newest(place: Path) -> str:
    """The name of the newest run, or nothing."""
    command = "penstock runs ls --json --limit 1"
    listed = subprocess.run(shlex.split(command), cwd=place, env=environment(place), capture_output=True, check=True)
    found = re.search(rb'"name": "([^"]+)"', listed.stdout)
    return found[1].decode() if found else ""


def execute(command: str, place: Path) -> str:
    """What a command writes into a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        shlex.split(command), cwd=place, env=environment(place), stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    written = b""
    try:
        while chunk := os.read(ours, 1 << 16):
            written += chunk
    except OSError:  # what Linux says when the other side is closed
        pass
    os.close(ours)
    process.wait()
    return written.decode().replace("\r\n", "\n").replace(str(place), "/home/me")


def without_downloads(drawn: str) -> str:
    """The picture without the fonts that it would fetch from the network."""
    return re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)


if __name__ == "__main__":
    main(DOCS / "howto" if len(sys.argv) < 2 else Path(sys.argv[1]))
