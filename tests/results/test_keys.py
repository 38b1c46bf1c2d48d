from __future__ import annotations

import copy
import functools
import json
import os
import random
import re
import subprocess
import sys
import threading
import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import key_samples
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from penstock.errors import UnhashableInput
from penstock_results.keys import code_identity, hash_value, make_key, register_hasher

# Equal wherever it is computed


def keys_of_processes(seeds: list[int], *arguments: str) -> list[dict[str, str]]:
    command = [sys.executable, "-m", "key_samples", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [
        subprocess.Popen(command, env={**environment, "PYTHONHASHSEED": str(seed)}, stdout=subprocess.PIPE)
        for seed in seeds
    ]
    return [json.loads(process.communicate()[0]) for process in processes]


def test_keys_are_equal_in_twenty_processes_with_different_hash_seeds() -> None:
    answers = [answer for seed in range(0, 20, 2) for answer in keys_of_processes([seed, seed + 1])]
    assert len(answers) == 20
    assert len(set(answers[0].values())) == len(answers[0])
    assert all(answer == answers[0] for answer in answers)


def test_keys_of_arrays_are_equal_in_processes_with_different_hash_seeds() -> None:
    first, second = keys_of_processes([1, 2], "arrays")
    assert first == second
    assert first.keys() >= key_samples.arrays().keys()
    assert len(set(first.values())) == len(first)


SAMPLES = key_samples.values() | key_samples.arrays()


@pytest.mark.parametrize("name", SAMPLES)
def test_a_copy_of_a_value_has_its_key(name: str) -> None:
    assert hash_value(SAMPLES[name]) == hash_value(copy.deepcopy(SAMPLES[name]))


def test_the_order_of_dicts_and_sets_does_not_count() -> None:
    assert hash_value({"a": 1, "b": 2}) == hash_value({"b": 2, "a": 1})
    assert hash_value({1: 1, "b": 2}) == hash_value({"b": 2, 1: 1})
    assert hash_value(set("abcdef")) == hash_value(set("fedcba"))


def test_shared_and_separate_members_are_the_same() -> None:
    shared = ["x"]
    assert hash_value([shared, shared]) == hash_value([["x"], ["x"]])


def test_layout_of_arrays_and_chunks_of_tables_do_not_count() -> None:
    array = np.arange(60.0).reshape(5, 12)
    assert hash_value(array) == hash_value(np.asfortranarray(array))
    assert hash_value(array[:, ::2]) == hash_value(array[:, ::2].copy())
    table = pa.table({"a": list(range(100)), "b": [str(number) for number in range(100)]})
    assert hash_value(table) == hash_value(pa.concat_tables([table[:30], table[30:]]))
    assert hash_value(table[10:20]) == hash_value(pa.table(table[10:20].to_pydict()))


def test_a_mapped_array_is_the_array(tmp_path: Any) -> None:
    np.save(tmp_path / "a.npy", np.arange(5))
    assert hash_value(np.load(tmp_path / "a.npy", mmap_mode="r")) == hash_value(np.arange(5))


def test_consolidation_of_a_frame_does_not_count() -> None:
    apart = pd.DataFrame({"a": [1, 2]})
    apart["b"] = [3, 4]
    assert hash_value(apart) == hash_value(pd.DataFrame(np.array([[1, 3], [2, 4]]), columns=["a", "b"]))


# Different for everything else

ALIKE: list[Any] = [
    [
        1,
        True,
        1.0,
        "1",
        b"1",
        1 + 0j,
        np.int64(1),
        np.float64(1),
        np.bool_(True),
        key_samples.Colour.RED,
        (1,),
        [1],
        {1},
    ],
    [0, False, 0.0, -0.0, "", b"", None, (), [], {}, set(), frozenset(), bytearray(), np.array(0), np.array([])],
    [(1, 2), [1, 2], [[1], 2], [1, [2]], [[1, 2]], ([1], 2), {1: 2}, {1, 2}, range(1, 3), key_samples.Pair(1, 2)],
    [{"a": 1}, {"a": "1"}, {1: "a"}, {"1": "a"}, [("a", 1)], key_samples.Frozen(a=1), types.SimpleNamespace(a=1)],
    ["ab", ["ab"], ["a", "b"], ["", "ab"], [["a"], "b"], "a,b", ["a,b"], b"ab", bytearray(b"ab")],
    [
        np.zeros(4),
        np.zeros((2, 2)),
        np.zeros((4, 1)),
        np.zeros(4, "f4"),
        np.zeros(4, "i8"),
        np.zeros(4, ">f8"),
        [0.0] * 4,
    ],
    [np.zeros(2, "M8[s]"), np.zeros(2, "M8[ns]"), np.zeros(2, "m8[ns]"), np.zeros(2, "i8"), np.zeros(2, "u8")],
    [
        np.array(["a", "bc"], object),
        np.array(["ab", "c"], object),
        np.array(["a", "bc"]),
        ["a", "bc"],
        pd.Series(["a", "bc"]),
    ],
    [
        pd.Series([1, 2]),
        pd.Series([1, 2], name="x"),
        pd.Series([1, 2], index=[1, 0]),
        pd.Series([1.0, 2]),
        pd.Index([1, 2]),
    ],
    [pd.Series([1, None], dtype="Int64"), pd.Series([1, 0], dtype="Int64"), pd.Series([1, None])],
    [
        pd.DataFrame({"a": [1]}),
        pd.DataFrame({"b": [1]}),
        pd.DataFrame({"a": [1.0]}),
        pd.DataFrame({"a": ["1"]}),
        {"a": [1]},
    ],
    [pd.Timestamp(1), pd.Timestamp(2), pd.Timestamp(1, tz="UTC"), pd.Timedelta(1), pd.Timedelta(2), pd.NaT, pd.NA],
    [
        pa.table({"a": [1]}),
        pa.table({"b": [1]}),
        pa.table({"a": ["1"]}),
        pa.table({"a": [None]}),
        pa.array([1]),
        pa.scalar(1),
    ],
    [
        pa.array(["a", "b", "a"]),
        pa.array(["a", "b", "a"]).dictionary_encode(),
        pa.array(["b", "a", "b"]).dictionary_encode(),
    ],
    [len, "len", max, [].append, [1].append, len.__class__, int, float, key_samples.Point, key_samples.Point(1)],
]


@pytest.mark.parametrize("values", ALIKE, ids=lambda values: repr(values[0])[:30])
def test_values_that_look_alike_have_different_keys(values: list[Any]) -> None:
    keys = [hash_value(value) for value in values]
    assert len(set(keys)) == len(values)


def test_all_nans_are_one_input() -> None:
    assert hash_value(float("nan")) == hash_value(-float("nan"))
    assert hash_value([float("nan"), 1]) != hash_value([1.0, 1])


def random_value(chance: random.Random, depth: int) -> Any:
    kind = chance.randrange(8 if depth else 6)
    if kind == 0:
        return chance.choice([None, True, False, chance.randrange(-(10**30), 10**30)])
    if kind == 1:
        return chance.randrange(-300, 300)
    if kind == 2:
        return chance.choice([float(chance.randrange(-50, 50)), chance.random()])
    if kind == 3:
        return "".join(chance.choices("ab1,", k=chance.randrange(9)))
    if kind == 4:
        return bytes(chance.choices(b"ab1,", k=chance.randrange(9)))
    if kind == 5:
        return np.array(chance.choices(range(99), k=chance.randrange(5)), dtype=chance.choice(["i4", "f8", "u1"]))
    members = [random_value(chance, depth - 1) for _ in range(chance.randrange(4))]
    if kind == 6:
        return chance.choice([list, tuple])(members)
    return {chance.choice(["a", "b", 1, 2.5]): member for member in members}


def spelled(value: Any) -> str:
    """A value's text, in which the types can be told apart and the order of dicts does not show."""
    if isinstance(value, np.ndarray):
        return f"array({value.dtype}, {value.tolist()})"
    if isinstance(value, dict):
        return f"{{{', '.join(sorted(f'{spelled(key)}: {spelled(item)}' for key, item in value.items()))}}}"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}({', '.join(map(spelled, value))})"
    return repr(value)


def test_no_collision_among_a_hundred_thousand_inputs() -> None:
    chance, seen, texts = random.Random(7), dict[str, str](), set[str]()
    while len(texts) < 100_000:
        value = random_value(chance, 4)
        text = spelled(value)
        texts.add(text)
        assert seen.setdefault(hash_value(value), text) == text
    assert len(seen) == len(texts)


# Refused


class Opaque:
    pass


def test_what_has_no_canonical_form_is_refused_with_the_way_to_it() -> None:
    value = {"rows": [1, key_samples.Point(1, inner=(2, Opaque()))]}
    with pytest.raises(UnhashableInput, match=re.escape("of argument x['rows'][1].inner[1]: a ")):
        hash_value(value, name="argument x")


@pytest.mark.parametrize("value", [object(), threading.Lock(), iter([1]), (number for number in [1]), sys.stdout])
def test_live_objects_are_refused(value: Any) -> None:
    with pytest.raises(UnhashableInput, match="no cache key can be made of value: a "):
        hash_value(value)


def test_a_value_inside_itself_is_refused() -> None:
    value: list[Any] = [1]
    value.append({"again": value})
    with pytest.raises(UnhashableInput, match=re.escape("value[1]['again']: this list contains itself")):
        hash_value(value)


def test_a_bottomless_value_is_refused_and_a_deep_one_is_not() -> None:
    deep: list[Any] = functools.reduce(lambda inner, _: [inner], range(140), [])
    assert hash_value(deep) != hash_value([deep])
    with pytest.raises(UnhashableInput, match="nested more than 150 levels deep"):
        hash_value(functools.reduce(lambda inner, _: [inner], range(100_000), []))


def test_a_stack_that_is_nearly_full_is_a_clear_error() -> None:
    deep: list[Any] = functools.reduce(lambda inner, _: [inner], range(140), [])

    def at_depth(frames: int) -> str:
        return at_depth(frames - 1) if frames else hash_value(deep)

    with pytest.raises(UnhashableInput, match="the stack is too deep"):
        at_depth(sys.getrecursionlimit() - len(list(iter_frames())) - 100)


def iter_frames() -> Any:
    frame = sys._getframe()
    while frame is not None:
        yield frame
        frame = frame.f_back


# Types of the user's


def test_a_registered_type_and_its_subclasses_are_hashed_by_their_state() -> None:
    class Client:
        def __init__(self, url: str) -> None:
            self.url = url

    class Special(Client):
        pass

    with pytest.raises(UnhashableInput):
        hash_value(Client("a"))
    register_hasher(Client, lambda client: client.url)
    assert hash_value(Client("a")) == hash_value(Client("a"))
    assert len({hash_value(Client("a")), hash_value(Client("b")), hash_value(Special("a")), hash_value("a")}) == 4


def test_a_dataclass_counts_by_class_fields_and_state_but_not_by_what_it_caches() -> None:
    @dataclass
    class Query:
        text: str

        @cached_property
        def words(self) -> list[str]:
            return self.text.split()

    query = Query("a b")
    before = hash_value(query)
    assert query.words == ["a", "b"]
    assert hash_value(query) == before
    query.limit = 3  # type: ignore[attr-defined]
    assert hash_value(query) != before


# Code


def compiled(source: str, name: str = "f", filename: str = "first.py", **names: Any) -> Callable[..., Any]:
    namespace: dict[str, Any] = {"__name__": "users_module", **names}
    exec(compile(source, filename, "exec"), namespace)
    return namespace[name]  # type: ignore[no-any-return]


def test_places_and_warmth_do_not_count() -> None:
    source = "def f(x):\n    return [y * 2 for y in x] if x else (lambda: 1)()"
    first = compiled(source)
    cold = code_identity(first)
    for _ in range(1000):
        first([1, 2])
    assert code_identity(first) == cold
    assert code_identity(compiled("\n\n# moved\n" + source, filename="second.py")) == cold


PROGRAM = """
LIMIT = {global_value}
STEP = {second_global}
def make(cell):
    def f(a, b={default}, *, c={keyword}):
        total = {constant}
        try:
            for item in range(a):
                total {operator}= helper(item) {operator} b
        except {error}:
            total = {fallback}
        return [total {operator} cell for _ in (lambda z: {nested})(3)] + [c, LIMIT, STEP]
    return f
def helper(value):
    return deeper(value) {helper_operator} {helper_constant}
def deeper(value):
    return value + {deeper_constant}
f = make({cell})
"""

BASE = {
    "global_value": "10",
    "second_global": "'step'",
    "default": "2",
    "keyword": "None",
    "constant": "0",
    "operator": "+",
    "error": "ValueError",
    "fallback": "-1",
    "nested": "[z]",
    "helper_operator": "*",
    "helper_constant": "3",
    "deeper_constant": "4",
    "cell": "5",
}

REPLACEMENTS: dict[str, list[str]] = {
    "operator": ["-", "*", "//", "%", "**", "&", "|", "^", "<<", ">>"],
    "helper_operator": ["-", "+", "//", "%", "**", "&", "|", "^", "<<", ">>"],
    "error": ["TypeError", "KeyError", "(ValueError, TypeError)", "Exception", "OSError"],
    "nested": ["[z, z]", "(z,)", "{z}", "[-z]", "[z][:]", "range(z)", "[z + 1]", "[LIMIT]"],
}

LITERALS = [
    "1.0",
    "True",
    "'1'",
    "b'1'",
    "(1,)",
    "[1]",
    "{1}",
    "{'a': 1}",
    "1j",
    "frozenset({1})",
    "...",
    "-0.0",
    "0.0",
]
LITERALS += [str(number) for number in range(100, 118)]


def mutations() -> list[dict[str, str]]:
    """The base program with one thing changed."""
    return [{**BASE, name: value} for name in BASE for value in REPLACEMENTS.get(name, LITERALS) if value != BASE[name]]


def test_every_mutation_of_code_or_of_what_it_refers_to_changes_the_key() -> None:
    programs = [BASE, *mutations()]
    assert len(programs) > 300
    keys = [code_identity(compiled(PROGRAM.format(**parts))) for parts in programs]
    assert len(set(keys)) == len(programs)
    assert keys == [code_identity(compiled(PROGRAM.format(**parts))) for parts in programs]


def test_every_mutation_of_an_input_changes_the_key() -> None:
    def changed(value: Any, path: tuple[Any, ...], to: Any) -> Any:
        value = copy.deepcopy(value)
        target = functools.reduce(lambda inner, step: inner[step], path[:-1], value)
        target[path[-1]] = to
        return value

    base = {"a": [1, {"b": np.arange(20), "c": ["x", "y", None]}], "d": {"e": list(range(200))}}
    paths = [("a", 0), ("a", 1, "c", 0), ("a", 1, "c", 2), *(("a", 1, "b", row) for row in range(20))]
    paths += [("d", "e", row) for row in range(200)]
    variants = [changed(base, path, to) for path in paths for to in (-1, -2)]
    assert len(variants) > 300
    assert len({hash_value(value) for value in [base, *variants]}) == len(variants) + 1


def test_which_of_two_functions_is_called_counts() -> None:
    def multiplier(factor: int) -> Callable[[int], int]:
        return lambda value: value * factor

    source = "def f(x):\n    return first(x) + 10 * second(x)"
    two, three = multiplier(2), multiplier(3)
    assert code_identity(compiled(source, first=two, second=three)) != code_identity(
        compiled(source, first=three, second=two)
    )


def test_functions_and_values_behind_the_users_modules_count(monkeypatch: pytest.MonkeyPatch) -> None:
    helpers = types.ModuleType("helpers_of_the_user")
    monkeypatch.setitem(sys.modules, helpers.__name__, helpers)
    source = "def f(x):\n    return helpers.compute(x) + helpers.inner.LIMIT"
    helpers.inner = types.ModuleType("helpers_of_the_user.inner")  # type: ignore[attr-defined]

    def identity(body: str, limit: int, unused: int) -> str:
        helpers.compute = compiled(f"def compute(x): return {body}", "compute")  # type: ignore[attr-defined]
        helpers.inner.LIMIT, helpers.unused = limit, unused  # type: ignore[attr-defined]
        return code_identity(compiled(source, helpers=helpers))

    base = identity("x + 1", 1, 1)
    assert identity("x + 1", 1, 2) == base
    assert len({base, identity("x + 2", 1, 1), identity("x + 1", 2, 1)}) == 3


def test_methods_of_the_users_classes_count_and_those_of_libraries_do_not() -> None:
    source = "def f(x):\n    return Thing().run(x) + json.dumps(x) + str(Frame(x))"

    def identity(body: str) -> str:
        thing = f"class Thing:\n    def run(self, x):\n        return {body}"
        return code_identity(compiled(source, Thing=compiled(thing, "Thing"), json=json, Frame=pd.DataFrame))

    assert identity("x") == identity("x")
    assert identity("x") != identity("x + 1")


def test_what_a_function_changes_itself_is_not_its_code() -> None:
    source = """
calls, counts, n = [], {"calls": 0}, 0
def f(x):
    global n
    n += 1
    calls.append(x)
    counts["calls"] += 1
    return limits["upper"] + x
"""
    function = compiled(source, limits={"upper": 1})
    before = code_identity(function)
    assert function(1) == 2
    assert code_identity(function) == before
    function.__globals__["limits"]["upper"] = 2
    assert code_identity(function) != before


def test_live_objects_that_code_refers_to_count_by_type() -> None:
    source = "def f(x):\n    return client.get(x)"
    assert code_identity(compiled(source, client=Opaque())) == code_identity(compiled(source, client=Opaque()))
    assert code_identity(compiled(source, client=Opaque())) != code_identity(compiled(source, client=threading.Lock()))


def test_tables_of_functions_that_refer_to_the_table_come_to_an_end() -> None:
    lines = [f"def f{number}(x):\n    return TABLE[str(x)](x + {number})" for number in range(60)]
    table = "TABLE = {" + ", ".join(f"'{number}': f{number}" for number in range(60)) + "}"
    source = "\n".join([*lines, table])
    changed = source.replace("x + 59)", "x + 60)")
    assert code_identity(compiled(source, "f0")) == code_identity(compiled(source, "f0"))
    assert code_identity(compiled(source, "f0")) != code_identity(compiled(changed, "f0"))


def test_a_long_chain_of_calls_is_followed_to_its_end() -> None:
    lines = [f"def f{number}(x):\n    return f{number + 1}(x)" for number in range(2000)]
    source = "\n".join([*lines, "def f2000(x):\n    return {last}"])
    assert code_identity(compiled(source.format(last="1"), "f0")) != code_identity(
        compiled(source.format(last="2"), "f0")
    )


def test_bound_methods_count_by_the_object_they_are_bound_to() -> None:
    point, other = key_samples.Point(1), key_samples.Point(2)
    assert hash_value(point.__eq__) == hash_value(key_samples.Point(1).__eq__)
    assert hash_value(point.__eq__) != hash_value(other.__eq__)
    with pytest.raises(UnhashableInput, match="Worker"):
        hash_value(key_samples.Worker(1).run)


# Keys


def test_a_key_names_its_scheme_and_fits_every_store() -> None:
    key = make_key({"inputs.x": hash_value(1)})
    assert re.fullmatch(r"v1-[0-9a-f]{64}", key)
    assert make_key({"inputs.x": hash_value(2)}) != key
