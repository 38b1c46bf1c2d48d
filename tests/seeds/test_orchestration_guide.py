"""The programs of the first guide, a tour that ends with an ETL pipeline."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import httpx
import pandas as pd
import pytest
from loopback import JsonServer

from penstock import Engine, flow, get_run_logger, task
from penstock.futures import Future
from penstock.runners import ConcurrentTaskRunner
from penstock.tasks import task_input_hash
from penstock.testing import VirtualClock

DAY = "2026-06-14"


def test_first_flow(api: JsonServer, caplog: pytest.LogCaptureFixture) -> None:
    @task
    def fetch_user(user_id: int) -> dict[str, Any]:
        get_run_logger().info("Fetching user %s", user_id)
        response = httpx.get(f"{api.url}/users/{user_id}")
        response.raise_for_status()
        return response.json()

    @task
    def extract_email(user: dict[str, Any]) -> str:
        return user["email"]

    @flow(name="fetch-user-email")
    def user_email_flow(user_id: int) -> str:
        user = fetch_user(user_id)
        return extract_email(user)

    api.answers["/users/1"] = {"id": 1, "email": "someone@example.com"}
    with caplog.at_level(logging.INFO, "penstock"):
        assert user_email_flow(1) == "someone@example.com"
    assert "Fetching user 1" in caplog.text
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        user_email_flow(2)


def make_fetch_from_api(api: JsonServer) -> Any:
    # The guide uses get_run_logger here without importing it.
    @task(
        retries=3,
        retry_delay_seconds=[5, 30, 120],
        retry_jitter_factor=0.5,
        timeout_seconds=60,
        name="fetch-data-from-api",
        description="Fetches the records of a day",
    )
    def fetch_from_api(date: str, endpoint: str) -> list[dict[str, Any]]:
        get_run_logger().info("Fetching %s for %s", endpoint, date)
        response = httpx.get(f"{api.url}/{endpoint}", params={"date": date}, timeout=30)
        response.raise_for_status()
        return response.json()

    return fetch_from_api


def test_retries_with_growing_delays(api: JsonServer, jumping_clock: Engine) -> None:
    fetch_from_api = make_fetch_from_api(api)

    @flow
    def records(date: str) -> list[dict[str, Any]]:
        return fetch_from_api(date, "customers")

    api.answers["/customers"] = lambda date: [{"id": 7, "date": date}]
    api.failures["/customers"] = 3
    before = jumping_clock.clock.monotonic()
    assert records(DAY) == [{"id": 7, "date": DAY}]
    assert api.requests["/customers"] == 4
    delays = jumping_clock.clock.monotonic() - before
    assert 155 <= delays <= 155 * 1.5  # 5 + 30 + 120 seconds, each up to half as much longer

    api.failures["/customers"] = 4
    with pytest.raises(httpx.HTTPStatusError, match="503"):
        records(DAY)
    assert fetch_from_api.name == "fetch-data-from-api"


def test_cached_task(api: JsonServer, cache_clock: VirtualClock) -> None:
    @task(cache_key_fn=task_input_hash, cache_expiration=timedelta(hours=1), retries=2, retry_delay_seconds=10)
    def fetch_exchange_rate(pair: str) -> float:
        get_run_logger().info("Fetching the rate of %s", pair)
        return httpx.get(f"{api.url}/rate/{pair}").json()["rate"]

    @flow
    def rates() -> list[float]:
        return [fetch_exchange_rate("EURUSD"), fetch_exchange_rate("EURUSD"), fetch_exchange_rate("EURINR")]

    api.answers = {"/rate/EURUSD": {"rate": 1.25}, "/rate/EURINR": {"rate": 100.5}}
    assert rates() == rates() == [1.25, 1.25, 100.5]
    assert api.requests == {"/rate/EURUSD": 1, "/rate/EURINR": 1}
    cache_clock.advance(3601)
    assert rates() == [1.25, 1.25, 100.5]
    assert api.requests == {"/rate/EURUSD": 2, "/rate/EURINR": 2}


def test_parallel_execution(api: JsonServer) -> None:
    @task
    def process_region(region: str, date: str) -> dict[str, Any]:
        get_run_logger().info("Processing %s for %s", region, date)
        response = httpx.get(f"{api.url}/reports/{region}", params={"date": date})
        return {"region": region, "records": response.json().get("count", 0)}

    # The guide says that this runner makes asyncio coroutines of the tasks. They are synchronous: they get threads.
    @flow(name="parallel-regional-report", task_runner=ConcurrentTaskRunner())
    def regional_report_flow(date: str, regions: list[str]) -> dict[str, Any]:
        futures: list[Future[dict[str, Any]]] = [process_region.submit(region=region, date=date) for region in regions]
        results = [future.result() for future in futures]
        return {"date": date, "regions": results, "total_records": sum(result["records"] for result in results)}

    regions = ["north", "south", "east", "west", "central"]
    api.answers = {f"/reports/{region}": {"count": count} for count, region in enumerate(regions[:4], 1)}
    api.answers["/reports/central"] = {}
    report = regional_report_flow(date=DAY, regions=regions)
    assert report["total_records"] == 1 + 2 + 3 + 4
    assert [result["region"] for result in report["regions"]] == regions


# The guide's pipeline does not compile: it awaits the artifact in a `def`. Its imports of timedelta and task_input_hash
# are missing, too. The artifact itself follows with penstock.artifacts.
@task(retries=3, retry_delay_seconds=30, cache_key_fn=task_input_hash, cache_expiration=timedelta(hours=2))
def extract_orders(date: str) -> list[dict[str, Any]]:
    get_run_logger().info("Extracting orders for %s", date)
    return [{"id": i, "amount": i * 9.99, "category": "electronics", "date": date} for i in range(101)]


@task
def validate(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    valid = [record for record in records if record.get("amount", 0) > 0 and record.get("id")]
    if invalid := len(records) - len(valid):
        get_run_logger().warning("Dropped %d invalid records", invalid)
    return valid


@task
def transform(records: list[dict[str, Any]]) -> pd.DataFrame:
    df = pd.DataFrame(records)
    df["amount_usd"] = df["amount"].round(2)
    df["month"] = pd.to_datetime(df["date"]).dt.strftime("%Y-%m")
    return df


@task
def load_to_warehouse(df: pd.DataFrame, table: str) -> int:
    get_run_logger().info("Loading %d rows into %s", len(df), table)
    return len(df)


@task
def compute_summary(df: pd.DataFrame) -> dict[str, Any]:
    return {
        "total_records": len(df),
        "total_revenue": float(df["amount_usd"].sum()),
        "by_category": df.groupby("category")["amount_usd"].sum().to_dict(),
    }


@flow(name="daily-orders-etl", log_prints=True)
def daily_orders_etl(date: str = DAY) -> dict[str, Any]:
    logger = get_run_logger()
    raw = extract_orders(date)
    valid = validate(raw)
    df = transform(valid)
    load_future = load_to_warehouse.submit(df, "orders_warehouse")
    summary_future = compute_summary.submit(df)
    rows_loaded = load_future.result()
    summary = summary_future.result()
    logger.info("ETL complete: %d rows loaded", rows_loaded)
    return summary


def test_complete_etl_pipeline(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "penstock"):
        summary = daily_orders_etl()
    assert summary["total_records"] == 100
    assert summary["total_revenue"] == pytest.approx(9.99 * 5050)
    assert set(summary["by_category"]) == {"electronics"}
    for line in (
        "Dropped 1 invalid records",
        "Loading 100 rows into orders_warehouse",
        "ETL complete: 100 rows loaded",
    ):
        assert line in caplog.text
