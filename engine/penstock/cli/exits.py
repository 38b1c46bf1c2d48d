"""What the command's exit codes mean, and which error has which."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import ClassVar

import click

from penstock import errors

__all__ = ("MEANINGS", "Exit", "Refused", "exit_code_of")


class Exit(IntEnum):
    """The exit codes; `MEANINGS` says when they are given."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    UNUSABLE = 5
    INTERRUPTED = 130
    PIPE_CLOSED = 141
    TERMINATED = 143


MEANINGS: Mapping[Exit, str] = {
    Exit.DONE: "It is done. A run that was started has completed.",
    Exit.FAILED: "The run that was started did not complete, or `doctor` found a fault.",
    Exit.USAGE: "Nothing was done: an unknown command or option, no such flow or task, a parameter that does not fit.",
    Exit.NOT_FOUND: "There is no such run or result, or more than one could be meant.",
    Exit.REFUSED: "The run's state does not allow it: it is running, has ended, is continued, or its code has changed.",
    Exit.UNUSABLE: "The history or the result store cannot be used, or what lies there is damaged.",
    Exit.INTERRUPTED: "Ctrl-C. A run that was started is CANCELLED.",
    Exit.PIPE_CLOSED: "Whoever read the output went away, as `| head` does.",
    Exit.TERMINATED: "SIGTERM. A run that was started is CANCELLED.",
}

_CODES: tuple[tuple[type[errors.PenstockError], Exit], ...] = (
    (errors.InvalidCall, Exit.USAGE),
    (errors.ConfigurationError, Exit.USAGE),
    (errors.FlowNotFound, Exit.USAGE),
    (errors.RunNotFound, Exit.NOT_FOUND),
    (errors.ResultMissing, Exit.NOT_FOUND),
    (errors.ResumeConflict, Exit.REFUSED),
    (errors.CodeChanged, Exit.REFUSED),
    (errors.HistoryError, Exit.UNUSABLE),
    (errors.ResultError, Exit.UNUSABLE),
)


class Refused(click.ClickException):
    """The run's state does not allow what was asked for."""

    exit_code: ClassVar[int] = int(Exit.REFUSED)


def exit_code_of(error: errors.PenstockError) -> Exit:
    """The exit code of a command that ends with this error."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), Exit.FAILED)
