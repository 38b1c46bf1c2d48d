"""What a flow says of prints holds for its tasks on workers of their own, too."""

from __future__ import annotations

import logging

import pytest

from penstock import flow, task
from penstock.runners import ProcessPoolTaskRunner


@task
def speak() -> None:
    print("heard")


@task(log_prints=False)
def mutter() -> None:
    print("not for the log")


@flow(task_runner=ProcessPoolTaskRunner(max_workers=1), log_prints=True)
def conversation() -> None:
    speak.submit().result()
    mutter.submit().result()


def test_a_flows_log_prints_reaches_the_workers(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "penstock"):
        conversation()
    lines = [record.getMessage() for record in caplog.records if "Finished" not in record.getMessage()]
    assert any(line.endswith(" - heard") and "speak" in line for line in lines)
    assert not any("not for the log" in line for line in lines)
