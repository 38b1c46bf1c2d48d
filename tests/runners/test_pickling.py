"""How functions and values become bytes, and what is said when they cannot."""

from __future__ import annotations

import functools
import pickle
import subprocess
import sys
import textwrap
import threading
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock_runners import pickling, probes
from penstock_runners.pickling import Packet, dumps, explain, loads


class Config:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Slotted:
    __slots__ = ("content", "unset")

    def __init__(self, content: Any) -> None:
        self.content = content


class TestExplain:
    @pytest.mark.parametrize(
        ("make", "path"),
        [
            (lambda lock: lock, "cfg"),
            (lambda lock: Config(session=Config(_lock=lock)), "cfg.session._lock"),
            (lambda lock: {"a": [1, {"b": lock}]}, "cfg['a'][1]['b']"),
            (lambda lock: (1, Slotted(lock)), "cfg[1].content"),
            (lambda lock: Config(fine=1, bound=Config(lock=lock).__init__), "cfg.bound.__self__.lock"),
            (lambda lock: functools.partial(probes.add, lock), "cfg.args[0]"),
            (lambda lock: lambda: lock, "cfg (its variable `lock`)"),
            (lambda lock: lambda x=lock: x, "cfg (default 0)"),
        ],
    )
    def test_names_the_way_to_the_culprit(self, make: Any, path: str) -> None:
        text = explain(make(threading.Lock()), "cfg")
        assert text == f"`{path}`: cannot pickle '_thread.lock' object"

    def test_names_what_a_reduction_refuses(self) -> None:
        class Refuses:
            def __reduce__(self) -> Any:
                raise RuntimeError("not me")

        assert explain([Refuses()], "values") == "`values[0]`: not me"

    def test_ends_on_values_that_contain_themselves(self) -> None:
        ring: list[Any] = [1, threading.Lock()]
        ring.insert(0, ring)
        assert explain(ring, "ring") == "`ring[2]`: cannot pickle '_thread.lock' object"

    def test_shortens_long_keys(self) -> None:
        assert explain({"k" * 100: threading.Lock()}, "d").startswith(f"`d['{'k' * 36}...]`: ")


class TestValues:
    def test_small_ones_are_plain_bytes(self) -> None:
        assert isinstance(dumps([1, "two", np.arange(10)]), bytes)

    def test_large_arrays_are_not_copied(self) -> None:
        array = np.zeros(1_000_000)
        packet = dumps({"array": array})
        assert isinstance(packet, Packet)
        assert len(packet.head) < 1000
        assert np.shares_memory(np.frombuffer(packet.buffers[0]), array)
        assert np.array_equal(loads(packet)["array"], array)

    def test_a_packet_can_itself_be_pickled(self) -> None:
        packet = dumps(np.arange(100_000))
        assert isinstance(packet, Packet)
        assert np.array_equal(loads(pickle.loads(pickle.dumps(packet, 5))), np.arange(100_000))

    def test_local_classes_and_closures_travel(self) -> None:
        factor = 3

        class Local:
            value = 7

        function, made = loads(dumps((lambda x: x * factor, Local())))
        assert function(2) == 6
        assert made.value == 7
        assert isinstance(made, Local)


variable: ContextVar[int] = ContextVar("variable")


class TestContextVariables:
    def test_in_a_function_are_the_same_variable_again(self) -> None:
        local: ContextVar[int] = ContextVar("local")
        here, there = loads(dumps(lambda: (variable, local)))()
        assert here is variable
        assert there is local


def run_python(code: str, *arguments: object, cwd: Path) -> str:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60, cwd=cwd).stdout.strip()


LOADING = """
    import pathlib, pickle, sys
    function = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())
    print(function(20), sorted(name for name in sys.modules if name in ("decorated", "by_path", "heavy")))
"""


class TestFunctions:
    def test_behind_a_decorator_travel_by_name(self, tmp_path: Path) -> None:
        (tmp_path / "decorated.py").write_text(
            textwrap.dedent("""
            import functools, threading

            lock = threading.Lock()  # by value, this could not travel

            class Task:
                def __init__(self, fn):
                    self.fn = fn

            @Task
            def by_attribute(x):
                with lock:
                    return x + 1

            def decorate(function):
                @functools.wraps(function)
                def wrapper(x):
                    return function(x)
                return wrapper

            @Task
            @decorate
            @decorate
            def nested(x):
                with lock:
                    return x + 1
            """)
        )
        sending = """
            import decorated, pathlib, sys
            from penstock_runners.pickling import dumps
            function = decorated.by_attribute.fn
            pathlib.Path(sys.argv[1]).write_bytes(dumps(function))
            innermost = decorated.nested.fn.__wrapped__.__wrapped__
            pathlib.Path(sys.argv[2]).write_bytes(dumps(innermost))
        """
        run_python(sending, tmp_path / "one", tmp_path / "two", cwd=tmp_path)
        assert run_python(LOADING, tmp_path / "one", cwd=tmp_path) == "21 ['decorated']"
        assert run_python(LOADING, tmp_path / "two", cwd=tmp_path) == "21 ['decorated']"

    def test_of_a_module_loaded_by_path_travel_by_value(self, tmp_path: Path) -> None:
        module = tmp_path / "elsewhere" / "by_path.py"
        module.parent.mkdir()
        module.write_text("FACTOR = 2\nclass Point:\n    x = 1\ndef function(x):\n    return x * FACTOR + Point.x\n")
        sending = """
            import importlib.util, pathlib, sys
            from penstock_runners import pickling
            spec = importlib.util.spec_from_file_location("by_path", sys.argv[1])
            module = sys.modules["by_path"] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            pathlib.Path(sys.argv[2]).write_bytes(pickling.dumps_code(module.function))
            assert pickling.dumps(module.function) == pickling.dumps_code(module.function)
        """
        run_python(sending, module, tmp_path / "pickle", cwd=tmp_path)
        assert run_python(LOADING, tmp_path / "pickle", cwd=tmp_path) == "41 []"

    def test_of_the_main_module_cost_what_they_share_no_second_pickling(self, tmp_path: Path) -> None:
        sending = """
            import pathlib, sys
            from penstock.ports import Work
            from penstock_runners import probes, wire
            def function(counted):
                return counted
            wire.pack_work(Work(function, "function", {"counted": probes.Counted(pathlib.Path(sys.argv[1]), b"")}))
        """
        run_python(sending, tmp_path / "pickles", cwd=tmp_path)
        assert probes.entries(tmp_path / "pickles") == ["pickled"]

    def test_importable_ones_are_a_name(self) -> None:
        assert len(dumps(probes.add)) < 100
        assert loads(dumps(probes.add)) is probes.add

    def test_travels_says_whether_a_value_can(self) -> None:
        assert pickling.travels({"a": 1})
        assert not pickling.travels({"a": threading.Lock()})
