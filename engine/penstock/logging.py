"""Log lines as the peer's users know them, through the standard library.

``12:00:01.234 | INFO    | Flow run 'amber-falcon' - Finished in state Completed()``

An application that has configured logging gets records and nothing else. Where nobody has, the first flow run adds
one handler to the ``penstock`` logger, so that a script shows what it does; it falls silent again as soon as the
root logger has a handler of its own.
"""

from __future__ import annotations

import builtins
import logging
import sys
from collections.abc import Mapping, MutableMapping
from functools import cache
from typing import TYPE_CHECKING, Any

from penstock.context import current_run
from penstock.errors import MissingContextError
from penstock.line_queue import LAST_LINES

if TYPE_CHECKING:
    from penstock.ports import Call, LogLine
    from penstock.records import Run

__all__ = ("capture_prints", "engine_logger", "get_run_logger", "relay", "run_logger", "show_logs")

_root = logging.getLogger("penstock")
engine_logger: logging.Logger = logging.getLogger("penstock.engine")
flow_runs: logging.Logger = logging.getLogger("penstock.flow_runs")
task_runs: logging.Logger = logging.getLogger("penstock.task_runs")
INFO, ERROR = logging.INFO, logging.ERROR


class RunLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger that says which run it speaks for."""

    def __init__(self, logger: logging.Logger, prefix: str, extra: Mapping[str, Any]) -> None:
        super().__init__(logger, extra)
        self._prefix = prefix

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Put the run's name before the message and its facts on the record."""
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return f"{self._prefix}{msg}", kwargs

    def last_line(self, level: int, message: str, *args: object, error: BaseException | None) -> None:
        """Log how the run ended, without waiting for others that do; that of a flow waits, and shows all before it."""
        text, facts = self.process(message, {})
        raised = None if error is None else (type(error), error, error.__traceback__)
        logger = self.logger
        record = logger.makeRecord(logger.name, level, "(engine)", 0, text, args, raised, None, facts["extra"])
        LAST_LINES.put(logger, record)
        if logger is flow_runs:
            LAST_LINES.write_all()


def run_logger(run: Run) -> RunLogger:
    """The logger of a run."""
    logger = task_runs if run.kind == "Task" else flow_runs
    prefix = f"{run.kind} run {run.name!r} - ".replace("%", "%%")
    return RunLogger(logger, prefix, {"run_id": str(run.id), "run_name": run.name})


def get_run_logger() -> logging.LoggerAdapter[logging.Logger]:
    """The logger of the run that calls this.

    Raises:
        MissingContextError: If there is no run around the caller; ``task.fn(...)`` in a test is no run.
    """
    run = current_run.get()
    if run is None:
        raise MissingContextError(
            "get_run_logger() was called outside of a flow or task run. "
            "Use logging.getLogger(__name__) there, or call the flow instead of its function."
        )
    return run_logger(run)


class _ScriptHandler(logging.StreamHandler[Any]):
    """Shows log lines while nobody else does."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(
            logging.Formatter("%(asctime)s.%(msecs)03d | %(levelname)-7s | %(message)s", datefmt="%H:%M:%S")
        )

    def emit(self, record: logging.LogRecord) -> None:
        if not logging.getLogger().handlers:
            self.stream = sys.stderr
            super().emit(record)


@cache
def show_logs() -> None:
    """Make a script's log lines visible, unless somebody has configured logging."""
    if logging.getLogger().handlers or _root.handlers or _root.level:
        return
    _root.addHandler(_ScriptHandler())
    _root.setLevel(logging.INFO)


@cache
def capture_prints() -> None:
    """Teach ``print`` to ask who prints.

    Installed once, by the first run with ``log_prints``, and never taken back: swapping ``print`` around each run
    would lose lines of runs that overlap. Outside of such a run it does exactly what it did before.
    """
    original = builtins.print

    def print(  # noqa: A001 (it takes the place of the builtin)
        *values: object, sep: str | None = " ", end: str | None = "\n", file: Any = None, flush: bool = False
    ) -> None:
        run = current_run.get()
        if run is None or file not in (None, sys.stdout) or not run.prints_to_log:
            original(*values, sep=sep, end=end, file=file, flush=flush)
        else:
            text = (" " if sep is None else sep).join(map(str, values))
            run_logger(run).info("%s", text)

    print.__doc__ = original.__doc__
    builtins.print = print


def relay(call: Call, line: LogLine) -> None:
    """Log here what was logged on a worker."""
    logger = logging.getLogger(line.logger)
    if logger.isEnabledFor(line.level):
        extra = dict(line.extra)
        record = logger.makeRecord(line.logger, line.level, "(worker)", 0, line.message, (), None, extra=extra)
        record.created = line.created
        record.msecs = line.created % 1 * 1000
        logger.handle(record)
