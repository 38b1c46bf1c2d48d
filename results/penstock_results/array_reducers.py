"""What stands for arrays, frames and Arrow data: their types, shapes and memory, hashed where it lies.

Memory is hashed in row order, so the layout of an array (C, Fortran, strided) does not count, and what is not
contiguous is copied a piece at a time. Bytes are hashed as they are: arrays that hold NaNs of different bits, or the
same numbers in another byte order, are different inputs. How an Arrow table is cut into chunks does not count.

Nothing here imports a library before one of its values is at hand.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator
from typing import Any

from penstock_results.canonical import Buffer, Digest, Encoder, Raw, Strings, class_name
from penstock_results.reducers import Reducer

__all__ = ("ENCODERS_BY_NAME", "REDUCERS_BY_NAME")

_PIECE = 1 << 24
"""Bytes copied at a time from an array that is not contiguous."""

_ROWS = 1 << 16
"""Rows of an Arrow table written at a time. Whatever its chunks were, the pieces are these; they are copied, because
a slice drags along memory before and after it, and what lies under a null is anything."""


def _ndarray(value: Any) -> object:
    import numpy as np

    dtype = value.dtype
    array = np.asarray(value)
    if dtype.hasobject:
        return _dtype(dtype), value.shape, _objects(array.ravel().tolist())
    return _dtype(dtype), value.shape, Raw(array.nbytes, _pieces(array))


def _pieces(array: Any) -> Iterator[Buffer]:
    import numpy as np

    if array.nbytes == 0:
        return
    if array.flags.c_contiguous:
        yield array.reshape(-1).view(np.uint8).data
        return
    rows = max(1, _PIECE // (array.nbytes // len(array)))
    for start in range(0, len(array), rows):
        yield np.ascontiguousarray(array[start : start + rows]).reshape(-1).view(np.uint8).data


def _objects(items: list[Any]) -> object:
    return Strings(items) if set(map(type, items)) == {str} else items


def _dtype(dtype: Any) -> object:
    return dtype.str if dtype.names is None else (dtype.descr, dtype.itemsize)


def _masked_array(value: Any) -> object:
    import numpy as np

    return np.ma.getdata(value), np.ma.getmaskarray(value), value.fill_value, value.hardmask


def _frame(value: Any) -> object:
    columns = [_values(value.iloc[:, index]) for index in range(value.shape[1])]
    return value.index, value.columns, columns, dict(value.attrs)


def _series(value: Any) -> object:
    return value.index, value.name, _values(value), dict(value.attrs)


def _values(column: Any) -> object:
    """A column's or index's values: numpy memory where that is what it is made of, else the extension array."""
    import numpy as np

    return column.to_numpy() if isinstance(column.dtype, np.dtype) else column.array


def _index(value: Any) -> object:
    return value.name, _values(value), getattr(value, "freqstr", None)


def _multi_index(value: Any) -> object:
    return list(value.names), [_values(value.get_level_values(level)) for level in range(value.nlevels)]


def _categorical(value: Any) -> object:
    return value.codes, value.categories, value.ordered


def _time_array(value: Any) -> object:
    return str(value.dtype), value.asi8, getattr(value, "freqstr", None)


def _masked_values(value: Any) -> object:
    dtype = value.dtype.numpy_dtype
    return str(value.dtype), value.isna(), value.to_numpy(dtype=dtype, na_value=dtype.type(0))


def _extension_array(value: Any) -> object:
    """Arrow's memory where an array offers it, and otherwise the elements."""
    import numpy as np

    name = str(value.dtype)
    if hasattr(value, "__arrow_array__"):
        return name, value.__arrow_array__()
    return name, _objects(np.asarray(value, dtype=object).tolist())


class _Sink:
    """What Arrow's writer takes for a file."""

    closed = False

    def __init__(self, digest: Digest) -> None:
        self._digest = digest

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._digest.write(view)
        return len(view)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


def _encode_arrow(digest: Digest, value: Any) -> None:
    pa: Any = importlib.import_module("pyarrow")

    table = _as_table(value)
    digest.text(b"o", class_name(type(value)))
    digest.write(b"A%d:" % len(table))
    with pa.ipc.new_stream(_Sink(digest), table.schema) as stream:
        for start in range(0, len(table), _ROWS):
            rows = table.slice(start, _ROWS)
            stream.write_table(rows.take(_row_numbers()[: len(rows)]).combine_chunks())


@functools.cache
def _row_numbers() -> Any:
    pa: Any = importlib.import_module("pyarrow")

    return pa.array(range(_ROWS), pa.int32())


def _as_table(value: Any) -> Any:
    pa: Any = importlib.import_module("pyarrow")

    if isinstance(value, pa.Table):
        return value
    if isinstance(value, pa.RecordBatch):
        return pa.Table.from_batches([value])
    if isinstance(value, pa.Scalar):
        return pa.table({"": pa.array([value.as_py()], type=value.type)})
    return pa.table({"": value})


def _encode_memmap(digest: Digest, value: Any) -> None:
    """A mapped file is the array that it holds: what a result store hands out equals what it was given."""
    import numpy as np

    digest.feed(np.asarray(value))


def _numpy_scalar(value: Any) -> object:
    return _dtype(value.dtype), value.tobytes()


REDUCERS_BY_NAME: dict[tuple[str, str], Reducer] = {
    ("numpy", "ndarray"): _ndarray,
    ("numpy", "MaskedArray"): _masked_array,
    ("numpy", "generic"): _numpy_scalar,
    ("numpy", "dtype"): _dtype,
    ("numpy", "ufunc"): lambda value: value.__name__,
    ("pandas", "DataFrame"): _frame,
    ("pandas", "Series"): _series,
    ("pandas", "Index"): _index,
    ("pandas", "MultiIndex"): _multi_index,
    ("pandas", "RangeIndex"): lambda value: (value.name, value.start, value.stop, value.step),
    ("pandas", "Categorical"): _categorical,
    ("pandas", "DatetimeLikeArrayMixin"): _time_array,
    ("pandas", "BaseMaskedArray"): _masked_values,
    ("pandas", "IntervalArray"): lambda value: (value.left, value.right, value.closed),
    ("pandas", "ExtensionArray"): _extension_array,
    ("pandas", "ExtensionDtype"): str,
    ("pandas", "Timestamp"): lambda value: (value.isoformat(), value.unit, value.fold, str(value.tz)),
    ("pandas", "Timedelta"): lambda value: (value.isoformat(), value.unit),
    ("pandas", "Period"): lambda value: (value.ordinal, value.freqstr),
    ("pandas", "Interval"): lambda value: (value.left, value.right, value.closed),
    ("pandas", "NaTType"): str,
    ("pandas", "NAType"): str,
    ("pyarrow", "DataType"): str,
    ("pyarrow", "Schema"): lambda value: value.serialize().to_pybytes(),
}
"""Reducers by the library's top module and the class's name."""

ENCODERS_BY_NAME: dict[tuple[str, str], Encoder] = {
    ("numpy", "memmap"): _encode_memmap,
    ("pyarrow", "Table"): _encode_arrow,
    ("pyarrow", "RecordBatch"): _encode_arrow,
    ("pyarrow", "Array"): _encode_arrow,
    ("pyarrow", "ChunkedArray"): _encode_arrow,
    ("pyarrow", "Scalar"): _encode_arrow,
}
"""Encoders likewise, for what writes itself into the stream."""
