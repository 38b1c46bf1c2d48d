"""Calls on a runner, one or several, and whether a process is still there."""

from __future__ import annotations

import psutil

from penstock.ports import Call, Outcome
from penstock_runners.base import TaskRunner
from penstock_runners.probes import Reports, make_calls


def run(runner: TaskRunner, calls: list[Call]) -> list[Outcome]:
    reports = Reports()
    runner.submit(calls, reports)
    return reports.of(calls)


def one(runner: TaskRunner, function: object, *args: object, **options: object) -> Outcome:
    return run(runner, make_calls(function, [args], **options))[0]  # type: ignore[arg-type]


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
