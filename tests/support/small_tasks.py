"""Tasks that flows on every runner submit, and what a test calls to run the body of such a flow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from penstock import task
from penstock_runners.probes import note

Run = Callable[..., Any]


@task
def add(left: Any, right: Any = 0) -> Any:
    return left + right


@task
def total(values: Any) -> Any:
    return sum(values)


@task
def fail(text: str) -> None:
    raise ValueError(text)


@task
def touch(file: Path, text: object) -> object:
    note(file, text)
    return text
