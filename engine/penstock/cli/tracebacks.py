"""Tracebacks with the user's frames in them, and none of ours."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from traceback import FrameSummary, StackSummary, TracebackException, extract_tb

import click

__all__ = ("is_the_users", "print_failure")


def is_the_users(error: BaseException) -> bool:
    """Whether an exception passed through a file that is not ours."""
    return any(not _is_ours(frame) for frame in extract_tb(error.__traceback__))


def print_failure(error: BaseException) -> None:
    """Print an exception with what caused it, without the frames that explain nothing to whoever wrote the flow."""
    told = TracebackException.from_exception(error)
    for part in _parts(told):
        part.stack = StackSummary.from_list([frame for frame in part.stack if not _is_ours(frame)])
    click.echo("".join(told.format()), err=True, nl=False)


def _parts(told: TracebackException) -> Iterator[TracebackException]:
    yield told
    for part in (told.__cause__, told.__context__, *(told.exceptions or ())):
        if part is not None:
            yield from _parts(part)


def _is_ours(frame: FrameSummary) -> bool:
    return frame.filename.startswith(_OURS)


def _folder_of(package: str) -> str:
    spec = find_spec(package)
    origin = spec.origin if spec is not None else None
    assert origin is not None, f"{package} is the standard library's, or a part of this distribution"
    return os.path.dirname(origin) + os.sep


_OURS = (
    "<frozen importlib",
    *map(_folder_of, ("importlib", "penstock", "penstock_runners", "penstock_results", "penstock_history")),
)
