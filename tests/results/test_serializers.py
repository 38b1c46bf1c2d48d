"""Every type comes back as it was, or is refused with its place; nothing is imported because data say so."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import subprocess
import sys
import uuid
import zoneinfo
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from penstock.errors import ConfigurationError, ResultError, ResultForbidden, SerializationError
from penstock.results import ResultStore, register_serializer, register_type
from penstock_results.testing import BackDoor


@register_type
class Color(enum.Enum):
    RED = "r"
    BLUE = 2


@register_type
@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    tags: frozenset[str]
    color: Color = Color.BLUE
    norm: float = dataclasses.field(init=False, default=0.0)


Pair = register_type(namedtuple("Pair", "left right"))


class Line(pydantic.BaseModel):
    sku: str
    price: decimal.Decimal


@register_type
class Order(pydantic.BaseModel):
    id: uuid.UUID
    when: datetime.datetime
    lines: list[Line]
    labels: set[str]


@register_type
class Loose(pydantic.BaseModel):
    anything: Any


class Celsius:
    def __init__(self, degrees: float) -> None:
        self.degrees = degrees

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Celsius) and other.degrees == self.degrees


register_type(Celsius, name="celsius", pack=lambda it: it.degrees, unpack=Celsius)


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(tmp_path / "results")


@pytest.fixture
def safe(tmp_path: Path) -> ResultStore:
    return ResultStore(tmp_path / "results", allow_pickle=False)


ROME = zoneinfo.ZoneInfo("Europe/Rome")
VALUES = [
    Color.RED,
    Point(1, frozenset({"a"})),
    Pair(1, (2, Pair(3, 4))),
    Order(
        id=uuid.UUID(int=7),
        when=datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
        lines=[Line(sku="a", price=decimal.Decimal("1.10"))],
        labels={"x", "y"},
    ),
    Celsius(21.5),
    decimal.Decimal("1.100"),
    decimal.Decimal("-Infinity"),
    uuid.UUID(int=2**127),
    datetime.datetime(2024, 10, 27, 2, 30, tzinfo=ROME, fold=1),
    datetime.datetime(2024, 1, 1, 5, tzinfo=datetime.timezone(datetime.timedelta(hours=-3))),
    datetime.datetime(1, 1, 1),
    datetime.date(2024, 2, 29),
    datetime.time(1, 2, 3, 4),
    datetime.timedelta(days=-1, microseconds=1),
    {Color.BLUE: {(1, 2)}, None: [Point(2, frozenset())], "$type": "x"},
    (1, [2, {3}], frozenset({(4,)})),
    complex(1, -2),
    bytearray(b"abc"),
    {"nested": [b"bytes", {"deep": bytearray(b"more")}]},
    2**63,
    -(2**63) - 1,
    10**5000,
    "\ud800 lone",
    {"\ud800": 1},
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_json_keeps_types(safe: ResultStore, value: Any) -> None:
    again = safe.read(safe.write(value))
    assert again == value
    assert type(again) is type(value)


def test_json_keeps_the_zone_not_only_the_offset(safe: ResultStore) -> None:
    again = safe.read(safe.write(datetime.datetime(2024, 7, 1, tzinfo=ROME)))
    assert again.tzinfo.key == "Europe/Rome"
    assert (again + datetime.timedelta(days=180)).utcoffset() == datetime.timedelta(hours=1)


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.datetimes(timezones=st.none() | st.just(datetime.UTC))
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.timedeltas(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=20,
)


@given(value=_json)
@settings(max_examples=200, deadline=None)
def test_json_and_the_default_keep_any_mixture(value: Any) -> None:
    for allow_pickle in (True, False):
        store = ResultStore("memory://mixtures", allow_pickle=allow_pickle)
        again = store.read(store.write(value, "k"))
        assert repr(again) == repr(value)


@given(
    value=hnp.arrays(
        st.one_of(hnp.scalar_dtypes(), hnp.array_dtypes()), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0)
    ),
    turn=st.integers(0, 2),
)
@settings(max_examples=200, deadline=None)
def test_numpy_keeps_any_array(value: np.ndarray[Any, Any], turn: int) -> None:
    if turn == 1:
        value = value.T
    elif turn == 2 and value.ndim:
        value = value[::-2]
    store = ResultStore("memory://arrays", allow_pickle=False)
    again = store.read(store.write(value, "k", serializer="numpy"))
    assert (again.dtype, again.shape) == (value.dtype, value.shape)
    assert again.tobytes() == value.tobytes()
    assert again.flags.writeable


def test_an_array_that_was_read_can_be_changed_without_changing_the_store(store: ResultStore) -> None:
    for array in (np.arange(10.0), np.arange(10.0**6), np.asfortranarray(np.ones((400, 500)))):
        for serializer in ("numpy", "pickle"):
            reference = store.write(array, serializer=serializer)
            again = store.read(reference)
            again += 1
            np.testing.assert_array_equal(again, array + 1)
            np.testing.assert_array_equal(store.read(reference), array)


def _frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "number": np.arange(1000.0),
            "text": [f"text {index}" for index in range(1000)],
            "when": pd.date_range("2024-01-01", periods=1000, tz="Europe/Rome"),
            "kind": pd.Categorical(["a", "b"] * 500),
        },
        index=pd.Index(range(1000, 2000), name="id"),
    )


@pytest.mark.parametrize("serializer", [None, "pickle", "arrow", "parquet"])
@pytest.mark.parametrize("compression", [None, "zstd", "lz4"])
def test_frames(tmp_path: Path, serializer: str | None, compression: str | None) -> None:
    store = ResultStore(tmp_path / "results", compression=compression, serializer=serializer)
    frame = _frame()
    reference = store.write(frame)
    pd.testing.assert_frame_equal(store.read(reference), frame, check_freq=False)
    if serializer in ("arrow", "parquet"):
        table = pa.table({"a": [1, 2, None]})
        assert store.read(store.write(table)).equals(table)


def test_frames_without_pickle_go_as_arrow(safe: ResultStore) -> None:
    reference = safe.write(_frame())
    assert safe.info(reference.key).serializer == "arrow"
    pd.testing.assert_frame_equal(safe.read(reference), _frame(), check_freq=False)


@pytest.mark.parametrize(
    ("value", "serializer"),
    [
        (7, "json"),
        ({"a": [1.5, None, "x"]}, "json"),
        ((1, 2), "pickle"),
        (list(range(100_000)), "pickle"),
        (np.arange(3), "numpy"),
        (np.array([object()]), "pickle"),
        (_frame(), "pickle"),
        (Point(1, frozenset()), "pickle"),
        (float("nan"), "pickle"),
    ],
)
def test_the_type_decides_by_default(store: ResultStore, value: Any, serializer: str) -> None:
    assert store.info(store.write(value).key).serializer == serializer


def test_what_json_does_not_know_is_refused_with_its_place(safe: ResultStore) -> None:
    class Stranger:
        pass

    with pytest.raises(SerializationError, match=r"result\['a'\]\[1\] is a .*Stranger.*register_type"):
        safe.write({"a": [0, Stranger()]})
    assert safe.keys() == []


def test_a_model_that_would_lose_something_is_refused(safe: ResultStore) -> None:
    assert safe.read(safe.write(Loose(anything=[1, "x"]))) == Loose(anything=[1, "x"])
    with pytest.raises(SerializationError, match="does not come back from its own JSON"):
        safe.write(Loose(anything=datetime.date(2024, 1, 1)))


@pytest.mark.parametrize(
    "data",
    [
        {"__class__": "os.system", "args": ["true"]},
        {"py/object": "os.system"},
        {"lc": 1, "type": "constructor", "id": ["os", "system"]},
        {"$type": "os.system", "value": "true"},
        {"__reduce__": ["os.system", ["true"]]},
    ],
)
def test_data_that_look_like_code_stay_data(safe: ResultStore, data: dict[str, Any]) -> None:
    assert safe.read(safe.write(data)) == data


def test_an_unregistered_name_in_the_data_imports_nothing(safe: ResultStore) -> None:
    """Forge a container whose JSON names a module that is importable and not imported."""
    module = "this"
    sys.modules.pop(module, None)
    forged = orjson.dumps({"$type": f"{module}.Zen", "value": []})
    register_serializer(_Raw())
    safe.write(forged, "k", serializer="raw-test")
    door = BackDoor(safe)
    info = safe.info("k")
    assert info.serializer == "raw-test"
    from penstock_results.typed import JsonSerializer

    with pytest.raises(ResultError, match=r"'this\.Zen' is not registered"):
        JsonSerializer().load([memoryview(forged)])
    assert module not in sys.modules
    assert forged in door.read("k")


class _Raw:
    name = "raw-test"
    runs_code = False

    def dump(self, value: Any, stream: Any) -> None:
        stream.write(value)

    def load(self, frames: Any) -> Any:
        return bytes(frames[0])


def test_a_serializer_of_ones_own(store: ResultStore) -> None:
    register_serializer(_Raw())
    reference = store.write(b"payload", serializer="raw-test")
    assert store.read(reference) == b"payload"
    assert store.info(reference.key).serializer == "raw-test"


def test_a_serializers_name_cannot_be_taken_over() -> None:
    class Impostor(_Raw):
        name = "pickle"

    with pytest.raises(ConfigurationError, match="registered already"):
        register_serializer(Impostor())


def test_a_types_name_cannot_be_taken_over() -> None:
    with pytest.raises(ConfigurationError, match="belongs to"):
        register_type(Point, name="celsius")
    with pytest.raises(ConfigurationError, match="no dataclass"):
        register_type(type("Opaque", (), {}))


def test_an_unknown_serializer_says_what_to_do(store: ResultStore) -> None:
    with pytest.raises(ResultError, match="register_serializer"):
        store.write(1, serializer="nobody")


def test_pickle_can_be_forbidden_for_a_whole_process(store: ResultStore, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = store.write(object)
    monkeypatch.setenv("PENSTOCK_ALLOW_PICKLE", "0")
    with pytest.raises(ResultForbidden, match="PENSTOCK_ALLOW_PICKLE"):
        store.read(reference)
    with pytest.raises(ResultForbidden):
        store.write(1, serializer="pickle")
    assert store.read(store.write((1, 2))) == (1, 2)


def test_a_project_forbids_pickle_in_its_file(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.penstock]\nallow_pickle = false\n")
    program = "from penstock.results import ResultStore; ResultStore('store').write(object, serializer='pickle')"
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert "ResultForbidden" in ended.stderr.splitlines()[-1]


def test_whether_pickle_is_allowed_has_to_be_a_yes_or_a_no(store: ResultStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_ALLOW_PICKLE", "of")
    with pytest.raises(ConfigurationError, match=r"PENSTOCK_ALLOW_PICKLE is 'of': give true or false"):
        store.write(object)


def test_functions_and_classes_made_on_the_spot_travel_by_value(store: ResultStore) -> None:
    offset = 3
    assert store.read(store.write(lambda x: x + offset))(4) == 7


def test_a_value_that_this_process_cannot_load_is_not_called_corrupt(store: ResultStore, tmp_path: Path) -> None:
    (tmp_path / "passing.py").write_text("class Thing: pass")
    code = (
        f"import passing; from penstock.results import ResultStore; "
        f"ResultStore({store.url!r}).write(passing.Thing(), 'k')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    with pytest.raises(ResultError, match=r"whole, but this process cannot load .*No module named 'passing'"):
        store.read("k")


def test_reading_the_store_module_imports_no_optional_library() -> None:
    code = (
        "import sys, penstock.results; "
        "names = 'fsspec s3fs numpy pandas pyarrow pydantic cloudpickle zstandard lz4 anyio'.split(); "
        "sys.exit(str([name for name in names if name in sys.modules]) if set(names) & set(sys.modules) else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
