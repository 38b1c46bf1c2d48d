"""Killing drivers, and checking that nothing was executed again that had been acknowledged or recorded."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import resumable

from penstock.history import History, RunQuery, RunRecord
from penstock.results import ResultReference


class Forks:
    """The process of `resumable`, which forks drivers."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def start(self, **order: Any) -> int:
        """Start a driver; gives its process id."""
        return int(self._say(json.dumps(order)))

    def wait(self) -> int:
        """Wait until the driver that was started last has ended; gives its exit code."""
        return int(self._say(""))

    def kill(self, driver: int) -> int:
        """Kill the driver that was started last; gives 0 if it had ended by itself before."""
        os.kill(driver, signal.SIGKILL)
        return self.wait()

    def _say(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()


@contextmanager
def forking(environment: Mapping[str, str] | None = None) -> Iterator[Forks]:
    """Have the process that forks for the block."""
    command = [sys.executable, resumable.__file__]
    surroundings = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**surroundings, **(environment or {})},
    ) as process:
        yield Forks(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(20) == 0


class Trial:
    """One flow run, with the runs that continue it, in a folder of its own."""

    def __init__(self, folder: Path, forks: Forks, **order: Any) -> None:
        folder.mkdir()
        self.folder = folder
        self._forks = forks
        self._order = {"folder": str(folder), "items": 8, **order}
        self._generation = -1
        self._done: dict[str, int] = {}

    def begin(self) -> int:
        """Start the next driver, which runs the flow or resumes what the last one left; gives its process id."""
        self._generation += 1
        return self._forks.start(**self._order, generation=self._generation, resume=self._to_resume())

    def run(self) -> float:
        """Let a driver come to its end, if the flow has not completed; gives how long that took."""
        started = time.monotonic()
        if self.value is None:
            self.begin()
            assert self._forks.wait() == 0
        return time.monotonic() - started

    def kill_after(self, delay: float) -> bool:
        """Let a driver begin and kill it after that many seconds, wherever it is; gives whether it was still alive."""
        driver = self.begin()
        time.sleep(delay)
        killed = self._forks.kill(driver) != 0
        self.look()
        return killed

    def look(self) -> None:
        """Take down what is recorded as done, now that the driver is dead."""
        for record in self.records():
            if record.type == "COMPLETED" and record.result is not None:
                self._done.setdefault(record.name, self._generation)

    @property
    def value(self) -> Any:
        """The flow's value, once it has completed."""
        roots = [root for root in self._roots() if root.type == "COMPLETED"]
        assert len(roots) <= 1, "a flow completed twice"
        return ResultReference(**roots[0].result).load() if roots and roots[0].result else None

    def records(self) -> list[RunRecord]:
        """What is recorded of the runs inside the flow run and those that continued it."""
        history = self._history()
        return [] if history is None else [each for root in self._roots() for each in history.inside(root.id)]

    def check(self, value: Any) -> None:
        """Nothing ran again that had been acknowledged, or was recorded when its driver died; the value is right."""
        effects, acks = self._lines("effects"), self._lines("acks")
        told: dict[str, int] = {}
        for generation, token in acks:
            told.setdefault(token, generation)
        again = [(number, token) for number, token in effects if number > told.get(token, number)]
        assert not again, f"acknowledged, and executed again: {again}"
        again = [(number, token) for number, token in effects if number > self._done.get(token, number)]
        assert not again, f"recorded, and executed again: {again}"
        twice = [line for line, count in Counter(effects).items() if count > 1]
        assert not twice, f"executed twice by one driver: {twice}"
        assert self.value == value

    def _to_resume(self) -> str | None:
        roots = self._roots()
        return str(roots[-1].id) if roots else None

    def _roots(self) -> list[RunRecord]:
        history = self._history()
        return [] if history is None else history.runs(RunQuery(roots_only=True))

    def _history(self) -> History | None:
        file = self.folder / "history.db"
        return History(file) if file.exists() else None

    def _lines(self, name: str) -> list[tuple[int, str]]:
        file = self.folder / name
        if not file.exists():
            return []
        lines = (line.split() for line in file.read_text().splitlines())
        return [(int(number), token) for number, token in lines]


def delays(seed: int, longest: float) -> Iterator[float]:
    """Moments in the life of a driver."""
    chance = random.Random(seed)
    while True:
        yield chance.uniform(0, longest)
