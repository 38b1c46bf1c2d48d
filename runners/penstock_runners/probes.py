"""What the conformance suite hands to runners, and how it looks at what came of it.

The functions leave their traces in files, so that the suite need not trust the runner under test: each entry into a
function is one line appended to a file, whatever process it happens in.
"""

from __future__ import annotations

import logging
import os
import threading  # noqa: TID251 (reports come from any thread)
import time  # noqa: TID251 (real runners take real time)
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import Any

from penstock.ports import Call, Outcome, Work
from penstock.testing import wait_until

__all__ = ("FakeRun", "Reports", "entries", "make_calls")


_SHARED: dict[str, Any] = {"tags": [], "flow_run": None}


class FakeRun:
    """A run that nobody tracks, and that is a scope of its own which nobody cancels."""

    cancel_reason = None
    used = 0.0

    def __init__(self, name: str) -> None:
        self.id = uuid.uuid4()
        self.name = name
        self.tags: frozenset[str] = frozenset()
        self.scope = self

    def describe(self) -> dict[str, Any]:
        """The facts that a worker needs to stand in for a run."""
        return {**self.shared_facts(), **self.own_facts(), "id": str(self.id)}

    def shared_facts(self) -> dict[str, Any]:
        """Those that it shares with others."""
        return _SHARED

    def own_facts(self) -> dict[str, Any]:
        """The others."""
        return {"key": self.id.int, "name": self.name, "attempt": 1}


def make_calls(function: Callable[..., Any], arguments: Iterable[tuple[Any, ...]], **options: Any) -> list[Call]:
    """Make calls of one work, for `TaskRunner.submit`.

    Args:
        function: What to call.
        arguments: The positional arguments of each call.
        options: Fields of `Work`: ``constants``, ``timeout``, ``log_prints``, ...
    """
    name = getattr(function, "__name__", type(function).__name__)
    work = Work(function, name, **options)
    return [Call(work, args, {}, FakeRun(f"{name}-{i}"), 1, copy_context()) for i, args in enumerate(arguments)]


class Reports:
    """Collects outcomes: the ``report`` of a submission."""

    def __init__(self, patience: float = 60.0) -> None:
        self.all: list[tuple[Call, Outcome]] = []
        self._patience = patience
        self._changed = threading.Condition()

    def __call__(self, call: Call, outcome: Outcome) -> None:
        """Take an outcome, from any thread."""
        with self._changed:
            self.all.append((call, outcome))
            self._changed.notify_all()

    def of(self, calls: Sequence[Call]) -> list[Outcome]:
        """Wait until each of these calls is reported, and give their outcomes in order."""
        with self._changed:
            self._changed.wait_for(lambda: not self._missing(calls), self._patience)
            missing = self._missing(calls)
            assert not missing, f"{len(missing)} of {len(calls)} calls were never reported"
            found = dict(self.all)
        return [found[call] for call in calls]

    def count(self, call: Call) -> int:
        """How often a call was reported."""
        with self._changed:
            return sum(reported is call for reported, _ in self.all)

    def _missing(self, calls: Sequence[Call]) -> set[Call]:
        return set(calls) - {call for call, _ in self.all}


def entries(file: Path) -> list[str]:
    """The lines that `note` has left, in order."""
    return file.read_text(encoding="utf-8").split() if file.exists() else []


# --- what runs on workers -----------------------------------------------------------------------------------------

variable: ContextVar[str] = ContextVar("variable", default="unset")


def note(file: Path, text: object) -> None:
    """Append one line in one write."""
    descriptor = os.open(file, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    try:
        os.write(descriptor, f"{text}\n".encode())
    finally:
        os.close(descriptor)


def add(left: Any, right: Any = 0) -> Any:
    return left + right


def note_and_return(file: Path, value: Any) -> Any:
    note(file, value)
    return value


def nap(seconds: float) -> None:
    time.sleep(seconds)


def count_to(limit: int) -> Any:
    yield from range(limit)


async def add_later(left: int, right: int) -> int:
    import asyncio  # noqa: TID251 (it runs on the worker's loop)

    await asyncio.sleep(0)
    return left + right


async def loop_id(_: int) -> int:
    import asyncio  # noqa: TID251 (likewise)

    return id(asyncio.get_running_loop())


def hold(started: Path, release: Path, text: object = "held") -> object:
    """Note the entry, and go on when the file ``release`` appears."""
    note(started, text)
    wait_until(release.exists, f"{release} to appear")
    return text


def raise_value_error(text: str) -> None:
    raise ValueError(text)


def raise_from_cause() -> None:
    try:
        raise KeyError("the cause")
    except KeyError as error:
        raise RuntimeError("the consequence") from error


class TwoArguments(Exception):
    """Pickles well and cannot be unpickled: its args are not what its ``__init__`` takes."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")
        self.first = first


def raise_two_arguments() -> None:
    raise TwoArguments("one", "two")


class Locked(Exception):
    """Cannot be pickled."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


def raise_locked() -> None:
    raise Locked("it holds a lock")


class Unrevivable(Exception):
    """Cannot be unpickled by any means."""

    def __new__(cls, *args: str) -> Unrevivable:
        if not args:
            raise TypeError("not like this")
        return super().__new__(cls, *args)

    def __init__(self, *args: str) -> None:
        (self.text,) = args
        self.args = ()

    def __str__(self) -> str:
        return self.text


def raise_unrevivable() -> None:
    raise Unrevivable("the one and only")


def exit_politely() -> None:
    raise SystemExit(3)


class Holder:
    """A harmless object with a harmless object inside, which has a lock inside."""

    def __init__(self, depth: int) -> None:
        self.inner: Any = threading.Lock() if depth == 0 else Holder(depth - 1)


def make_holder() -> Holder:
    return Holder(1)


def set_variable(value: str) -> str:
    before = variable.get()
    variable.set(value)
    return before


def log_and_print(text: str) -> None:
    logging.getLogger("penstock.task_runs").warning("logged %s", text, extra={"run_name": "probe"})
    print("printed", text)


def kill_worker(file: Path, number: int, culprit: int) -> int:
    note(file, number)
    if number == culprit:
        os.kill(os.getpid(), 9)
    return number


def exit_worker(code: int) -> None:
    os._exit(code)


class Counted:
    """Writes down each time that it is pickled and unpickled."""

    def __init__(self, file: Path, content: bytes) -> None:
        self.file = file
        self.content = content

    def __getstate__(self) -> dict[str, Any]:
        note(self.file, "pickled")
        return self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        note(self.file, "unpickled")


def length(counted: Counted, number: int) -> int:
    return len(counted.content) + number
