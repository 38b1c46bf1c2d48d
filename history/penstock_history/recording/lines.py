"""The log lines of runs, on their way into the history.

A filter on the two loggers that runs speak through, and not a handler: a handler would be one more thing that has
configured logging, so that Python no longer shows warnings by itself. What an application's own filters on these
loggers let pass before, is recorded; what they take out is not. The root logger is left alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from penstock.logging import flow_runs, task_runs

__all__ = ("Lines", "listen", "stop_listening")

_formatter = logging.Formatter()


class Lines(logging.Filter):
    """Shows the lines of runs to somebody, and lets everything pass.

    Args:
        take: Called with the run's id, the time, the level, the logger's name and the message.
    """

    def __init__(self, take: Callable[[str, float, int, str, str], None]) -> None:
        super().__init__()
        self._take = take

    def filter(self, record: logging.LogRecord) -> bool:
        """Look at a record."""
        run_id: Any = getattr(record, "run_id", None)
        if run_id is not None and record.levelno >= logging.INFO:
            self._take(run_id, record.created, record.levelno, record.name, _text(record))
        return True


def listen(lines: Lines) -> None:
    """Begin to look at what runs log."""
    for logger in (flow_runs, task_runs):
        logger.addFilter(lines)


def stop_listening(lines: Lines) -> None:
    """Look no longer."""
    for logger in (flow_runs, task_runs):
        logger.removeFilter(lines)


def _text(record: logging.LogRecord) -> str:
    try:
        message = record.getMessage()
    except (TypeError, ValueError):  # the user's arguments do not fit his text; a handler says so loudly
        message = str(record.msg)
    return f"{message}\n{_formatter.formatException(record.exc_info)}" if record.exc_info else message
