"""What ``import penstock``, with all its names, costs beside the bare interpreter; on Linux only.

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
    printed = subprocess.run([sys.executable, "-c", code + USAGE], check=True, stdout=subprocess.PIPE, text=True).stdout
    seconds, size = printed.split()
    return float(seconds) * 1e3, int(size) / 1e3


def start() -> tuple[float, float]:
    """What a bare interpreter takes."""
    return run("")


def start_and_import() -> tuple[float, float]:
    """What one takes that imports the engine."""
    return run("from penstock import *")


def rows(small: bool) -> list[measure.Row]:
    """Start both in turn, after one start each that fills the disk's cache."""
    start(), start_and_import()
    turns = [(start(), start_and_import()) for _ in range(2 if small else 21)]
    milliseconds, megabytes = ([(bare[part], ours[part]) for bare, ours in turns] for part in (0, 1))
    return [
        measure.exceed("import penstock, processor time", "bare interpreter", 150, "ms", milliseconds),
        measure.exceed("import penstock, memory", "bare interpreter", 25, "MB", megabytes),
    ]


if __name__ == "__main__":
    measure.program(__doc__, rows)
