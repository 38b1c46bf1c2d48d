"""What the peer's result store costs; run by results.py in an interpreter that has Prefect 3.

Arguments: a folder of pickled values, an empty folder, a number of rounds. Only the store is measured, with the local
filesystem, as the peer's flows use it. It does not sync what it writes.
"""

import json
import pickle
import statistics
import sys
import time
from pathlib import Path

from prefect import __version__
from prefect.filesystems import LocalFileSystem
from prefect.results import ResultStore


def measure(value: object, folder: Path, rounds: int) -> dict[str, float]:
    """Medians of writing and reading a value, seconds, and what it takes on the disk."""
    times = list[tuple[float, float]]()
    stored = folder / "k"
    for _ in range(rounds):
        stored.unlink(missing_ok=True)
        store = ResultStore(result_storage=LocalFileSystem(basepath=str(folder)), cache_result_in_memory=False)
        began = time.perf_counter()
        store.write(value, key="k")
        written = time.perf_counter()
        store.read(key="k")
        times.append((written - began, time.perf_counter() - written))
    write_s, read_s = (statistics.median(column) for column in zip(*times, strict=True))
    return {"write_s": write_s, "read_s": read_s, "size_mb": stored.stat().st_size / 1e6}


def main(values: str, folder: str, rounds: str) -> None:
    """Measure every value and print the figures as JSON."""
    figures = {
        file.name: measure(pickle.loads(file.read_bytes()), Path(folder), int(rounds))
        for file in sorted(Path(values).iterdir())
    }
    print(json.dumps({"version": __version__, "figures": figures}))


if __name__ == "__main__":
    main(*sys.argv[1:])
