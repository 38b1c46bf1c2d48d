"""Arrays and frames in the formats of their own libraries, none of which is imported before such a value appears."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from penstock.errors import MissingExtra

if TYPE_CHECKING:
    from penstock_results.serializers import Stream

__all__ = ("ArrowSerializer", "NumpySerializer", "ParquetSerializer", "is_array", "is_frame")

# An array that does not lie in one piece is copied in pieces of this size.
_SLAB = 16 << 20


def is_array(value: Any) -> bool:
    """Whether the value is a plain numpy array of fixed-size items."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(value) is numpy.ndarray and not value.dtype.hasobject


def is_frame(value: Any) -> bool:
    """Whether the value is a pandas DataFrame or an Arrow table."""
    pandas, arrow = sys.modules.get("pandas"), sys.modules.get("pyarrow")
    return (pandas is not None and type(value) is pandas.DataFrame) or (
        arrow is not None and type(value) is arrow.Table
    )


class NumpySerializer:
    """A numpy array: the literal that heads an ``.npy`` file, then the items, from their own memory and back."""

    name = "numpy"
    runs_code = False

    def dump(self, value: Any, stream: Stream) -> None:
        """Write the array.

        Raises:
            TypeError: If it is not a numpy array, or its items are Python objects.
        """
        if not is_array(value):
            raise TypeError(f"the numpy serializer takes arrays of fixed-size items, not {type(value).__qualname__}")
        formats = importlib.import_module("numpy.lib.format")
        whole = value.flags.c_contiguous or value.flags.f_contiguous
        header = formats.header_data_from_array_1_0(value)
        stream.write(repr(header).encode())
        stream.frame()
        if whole:
            stream.write(_octets(value.T if header["fortran_order"] else value))
            return
        rows = max(1, _SLAB // max(1, value.nbytes // max(1, len(value))))
        for start in range(0, len(value), rows):
            stream.write(_octets(value[start : start + rows].copy(order="C")))

    def load(self, frames: Sequence[memoryview]) -> Any:
        """Make an array over the frame's memory."""
        numpy = importlib.import_module("numpy")
        formats = importlib.import_module("numpy.lib.format")
        header = ast.literal_eval(bytes(frames[0]).decode())
        order = "F" if header["fortran_order"] else "C"
        return numpy.ndarray(header["shape"], formats.descr_to_dtype(header["descr"]), buffer=frames[1], order=order)


class ArrowSerializer:
    """A DataFrame or an Arrow table as an Arrow IPC stream, read without a copy."""

    name = "arrow"
    runs_code = False

    def dump(self, value: Any, stream: Stream) -> None:
        """Write the frame."""
        arrow, ipc = _arrow("pyarrow"), _arrow("pyarrow.ipc")
        table = _table(value)
        with ipc.new_stream(arrow.PythonFile(stream, mode="w"), table.schema) as writer:
            writer.write_table(table)
        stream.frame()
        stream.write(_kind(value))

    def load(self, frames: Sequence[memoryview]) -> Any:
        """Read the frame; its columns are views of the frame's memory as far as their types allow."""
        arrow, ipc = _arrow("pyarrow"), _arrow("pyarrow.ipc")
        with ipc.open_stream(arrow.py_buffer(frames[0])) as reader:
            table = reader.read_all()
        return _untable(table, frames[1])


class ParquetSerializer:
    """A DataFrame or an Arrow table as a Parquet file: smaller and slower than Arrow, and read by everything."""

    name = "parquet"
    runs_code = False

    def dump(self, value: Any, stream: Stream) -> None:
        """Write the frame, compressed with zstd."""
        arrow, parquet = _arrow("pyarrow"), _arrow("pyarrow.parquet")
        parquet.write_table(_table(value), arrow.PythonFile(stream, mode="w"), compression="zstd")
        stream.frame()
        stream.write(_kind(value))

    def load(self, frames: Sequence[memoryview]) -> Any:
        """Read the frame."""
        arrow, parquet = _arrow("pyarrow"), _arrow("pyarrow.parquet")
        return _untable(parquet.read_table(arrow.BufferReader(arrow.py_buffer(frames[0]))), frames[1])


def _octets(value: Any) -> memoryview:
    """View an array that lies in one piece as bytes; not every dtype exports itself as a buffer."""
    numpy = importlib.import_module("numpy")
    return memoryview(value.reshape(-1).view(numpy.uint8)) if value.nbytes else memoryview(b"")


def _arrow(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra("the serializer 'arrow' or 'parquet'", "arrow") from error


def _table(value: Any) -> Any:
    """Turn a frame into a table.

    Raises:
        TypeError: If it is none, or holds what Arrow cannot (pyarrow's own errors derive from it).
    """
    if not is_frame(value):
        raise TypeError(f"the serializer takes a pandas DataFrame or an Arrow table, not {type(value).__qualname__}")
    arrow = _arrow("pyarrow")
    return value if type(value) is arrow.Table else arrow.Table.from_pandas(value)


def _kind(value: Any) -> bytes:
    return type(value).__name__.encode()


def _untable(table: Any, kind: memoryview) -> Any:
    return table.to_pandas() if bytes(kind) == b"DataFrame" else table
