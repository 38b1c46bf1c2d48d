"""What the names that every program imports, and the command, cost beside the bare interpreter; on Linux only.

python benchmarks/imports.py [--small] [--json FILE]
"""

from __future__ import annotations

import subprocess
import sys

import measure

# Makes a process print what it took so far: seconds of the processor, which leave out what neighbours take, and the
# most kilobytes of memory that it ever held. What `resource` says of memory includes the process that started this one.
USAGE = """
import resource
used = resource.getrusage(resource.RUSAGE_SELF)
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(used.ru_utime + used.ru_stime, peak.split()[1])
"""


def run(code: str) -> tuple[float, float]:
    """Milliseconds and megabytes of an interpreter that executes this code."""
    command = [sys.executable, "-c", code + USAGE]
    printed = subprocess.run(command, env=measure.environment(), check=True, stdout=subprocess.PIPE, text=True).stdout
    seconds, size = printed.split()
    return float(seconds) * 1e3, int(size) / 1e3


def start() -> tuple[float, float]:
    """What a bare interpreter takes."""
    return run("")


def start_and_import() -> tuple[float, float]:
    """What one takes that imports what every program does; `resume` brings the history, for those who ask for it."""
    return run("from penstock import Engine, flow, task")


def start_and_say() -> tuple[float, float]:
    """What one takes that executes ``penstock version``."""
    return run(
        "import io, sys; sys.argv[1:], sys.stdout = ['version'], io.StringIO()\n"
        "from penstock.cli.app import main\n"
        "assert main() == 0\n"
        "sys.stdout = sys.__stdout__"
    )


def rows(small: bool) -> list[measure.Row]:
    """Start all in turn, after one start each that fills the disk's cache."""
    start(), start_and_import(), start_and_say()
    turns = [(start(), start_and_import(), start_and_say()) for _ in range(2 if small else 21)]
    imports, megabytes = ([(bare[part], ours[part]) for bare, ours, _ in turns] for part in (0, 1))
    commands = [(bare[0], command[0]) for bare, _, command in turns]
    return [
        measure.exceed("import penstock, processor time", "bare interpreter", 150, "ms", imports),
        measure.exceed("import penstock, memory", "bare interpreter", 25, "MB", megabytes),
        measure.exceed("penstock version, processor time", "bare interpreter", 150, "ms", commands),
    ]


if __name__ == "__main__":
    measure.program(__doc__, rows)
