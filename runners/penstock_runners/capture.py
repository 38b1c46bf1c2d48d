"""What a call logs and prints on a worker, on its way home.

One handler on the logger ``penstock`` and one stand-in for ``sys.stdout`` are installed once per worker process. Which
call a record belongs to is a context variable's business: calls on threads and tasks of one worker do not mix.
"""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TextIO

from penstock.ports import LogLine

__all__ = ("Lines", "begin", "end", "install")

_ROOT = "penstock"
_PRINTS = "penstock.task_runs"


class Lines:
    """Where the lines of one call go: home at once if there is a way, else into a list for the outcome."""

    __slots__ = ("_send", "kept")

    def __init__(self, send: Callable[[LogLine], None] | None = None) -> None:
        self.kept: list[LogLine] = []
        self._send = send

    def add(self, line: LogLine) -> None:
        """Take one line."""
        if self._send is None:
            self.kept.append(line)
        else:
            self._send(line)


_lines: ContextVar[Lines | None] = ContextVar("_lines", default=None)
_printed: ContextVar[io.StringIO | None] = ContextVar("_printed", default=None)


def install(level: int) -> None:
    """Capture from now on, in this process, records of at least this level."""
    logger = logging.getLogger(_ROOT)
    if logger.level != level:
        logger.setLevel(level)
    if not any(isinstance(handler, _Home) for handler in logger.handlers):
        logger.addHandler(_Home())
        logger.propagate = False
    if not isinstance(sys.stdout, _Prints):
        sys.stdout = _Prints(sys.stdout)


def begin(lines: Lines, prints: bool) -> None:
    """Send what the current context logs, and prints if wanted, to ``lines``."""
    _lines.set(lines)
    _printed.set(io.StringIO() if prints else None)


def end() -> None:
    """Log what was printed without a line's end, and let go."""
    if (rest := _printed.get()) is not None and rest.getvalue():
        logging.getLogger(_PRINTS).info("%s", rest.getvalue())
    _lines.set(None)
    _printed.set(None)


# What every record has; the rest was given by whoever logged, as `extra`.
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_PLAIN = (str, int, float, bool, type(None))


class _Home(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        lines = _lines.get()
        if lines is not None:
            lines.add(_line(record))
        elif logging.lastResort is not None and record.levelno >= logging.lastResort.level:
            logging.lastResort.handle(record)  # logged outside of any call: for the worker's own standard error


_formatter = logging.Formatter()


def _line(record: logging.LogRecord) -> LogLine:
    message = record.getMessage()
    if record.exc_info:
        message = f"{message}\n{_formatter.formatException(record.exc_info)}"
    extra = {
        name: value if isinstance(value, _PLAIN) else str(value)
        for name, value in record.__dict__.items()
        if name not in _STANDARD
    }
    return LogLine(record.name, record.levelno, message, record.created, extra)


class _Prints(io.TextIOBase):
    """`sys.stdout` for calls that capture their prints; for all others the stream that was there before."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def write(self, text: str) -> int:
        """Take text; each full line becomes a record."""
        held = _printed.get()
        if held is None:
            return self._stream.write(text)
        *whole, rest = (held.getvalue() + text).split("\n")
        held.seek(0)
        held.truncate()
        held.write(rest)
        for line in whole:
            logging.getLogger(_PRINTS).info("%s", line)
        return len(text)

    def flush(self) -> None:
        """Flush the stream that was there before."""
        self._stream.flush()

    def fileno(self) -> int:
        """The descriptor of the stream that was there before, for subprocesses."""
        return self._stream.fileno()

    def isatty(self) -> bool:
        """Whether the stream that was there before is a terminal."""
        return self._stream.isatty()

    def writable(self) -> bool:
        """Always."""
        return True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
