"""What ``import penstock`` costs, beside the bare interpreter.

python benchmarks/imports.py [--small] [--json FILE]
"""

from __future__ import annotations

import subprocess
import sys

import measure

# Makes a process print what it took so far: seconds of the processor, which leave out what neighbours take, and the
# most bytes of memory that it ever held, which Linux gives in kilobytes.
USAGE = """
import resource, sys
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""


def run(code: str) -> tuple[float, float]:
    """Milliseconds and megabytes of an interpreter that executes this code."""
    printed = subprocess.run([sys.executable, "-c", code + USAGE], check=True, capture_output=True, text=True).stdout
    seconds, size = printed.split()
    return float(seconds) * 1e3, int(size) / 1e6


def start() -> tuple[float, float]:
    """What a bare interpreter takes."""
    return run("")


def start_and_import() -> tuple[float, float]:
    """What one takes that imports the engine."""
    return run("import penstock")


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
