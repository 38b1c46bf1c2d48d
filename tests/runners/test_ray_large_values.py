"""Large values of a batch stay on the cluster, one object each, and all arrive."""

from __future__ import annotations

import pytest

from penstock import flow, task
from penstock.runners import RayTaskRunner

pytest.importorskip("ray")
MEGABYTE = 1 << 20


@task
def make(byte: int) -> bytes:
    return bytes([byte]) * MEGABYTE


@task
def first(value: bytes) -> int:
    assert len(value) == MEGABYTE
    return value[0]


@pytest.mark.timeout(200)
def test_a_batch_of_large_values_goes_from_task_to_task() -> None:
    @flow(task_runner=RayTaskRunner(init_kwargs={"num_cpus": 2}))
    def pass_on() -> tuple[list[int], list[bytes]]:
        made = make.map(range(12), batch_size=6)
        return first.map(made).result(), made.result()

    firsts, values = pass_on()
    assert firsts == list(range(12))
    assert [value[-1] for value in values] == firsts
