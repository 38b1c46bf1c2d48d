"""What a cache key costs: large inputs beside the bare hash of the same bytes, small ones per call.

python benchmarks/hashing.py            full size
python benchmarks/hashing.py --small    a hundredth of it, for the test suite
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from penstock_results.keys import code_identity, hash_value


def best(call: Callable[[], object], repeats: int = 5) -> float:
    """Seconds of the fastest of several calls."""
    times = list[float]()
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times)


def bare_hash(buffers: list[Any]) -> Callable[[], object]:
    """The floor: sha256 over memory that is already in one piece."""

    def call() -> bytes:
        hasher = hashlib.sha256()
        for buffer in buffers:
            hasher.update(buffer)
        return hasher.digest()

    return call


def column_memory(frame: pd.DataFrame) -> list[Any]:
    """The bytes of a frame's columns, numbers as they lie and texts as Arrow keeps them."""
    buffers = list[Any]()
    for name in frame:
        column = frame[name]
        if isinstance(column.dtype, np.dtype):
            buffers.append(np.ascontiguousarray(column.to_numpy()).view(np.uint8))
        else:
            chunked = pa.chunked_array(column.array.__arrow_array__())
            buffers += [part for chunk in chunked.chunks for part in chunk.buffers() if part is not None]
    return buffers


def large_inputs(rows: int) -> dict[str, tuple[Any, list[Any]]]:
    """Inputs with the memory that they are made of."""
    chance = np.random.default_rng(1)
    array = chance.random(rows * 12)
    numbers = pd.DataFrame(chance.random((rows, 4)), columns=list("abcd"))
    mixed = pd.DataFrame(
        {
            "id": np.arange(rows),
            "value": chance.random(rows),
            "when": pd.date_range("2024", periods=rows, freq="s"),
            "text": [f"customer-{number}" for number in range(rows)],
        }
    )
    table = pa.Table.from_pandas(mixed)
    return {
        f"array, {array.nbytes / 1e6:.0f} MB": (array, [array.view(np.uint8)]),
        f"array, Fortran order, {array.nbytes / 1e6:.0f} MB": (array.reshape(12, -1).T, [array.view(np.uint8)]),
        f"frame of floats, {rows} x 4": (numbers, column_memory(numbers)),
        f"frame with texts, {rows} x 4": (mixed, column_memory(mixed)),
        f"arrow table with texts, {rows} x 4": (table, column_memory(mixed)),
    }


def small_inputs() -> dict[str, Callable[[], object]]:
    """Calls that hash something small."""
    factor = 3

    def function(value: int, shift: int = 1) -> int:
        return len(str(value)) * factor + shift

    nested = {"rows": [{"id": number, "tags": ["a", "b"]} for number in range(10_000)]}
    thousand = {f"key{number}": number for number in range(1000)}
    return {
        "int": lambda: hash_value(1),
        "three small arguments": lambda: hash_value({"x": 1, "name": "abc", "items": [1, 2, 3]}),
        "dict of 1000": lambda: hash_value(thousand),
        "10,000 nested dicts": lambda: hash_value(nested),
        "code of a function": lambda: code_identity(function),
    }


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Print the table; return the ratios of the large inputs and the seconds of the small ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    rows = 10_000 if parser.parse_args(arguments).small else 1_000_000
    figures = dict[str, float]()
    print(f"{'large inputs':<44}{'hash_value':>12}{'sha256':>12}{'ratio':>8}")
    for name, (value, memory) in large_inputs(rows).items():
        ours, floor = best(lambda value=value: hash_value(value)), best(bare_hash(memory))
        figures[name] = ours / floor
        print(f"{name:<44}{ours * 1e3:>9.1f} ms{floor * 1e3:>9.1f} ms{ours / floor:>8.2f}")
    print(f"{'small inputs':<44}{'per call':>12}")
    for name, call in small_inputs().items():
        figures[name] = best(call, repeats=50)
        print(f"{name:<44}{figures[name] * 1e6:>9.1f} us")
    return figures


if __name__ == "__main__":
    main()
