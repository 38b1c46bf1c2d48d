"""What keeping results costs: large values beside the bare disk and other formats, small ones per call, S3 by parts.

python benchmarks/results.py                    full size: 512 MB, 1,000,000 rows, medians of 5 on fresh paths
python benchmarks/results.py --small            a hundredth of it, for the test suite
python benchmarks/results.py --s3               the same array to a real S3 server on loopback (rclone) as well
python benchmarks/results.py --json FILE        the figures as a file

Every round also writes, syncs and reads the same bytes bare; "ratio" is the median of the rounds' own ratios, so that
a disk that is slower for a minute slows both sides, and "best" compares the fastest rounds, which is what is left to
compare on a machine that does other things at the same time. Memory is the peak of the process above what it held
before, less the value itself where one is read.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import pickle
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from penstock.results import ResultStore

ROUNDS = 5
MB = 1_000_000

Write = Callable[[Path, Any], None]
Read = Callable[[Path], Any]


@dataclass(frozen=True)
class Row:
    """Medians of one way to keep one value."""

    value: str
    way: str
    write_s: float
    read_s: float
    ratio: float
    best: float
    write_peak_mb: float
    read_peak_mb: float
    size_mb: float


class Peak:
    """The most memory that this process held since `start`, above what it held then."""

    def start(self) -> None:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")
        self._before = self._status("VmRSS")

    def stop(self) -> float:
        return max(0.0, self._status("VmHWM") - self._before)

    @staticmethod
    def _status(field: str) -> float:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024 / MB
        raise LookupError(field)


def sync(path: Path) -> None:
    """Make a file durable, as the store does."""
    for opened in (path, path.parent):
        descriptor = os.open(opened, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def bare_round(data: memoryview, path: Path) -> float:
    """Seconds to write, sync and read bytes with nothing else."""
    began = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        written = 0
        while written < len(data):
            written += file.write(data[written:]) or 0
        os.fsync(file.fileno())
    target = memoryview(np.empty(len(data), np.uint8))
    with path.open("rb", buffering=0) as file:
        done = 0
        while done < len(target):
            done += file.readinto(target[done:]) or 0
    return time.perf_counter() - began


def with_store(**settings: Any) -> tuple[Write, Read]:
    """Keep a value in a local result store."""

    def write(path: Path, value: Any) -> None:
        ResultStore(path, **settings).write(value, "k")

    return write, lambda path: ResultStore(path, **settings).read("k")


def with_crc32() -> tuple[Write, Read]:
    """Keep a value as without the package that makes faster checksums."""
    from penstock_results import store

    chosen, (plain, read) = store.fastest, with_store()

    def write(path: Path, value: Any) -> None:
        store.fastest = lambda: "crc32"
        try:
            plain(path, value)
        finally:
            store.fastest = chosen

    return write, read


def with_pickle() -> tuple[Write, Read]:
    """Keep a value the way most programs do."""

    def write(path: Path, value: Any) -> None:
        with path.open("wb") as file:
            pickle.dump(value, file, protocol=5)
        sync(path)

    def read(path: Path) -> Any:
        with path.open("rb") as file:
            return pickle.load(file)

    return write, read


def with_numpy() -> tuple[Write, Read]:
    """Keep an array in numpy's own format."""

    def write(path: Path, value: Any) -> None:
        with path.open("wb") as file:
            np.save(file, value)
        sync(path)

    return write, np.load


def with_parquet() -> tuple[Write, Read]:
    """Keep a frame in pandas' usual format."""

    def write(path: Path, value: Any) -> None:
        value.to_parquet(path)
        sync(path)

    return write, pd.read_parquet


def ways(value: Any) -> dict[str, tuple[Write, Read]]:
    """Return the ways to keep a value."""
    found = {
        "penstock": with_store(),
        "penstock, crc32": with_crc32(),
        "penstock, zstd": with_store(compression="zstd"),
        "pickle.dump": with_pickle(),
    }
    if isinstance(value, np.ndarray):
        return found | {"numpy.save": with_numpy()}
    return found | {"penstock, arrow": with_store(serializer="arrow"), "to_parquet": with_parquet()}


def touch(value: Any) -> None:
    """Make sure that every page of a value has really been read."""
    for column in [value] if isinstance(value, np.ndarray) else [value[name] for name in value if name != "text"]:
        np.asarray(column).reshape(-1).view(np.uint8)[::4096].max()


def measure(name: str, value: Any, way: str, keep: tuple[Write, Read], folder: Path, rounds: int) -> Row:
    """Write and read a value several times, each time on a fresh path and beside the bare disk."""
    write, read = keep
    figures = list[tuple[float, float, float, float, float]]()
    totals, floors = list[float](), list[float]()
    peak = Peak()
    size = 0
    write(folder / f"{way}-warm", value[:100])
    for number in range(rounds):
        path = folder / f"{way}-{number}"
        peak.start()
        began = time.perf_counter()
        write(path, value)
        written = time.perf_counter()
        write_peak = peak.stop()
        blob = next(found for found in [path, *path.rglob("*.result")] if found.is_file())
        size = blob.stat().st_size
        peak.start()
        reading = time.perf_counter()
        again = read(path)
        touch(again)
        done = time.perf_counter()
        read_peak = peak.stop() - value_size(value) / MB
        del again
        with blob.open("rb") as file:
            data = memoryview(file.read())
        blob.unlink()
        floor = bare_round(data, folder / "bare")
        (folder / "bare").unlink()
        del data
        seconds = written - began + done - reading
        totals.append(seconds)
        floors.append(floor)
        figures.append((written - began, done - reading, seconds / floor, write_peak, max(0.0, read_peak)))
    write_s, read_s, ratio, *peaks = (statistics.median(column) for column in zip(*figures, strict=True))
    return Row(name, way, write_s, read_s, ratio, min(totals) / min(floors), *peaks, size / MB)


def value_size(value: Any) -> int:
    """Return how much memory a value takes."""
    return int(value.nbytes) if isinstance(value, np.ndarray) else int(value.memory_usage(deep=True).sum())


def values(scale: float) -> dict[str, Any]:
    """Return the values that are kept: noise, and a frame with texts."""
    chance = np.random.default_rng(1)
    rows = int(1_000_000 * scale)
    numbers = {f"number {index}": chance.random(rows) for index in range(5)}
    texts = pd.Series([f"customer {index % 5000} of city {index % 97}" for index in range(rows)], dtype="str")
    frame = pd.DataFrame({**numbers, "text": texts, "count": chance.integers(0, 1000, rows)})
    return {"ndarray": chance.random(int(512 * MB * scale) // 8), "DataFrame": frame}


def large(scale: float, folder: Path, rounds: int) -> list[Row]:
    """Measure every way to keep the large values."""
    return [
        measure(name, value, way, keep, folder, rounds)
        for name, value in values(scale).items()
        for way, keep in ways(value).items()
    ]


def per_call(call: Callable[[], Any], calls: int) -> float:
    """Microseconds of one call: the median of several blocks."""
    blocks = list[float]()
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(calls):
            call()
        blocks.append((time.perf_counter() - began) / calls * 1e6)
    return statistics.median(blocks)


def small(folder: Path, calls: int) -> dict[str, dict[str, float]]:
    """Measure what decided the limits in the code: when JSON gives way to pickle, when reading to mapping."""
    from penstock_results import blobs, local

    table = dict[str, dict[str, float]]()
    store = ResultStore(folder / "small")
    for count in (1, 10, 100, 1000, 10_000):
        value = list(range(count))
        for serializer in ("json", "pickle"):
            key = f"{serializer}-{count}"
            table[f"{count} numbers, {serializer}"] = {
                "write_us": per_call(lambda: store.write(value, key, serializer=serializer), calls),  # noqa: B023 (called at once)
                "read_us": per_call(lambda: store.read(key), calls),  # noqa: B023 (called at once)
            }
    for size in (64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20):
        key = f"bytes-{size}"
        store.write(np.zeros(size, np.uint8), key)
        for way, limit in (("read", 1 << 40), ("mapped", 0)):
            local.MAPPED = limit
            table[f"{size >> 10} KiB, {way}"] = {"read_us": per_call(lambda: store.read(key), max(3, calls // 4))}  # noqa: B023 (called at once)
    local.MAPPED = blobs.MAPPED
    return table


def digests(folder: Path, scale: float) -> dict[str, dict[str, float]]:
    """Measure a write with its checksums made before each chunk, and on a thread meanwhile; the fastest of many."""
    from penstock_results.digests import DIGESTS, Digester

    data = memoryview(np.random.default_rng(1).random(int(80 * MB * scale) // 8)).cast("B")
    chunks = [data[start : start + (16 << 20)] for start in range(0, len(data), 16 << 20)]
    table = dict[str, dict[str, float]]()
    for way in ("none", "before", "meanwhile"):
        times = list[float]()
        for _ in range(25):
            digester = Digester("crc32")
            with (folder / "digests").open("wb", buffering=0) as file:
                began = time.perf_counter()
                waiting = list[Callable[[], str]]()
                for chunk in chunks:
                    if way == "before":
                        DIGESTS["crc32"](chunk)
                    elif way == "meanwhile":
                        waiting.append(digester.start(chunk))
                    file.write(chunk)
                for wait in waiting:
                    wait()
                times.append(time.perf_counter() - began)
            digester.close()
        table[f"{len(data) // MB} MB, digested {way}"] = {"ms": min(times) * 1000}
    return table


def s3(scale: float, folder: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Measure uploads and downloads of the array by size of a part and number in flight."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
    import s3server

    from penstock_results import s3 as driver

    value = np.random.default_rng(1).random(int(512 * MB * scale) // 8)
    chosen = driver._PART, driver._IN_FLIGHT
    table = dict[str, dict[str, float]]()
    with s3server.serve(folder) as server:
        store = ResultStore(server.url("results"), storage_options=server.storage_options)
        store.write("warm", "warm")
        for part, flying in ((8 << 20, 4), (16 << 20, 1), (16 << 20, 4), (16 << 20, 8), (50 << 20, 10)):
            driver._PART, driver._IN_FLIGHT = part, flying
            rows = [_transfer(store, value) for _ in range(rounds)]
            medians = [statistics.median(column) for column in zip(*rows, strict=True)]
            names = ("write_mb_s", "read_mb_s", "write_peak_mb", "read_peak_mb")
            table[f"{part >> 20} MiB x {flying}"] = dict(zip(names, medians, strict=True))
    driver._PART, driver._IN_FLIGHT = chosen
    return table


def _transfer(store: ResultStore, value: Any) -> tuple[float, float, float, float]:
    peak, size = Peak(), value.nbytes / MB
    peak.start()
    began = time.perf_counter()
    reference = store.write(value)
    write_s, write_peak = time.perf_counter() - began, peak.stop()
    peak.start()
    began = time.perf_counter()
    again = reference.load()
    read_s, read_peak = time.perf_counter() - began, peak.stop() - size
    del again
    store.delete(reference.key)
    return size / write_s, size / read_s, write_peak, max(0.0, read_peak)


def lines(report: dict[str, Any]) -> Iterator[str]:
    """Lay the figures out as tables."""
    columns = {"write_s": 3, "read_s": 3, "ratio": 2, "best": 2, "write_peak_mb": 0, "read_peak_mb": 0, "size_mb": 1}
    yield f"{'value':10} {'way':16}" + "".join(f"{column:>15}" for column in columns)
    for row in report["large"]:
        figures = "".join(f"{row[column]:15.{digits}f}" for column, digits in columns.items())
        yield f"{row['value']:10} {row['way']:16}{figures}"
    for name in ("small", "digests", "s3"):
        yield ""
        for label, figures in report.get(name, {}).items():
            yield f"{name:8} {label:28} " + "  ".join(
                f"{field} {figure:.{3 if field.endswith('_s') else 1}f}" for field, figure in figures.items()
            )


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure, print and return the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a hundredth of the size, one round")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each large value is written and read")
    parser.add_argument("--s3", action="store_true", help="also to a real S3 server on loopback")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args(arguments)
    scale, rounds, calls = (0.01, 1, 5) if options.small else (1.0, options.rounds, 200)
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        report: dict[str, Any] = {
            "large": [asdict(row) for row in large(scale, Path(folder), rounds)],
            "small": small(Path(folder), calls),
            "digests": digests(Path(folder), scale),
        }
        if options.s3:
            report["s3"] = s3(scale, Path(folder), rounds)
    print("\n".join(lines(report)))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))
    return report


if __name__ == "__main__":
    main()
