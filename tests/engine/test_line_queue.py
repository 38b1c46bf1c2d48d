"""The last lines of runs that end on many threads: all there, in their own context, and nobody waits to write one."""

from __future__ import annotations

import contextvars
import logging
import os
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

import pytest

from penstock import Engine, flow, task, wait
from penstock.runners import ThreadPoolTaskRunner

ITEMS = 300  # more than may lie in the queue

user = contextvars.ContextVar("user", default="nobody")


class Calling(logging.Handler):
    """Calls a function with the last line of every run; takes no lock, so that only the queue keeps order."""

    def __init__(self, take: Callable[[logging.LogRecord], object]) -> None:
        super().__init__()
        self.take = take

    def handle(self, record: logging.LogRecord) -> bool:
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        if "Finished" in record.getMessage():
            self.take(record)


@contextmanager
def shown_to(take: Callable[[logging.LogRecord], object]) -> Generator[None, None, None]:
    logger, handler = logging.getLogger("penstock"), Calling(take)
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@task
def same(value: int) -> int:
    return value


@flow(task_runner=ThreadPoolTaskRunner(max_workers=8))
def many() -> list[int]:
    return same.map(range(ITEMS)).result()


def test_every_run_has_its_line_once_and_that_of_the_flow_is_the_last() -> None:
    lines = list[logging.LogRecord]()
    with Engine(), shown_to(lines.append):
        assert many() == list(range(ITEMS))
    assert [line.name for line in lines] == ["penstock.task_runs"] * ITEMS + ["penstock.flow_runs"]
    assert len({line.__dict__["run_id"] for line in lines}) == ITEMS + 1
    assert len({line.thread for line in lines}) > 1


def test_runs_end_while_the_line_of_another_is_being_written() -> None:
    others_ended = threading.Event()
    waited = list[bool]()

    def slowly(_: logging.LogRecord) -> None:
        if not waited:
            waited.append(others_ended.wait(30))

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=2))
    def main() -> None:
        futures = same.map(range(10))
        while len(wait(futures, timeout=0.01).done) < 9:
            pass
        others_ended.set()

    with Engine(), shown_to(slowly):
        main()
    assert waited == [True]


def test_a_line_is_written_in_the_context_in_which_its_run_ended() -> None:
    writing, both_ended = threading.Event(), threading.Event()
    seen = list[tuple[str, int]]()

    def look(line: logging.LogRecord) -> None:
        if line.name == "penstock.task_runs":
            writing.set()
            assert both_ended.wait(30)
            seen.append((user.get(), threading.get_ident()))

    @flow
    def main(name: str) -> None:
        user.set(name)
        same(1)
        if name == "bert":
            both_ended.set()

    with Engine(), shown_to(look):
        threads = [threading.Thread(target=main, args=(name,)) for name in ("anna", "bert")]
        threads[0].start()
        assert writing.wait(30)
        threads[1].start()
        for thread in threads:
            thread.join()
    first_writer = seen[0][1]
    assert seen == [("anna", first_writer), ("bert", first_writer)]


def test_a_handler_that_fails_is_reported_and_harms_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(_: logging.LogRecord) -> None:
        raise OSError("the log is full")

    with Engine(), shown_to(fail):
        assert many() == list(range(ITEMS))
    reported = capsys.readouterr().err
    assert reported.count("--- Logging error ---") == ITEMS + 1
    assert "OSError: the log is full" in reported


def test_a_handler_may_run_a_flow() -> None:
    alerts = list[str]()

    @flow
    def alert(text: str) -> None:
        alerts.append(text)

    def pass_on(record: logging.LogRecord) -> None:
        if record.name == "penstock.task_runs":
            alert(record.__dict__["run_name"])

    with Engine(), shown_to(pass_on):
        assert many() == list(range(ITEMS))
    assert len(set(alerts)) == ITEMS


def test_a_process_that_was_forked_while_a_line_was_written_writes_its_own() -> None:
    forked = threading.Event()
    writing = threading.Event()
    ours = os.getpid()
    lines = list[str]()

    def hold(line: logging.LogRecord) -> None:
        lines.append(line.name)
        if os.getpid() == ours:
            writing.set()
            assert forked.wait(30)

    with Engine(), shown_to(hold):
        thread = threading.Thread(target=flow(lambda: None, name="slow"))
        thread.start()
        assert writing.wait(30)
        child = os.fork()
        if child == 0:
            before = len(lines)
            flow(lambda: None, name="forked")()
            os._exit(len(lines) - before)
        _, status = os.waitpid(child, 0)
        forked.set()
        thread.join()
    assert os.waitstatus_to_exitcode(status) == 1
