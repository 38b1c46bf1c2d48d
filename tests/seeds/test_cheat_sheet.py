"""The programs of the third guide, a cheat sheet."""

from __future__ import annotations

import json
import logging
import pathlib
import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest
from loopback import JsonServer

from penstock import Engine, allow_failure, flow, runtime, task
from penstock.futures import wait
from penstock.runners import DaskTaskRunner, RayTaskRunner, TaskRunner
from penstock.states import Completed, Failed, State
from penstock.tasks import task_input_hash
from penstock.testing import VirtualClock, penstock_test_harness


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO, "penstock"):
        yield caplog


def test_quick_example(api: JsonServer, log: pytest.LogCaptureFixture) -> None:
    @task
    def fetch_data(url: str) -> list[dict[str, Any]]:
        return httpx.get(url).json()

    @task
    def process(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [record for record in records if record.get("active")]

    @flow(name="My Pipeline")
    def pipeline(url: str) -> list[dict[str, Any]]:
        raw = fetch_data(url)
        return process(raw)

    # The guide's URL answers with an object and not with a list of records.
    api.answers["/json"] = [{"id": 1, "active": True}, {"id": 2}]
    assert pipeline(f"{api.url}/json") == [{"id": 1, "active": True}]
    assert "for flow 'My Pipeline'" in log.text
    assert log.text.count("Finished in state Completed()") == 3


def test_retries_and_timeouts(jumping_clock: Engine, log: pytest.LogCaptureFixture) -> None:
    dice = random.Random(7)  # the first two throws fail, the third does not
    throws: list[float] = []

    @task(retries=3, retry_delay_seconds=10, timeout_seconds=30, log_prints=True)
    def unreliable_api_call(endpoint: str) -> dict[str, str]:
        throws.append(dice.random())
        if throws[-1] < 0.5:
            raise ConnectionError("Simulated network failure")
        print(f"Called {endpoint} successfully")
        return {"status": "ok"}

    @flow(retries=1, timeout_seconds=120, log_prints=True)
    def robust_pipeline() -> None:
        result = unreliable_api_call("https://api.example.com/data")
        print(f"Result: {result}")

    robust_pipeline()
    assert [throw < 0.5 for throw in throws] == [True, True, False]
    assert log.text.count("Retrying in 10.0 seconds") == 2
    assert "Called https://api.example.com/data successfully" in log.text
    assert "Result: {'status': 'ok'}" in log.text


def test_caching(log: pytest.LogCaptureFixture, cache_clock: VirtualClock) -> None:
    @task(cache_key_fn=task_input_hash, cache_expiration=timedelta(hours=1), log_prints=True)
    def expensive_query(sql: str) -> list[dict[str, int]]:
        print(f"Running query: {sql}")
        return [{"result": 42}]

    @flow
    def pipeline() -> list[list[dict[str, int]]]:
        first = expensive_query("SELECT * FROM big_table")
        second = expensive_query("SELECT * FROM big_table")
        return [first, second]

    assert pipeline() == [[{"result": 42}]] * 2
    assert log.text.count("Running query") == 1
    cache_clock.advance(3599)
    pipeline()
    assert log.text.count("Running query") == 1
    cache_clock.advance(1)
    pipeline()
    assert log.text.count("Running query") == 2


def test_parallel_submission() -> None:
    @task(log_prints=True)
    def process_item(item: int) -> int:
        return item**2

    @flow
    def parallel_pipeline(items: list[int]) -> list[int]:
        futures = [process_item.submit(item) for item in items]
        wait(futures)
        return [future.result() for future in futures]

    assert parallel_pipeline(list(range(10))) == [0, 1, 4, 9, 16, 25, 36, 49, 64, 81]


def test_subflows(capsys: pytest.CaptureFixture[str]) -> None:
    ids: dict[str, Any] = {}

    @task
    def validate(data: list[int]) -> bool:
        return len(data) > 0

    @flow(name="transform")
    def transform_flow(data: list[int]) -> list[int]:
        ids["transform"] = runtime.flow_run.id
        if validate(data):
            return [item * 2 for item in data]
        return []

    @flow(name="main")
    def main_flow() -> None:
        ids["main"] = runtime.flow_run.id
        result = transform_flow([1, 2, 3, 4, 5])
        print(f"Transformed: {result}")

    main_flow()
    assert capsys.readouterr().out == "Transformed: [2, 4, 6, 8, 10]\n"
    assert ids["main"] != ids["transform"]


def test_logging_and_state_hooks(log: pytest.LogCaptureFixture) -> None:
    @task(log_prints=True)
    def my_task(answer: int) -> int:
        print("task running")
        return 84 // answer

    def on_failure(flow: Any, flow_run: Any, state: State) -> None:
        print(f"Flow {flow.name} failed: {state.message}")

    def on_completion(flow: Any, flow_run: Any, state: State) -> None:
        print(f"Flow {flow.name} completed successfully")

    @flow(on_failure=[on_failure], on_completion=[on_completion], log_prints=True)
    def instrumented_flow(answer: int = 2) -> None:
        result = my_task(answer)
        print(f"Result: {result}")

    instrumented_flow()
    assert "task running" in log.text
    assert "Result: 42" in log.text
    with pytest.raises(ZeroDivisionError):
        instrumented_flow(0)
    assert log.text.count("Flow instrumented_flow completed successfully") == 1
    assert "Flow instrumented_flow failed: Flow run encountered an exception: ZeroDivisionError" in log.text


# --- recipe 1 and the tests that the guide writes for it --------------------------------------------------------------


@task(retries=3, retry_delay_seconds=10, cache_key_fn=task_input_hash, cache_expiration=timedelta(hours=6))
def extract(source: str) -> list[dict[str, Any]]:
    response = httpx.get(source, timeout=10)
    response.raise_for_status()
    return response.json()


@task
def transform(rows: list[dict[str, Any]], min_score: int) -> list[dict[str, Any]]:
    return [row for row in rows if row.get("score", 0) >= min_score]


@task(retries=2)
def load(rows: list[dict[str, Any]], dest: str) -> int:
    pathlib.Path(dest).write_text(json.dumps(rows, indent=2))
    return len(rows)


@flow(name="etl", log_prints=True)
def etl(source: str, dest: str = "out.json", min_score: int = 50) -> int:
    raw = extract(source)
    cleaned = transform(raw, min_score)
    return load(cleaned, dest)


SCORES = [{"score": 10}, {"score": 80}, {}]


def test_parameterised_etl(api: JsonServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    api.answers["/items"] = SCORES
    assert etl(f"{api.url}/items", min_score=75) == 1
    assert etl(f"{api.url}/items", min_score="5") == 2  # the annotation converts it
    assert json.loads((tmp_path / "out.json").read_text()) == [{"score": 10}, {"score": 80}]
    assert api.requests["/items"] == 1


def test_transform_filters_low_scores() -> None:
    assert transform.fn([{"score": 10}, {"score": 80}], min_score=50) == [{"score": 80}]


def test_etl_loads_results(api: JsonServer, tmp_path: Path) -> None:
    # The guide makes the harness a fixture of the session; a `with` block says the same.
    api.answers["/get"] = SCORES
    out = tmp_path / "out.json"
    with penstock_test_harness():
        assert etl(f"{api.url}/get", dest=str(out), min_score=0) == 3
    assert out.exists()


def test_etl_handles_bad_url(jumping_clock: Engine) -> None:
    # The guide waits for the task's three retries, half a minute; here time jumps.
    state = etl("http://no-such-host.invalid", return_state=True)
    assert state.is_failed()
    assert "ConnectError" in state.message


# --- the other recipes ------------------------------------------------------------------------------------------------


def branching(merge: Callable[[Any, Any], Any]) -> Any:
    @task
    def primary_source() -> dict[str, Any]:
        raise RuntimeError("primary down")

    @task
    def fallback_source() -> dict[str, Any]:
        return {"src": "fallback", "rows": [1, 2, 3]}

    @flow(log_prints=True)
    def resilient_fetch() -> Any:
        primary = primary_source.submit()
        fallback = fallback_source.submit()
        return task(merge)(allow_failure(primary), fallback)

    return resilient_fetch()


def test_conditional_branching() -> None:
    # The guide's merge takes whatever is truthy, and prints that this gave the fallback. A task whose upstream failed
    # gets the exception, as in the peer, and exceptions are truthy: merge has to ask what it was given.
    def merge(primary: Any, fallback: Any) -> Any:
        return fallback if isinstance(primary, Exception) else primary

    assert branching(merge) == {"src": "fallback", "rows": [1, 2, 3]}
    assert isinstance(branching(lambda primary, fallback: primary if primary else fallback), RuntimeError)


def test_map_fan_out() -> None:
    @task
    def process(item: int) -> int:
        return item * item

    @flow
    def map_pipeline(items: list[int]) -> list[int]:
        futures = process.map(items)
        return [future.result() for future in futures]

    assert map_pipeline(list(range(10))) == [0, 1, 4, 9, 16, 25, 36, 49, 64, 81]


def test_recovering_from_a_failed_state(log: pytest.LogCaptureFixture) -> None:
    @task
    def maybe_fail(x: int) -> Any:
        if x < 0:
            return Failed(message=f"negative: {x}")
        return Completed(message=f"ok: {x}", data=x * 2)

    @flow(log_prints=True)
    def safe_flow(values: list[int]) -> None:
        for value in values:
            state = maybe_fail(value, return_state=True)
            if state.is_failed():
                print(f"SKIPPED: {state.message}")
                continue
            print(f"OK: {state.result()}")

    safe_flow([1, -2, 3, -4])
    printed = [record.getMessage().partition(" - ")[2] for record in log.records]
    assert [line for line in printed if line.startswith(("OK", "SKIPPED"))] == [
        "OK: 2",
        "SKIPPED: negative: -2",
        "OK: 6",
        "SKIPPED: negative: -4",
    ]


@pytest.mark.leaks("Dask and Ray keep threads for the next cluster")
@pytest.mark.parametrize(
    "runner",
    [
        DaskTaskRunner(cluster_kwargs={"n_workers": 4, "threads_per_worker": 2}),
        RayTaskRunner(init_kwargs={"num_cpus": 2, "object_store_memory": 150 * 1024 * 1024}),
    ],
    ids=["dask", "ray"],
)
def test_parallel_pipeline_on_a_cluster(runner: TaskRunner) -> None:
    # The guide leaves the flow's body out; this is its batched pipeline, which it recommends for such runners.
    @task
    def process_batch(batch: list[int]) -> list[int]:
        return [row * 2 for row in batch]

    @flow(task_runner=runner)
    def parallel_pipeline(rows: list[int]) -> list[int]:
        rest = iter(rows)
        futures = []
        while batch := list(islice(rest, 100)):
            futures.append(process_batch.submit(batch))
        return [row for future in futures for row in future.result()]

    rows = list(range(1050))
    assert parallel_pipeline(rows) == [row * 2 for row in rows]


def test_performance_tuning_gives_the_same_with_and_without_batches() -> None:
    @task
    def process_row(row: int) -> int:
        return row * 2

    @task
    def process_batch(batch: list[int]) -> list[int]:
        return [row * 2 for row in batch]

    @flow
    def slow(rows: list[int]) -> list[int]:
        return [process_row(row) for row in rows]

    @flow
    def fast(rows: list[int]) -> list[int]:
        rest = iter(rows)
        futures = []
        while batch := list(islice(rest, 100)):
            futures.append(process_batch.submit(batch))
        return [row for future in futures for row in future.result()]

    rows = list(range(1050))
    assert slow(rows) == fast(rows) == [row * 2 for row in rows]
