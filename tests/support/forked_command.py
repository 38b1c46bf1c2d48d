"""The command ``penstock``, forked from a process that has imported what it needs.

Most of the time of a short command goes into starting Python and importing, and the tests of the command line execute
hundreds. What is executed is a process of its own all the same, with its own environment, folder and files, and it
runs ``python -m penstock`` from there on; `tests/cli/test_start.py` shows that both give the same.

An order is a message of JSON on a socket, with the files that become the command's standard input, output and error;
the answer is its exit code.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any, NoReturn

from penstock import settings

__all__ = ("Forks", "forking")

_PACKAGES = ("penstock.cli", "penstock_history", "penstock_results")
_LIBRARIES = ("asyncio", "fsspec", "pydantic", "rich.table", "penstock.engine", "penstock.wiring")
_LONGEST = 1 << 20
_PATIENCE = 60.0


class Forks:
    """The process that forks, as those see it who have an order for it."""

    def __init__(self, orders: socket.socket) -> None:
        self._orders = orders
        self._orders.settimeout(_PATIENCE)

    def begin(self, arguments: Sequence[str], environment: Mapping[str, str], cwd: Path, files: Sequence[int]) -> None:
        """Begin a command, with these files as its standard input, output and error."""
        order = {"arguments": arguments, "environment": dict(environment), "cwd": str(cwd)}
        socket.send_fds(self._orders, [json.dumps(order).encode()], files)

    def end(self) -> int:
        """Wait for the end of the command that was begun last, and give its exit code."""
        return int(self._orders.recv(_LONGEST))


@contextmanager
def forking() -> Iterator[Forks]:
    """Start the process; it does not outlive the block."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            number = theirs.fileno()
            process = subprocess.Popen([sys.executable, __file__, str(number)], pass_fds=[number])
        with process:
            try:
                yield Forks(ours)
            finally:
                process.kill()


def _serve(orders: socket.socket) -> None:
    for name in (*_LIBRARIES, *_PACKAGES):
        import_module(name)
    for package in _PACKAGES:
        for module in walk_packages(sys.modules[package].__path__, f"{package}."):
            import_module(module.name)
    gc.freeze()
    while message := _receive(orders):
        text, files = message
        child = os.fork()
        if child == 0:
            orders.close()
            _become(json.loads(text), files)
        for file in files:
            os.close(file)
        _, status = os.waitpid(child, 0)
        orders.send(str(os.waitstatus_to_exitcode(status)).encode())


def _receive(orders: socket.socket) -> tuple[bytes, list[int]] | None:
    text, files, _, _ = socket.recv_fds(orders, _LONGEST, 3)
    return (text, files) if text else None


def _become(order: Any, files: Sequence[int]) -> NoReturn:
    """Do what a process does that is started with this order."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", 1 if os.isatty(1) else -1, closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, errors="backslashreplace", closefd=False)
    os.environ.clear()
    os.environ.update(order["environment"])
    time.tzset()
    os.chdir(order["cwd"])
    sys.path[0] = order["cwd"]
    sys.argv = ["penstock", *order["arguments"]]
    settings._in_files.cache_clear()  # they are read when Penstock is imported
    try:
        runpy.run_module("penstock", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        _end(end.code)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    _end(1)


def _end(code: Any) -> NoReturn:
    """What Python does at the end, but for taking everything apart: that would cost more than the command."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as _orders:
        _serve(_orders)
