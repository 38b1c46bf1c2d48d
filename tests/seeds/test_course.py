"""The programs of the second guide, a lesson of a course.

They read and write a PostgreSQL database through SQLAlchemy. Here the database is an SQLite file, and the statements
are those that both know; `engine.execute(...)`, which the guide calls, is gone from SQLAlchemy 2 anyway.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from penstock import Engine, flow, get_run_logger, task
from penstock.cache_policies import INPUTS, NO_CACHE
from penstock.tasks import task_input_hash

logger = logging.getLogger(__name__)


@contextmanager
def connect(database: str) -> Iterator[sqlite3.Connection]:
    """A connection whose block is a transaction."""
    with closing(sqlite3.connect(database)) as connection, connection:
        yield connection


@task(
    name="extract-orders",
    retries=3,
    retry_delay_seconds=10,
    cache_key_fn=task_input_hash,
    cache_expiration=timedelta(hours=1),
    log_prints=True,
)
def extract_orders(database: str, execution_date: str) -> pd.DataFrame:
    # The guide pastes the date into the statement.
    query = "SELECT order_id, customer_id, amount, status, created_at FROM orders WHERE date(created_at) = ?"
    with connect(database) as connection:
        df = pd.read_sql(query, connection, params=(execution_date,))
    print(f"Extracted {len(df)} orders for {execution_date}")
    return df


@task(name="validate-raw-data", retries=2, retry_delay_seconds=5)
def validate_raw_data(df: pd.DataFrame) -> pd.DataFrame:
    initial = len(df)
    df = df.dropna(subset=["order_id", "customer_id", "amount"])
    df = df[df["amount"] > 0].drop_duplicates(subset=["order_id"])
    removed = (initial - len(df)) / initial if initial > 0 else 0
    if removed > 0.1:
        raise ValueError(f"Data quality issue: {removed:.1%} of records removed during validation")
    logger.info("Validation passed: %d of %d", len(df), initial)
    return df


@task(name="transform-orders", retries=2, retry_delay_seconds=30)
def transform_orders(database: str, df: pd.DataFrame) -> pd.DataFrame:
    with connect(database) as connection:
        customers = pd.read_sql("SELECT customer_id, tier, segment FROM customers", connection)
    enriched = df.merge(customers, on="customer_id", how="left")
    enriched["tier"] = enriched["tier"].fillna("unknown")
    bins = [0, 10, 100, 1000, float("inf")]
    enriched["bucket"] = pd.cut(enriched["amount"], bins=bins, labels=["micro", "small", "medium", "large"])
    return enriched


@task(name="load-to-warehouse", retries=3, retry_delay_seconds=60)
def load_to_warehouse(database: str, df: pd.DataFrame, target_table: str) -> dict[str, Any]:
    columns = ["order_id", "amount", "status", "tier", "segment"]
    with connect(database) as connection:
        df[columns].to_sql("staged", connection, if_exists="replace", index=False)
        connection.execute(
            f"INSERT INTO {target_table} SELECT {', '.join(columns)} FROM staged WHERE true ON CONFLICT (order_id) "
            "DO UPDATE SET amount = excluded.amount, status = excluded.status, tier = excluded.tier"
        )
        connection.execute("DROP TABLE staged")
    return {"loaded_count": len(df), "target_table": target_table}


@task(name="send-notification")
def send_notification(message: str, severity: str = "info") -> None:
    logger.info("Notification [%s]: %s", severity, message)


@flow(name="daily-order-etl", description="Daily orders", log_prints=True, retry_delay_seconds=300, retries=1)
def daily_order_etl(database: str, execution_date: str = None) -> dict[str, Any]:  # noqa: RUF013
    if execution_date is None:
        execution_date = datetime.now().strftime("%Y-%m-%d")
    raw = extract_orders(database, execution_date)
    validated = validate_raw_data(raw)
    transformed = transform_orders(database, validated)
    result = load_to_warehouse(database, transformed, "orders_fact")
    send_notification(message=f"{result['loaded_count']} records loaded", severity="info")
    return result


@pytest.fixture
def database(tmp_path: Path) -> str:
    path = str(tmp_path / "shop.db")
    orders = [(i, i % 3, i * 50.0, "paid", "2024-01-15 10:00:00") for i in range(1, 21)]
    with connect(path) as connection:
        connection.execute("CREATE TABLE customers (customer_id, tier, segment)")
        connection.executemany("INSERT INTO customers VALUES (?, ?, ?)", [(0, "gold", "b2b"), (1, "silver", "b2c")])
        connection.execute("CREATE TABLE orders (order_id, customer_id, amount, status, created_at)")
        connection.executemany(
            "INSERT INTO orders VALUES (?, ?, ?, ?, ?)", [*orders, (21, 1, -5.0, "paid", orders[0][4])]
        )
        connection.execute("CREATE TABLE orders_fact (order_id PRIMARY KEY, amount, status, tier, segment)")
    return path


def test_complete_etl_pipeline(database: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        for _ in range(2):  # the load is an upsert: twice is as good as once
            result = daily_order_etl(database, execution_date="2024-01-15")
            assert result == {"loaded_count": 20, "target_table": "orders_fact"}
    with connect(database) as connection:
        tiers = connection.execute("SELECT tier, count(*), sum(amount) FROM orders_fact GROUP BY tier ORDER BY tier")
        assert tiers.fetchall() == [("gold", 6, 3150.0), ("silver", 7, 3500.0), ("unknown", 7, 3850.0)]
    assert caplog.text.count("Extracted 21 orders for 2024-01-15") == 1  # the second time it is cached
    assert caplog.text.count("Notification [info]: 20 records loaded") == 2


def test_bad_data_fails_the_flow_after_all_its_retries(database: str, jumping_clock: Engine) -> None:
    with connect(database) as connection:
        connection.execute("UPDATE orders SET amount = -1 WHERE order_id < 10")
    before = jumping_clock.clock.monotonic()
    with pytest.raises(ValueError, match=r"Data quality issue: 47.6% of records"):
        daily_order_etl(database, execution_date="2024-01-15")
    # Two delays of 5 seconds in each of two attempts of the flow, which are 300 seconds apart.
    assert jumping_clock.clock.monotonic() - before == pytest.approx(320, abs=1)


def test_a_day_without_orders_runs_through_with_the_default_date(database: str) -> None:
    assert daily_order_etl(database)["loaded_count"] == 0


# --- a map over what is discovered at run time ------------------------------------------------------------------------


@task(name="discover-tables")
def discover_tables(database: str) -> list[str]:
    with connect(database) as connection:
        rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'events_%'")
        tables = [row[0] for row in rows]
    get_run_logger().info("Discovered %d tables: %s", len(tables), tables)
    return tables


@task(name="extract-table", retries=2, retry_delay_seconds=10)
def extract_table(database: str, table_name: str) -> str:
    with connect(database) as connection:
        df = pd.read_sql(f"SELECT * FROM {table_name}", connection)
    output_path = f"{database}.{table_name}.parquet"
    df.to_parquet(output_path, index=False)
    return output_path


@task(name="validate-table")
def validate_table(table_name: str, file_path: str) -> dict[str, Any]:
    df = pd.read_parquet(file_path)
    null_rate = df.isnull().mean().mean()
    duplicate_rate = 1 - len(df.drop_duplicates()) / len(df)
    # The guide's result holds numpy.bool here; bool() keeps it plain.
    valid = bool(null_rate < 0.1 and duplicate_rate < 0.05)
    if not valid:
        get_run_logger().warning("Validation FAILED for %s", table_name)
    return {"table": table_name, "row_count": len(df), "is_valid": valid}


@task(name="aggregate-results")
def aggregate_results(validations: list[dict[str, Any]]) -> dict[str, Any]:
    total, valid = len(validations), sum(1 for validation in validations if validation["is_valid"])
    return {"total_tables": total, "validity_rate": valid / total if total > 0 else 0, "details": validations}


@flow(name="dynamic-table-pipeline")
def dynamic_table_pipeline(database: str) -> dict[str, Any]:
    tables = discover_tables(database)
    raw_files = extract_table.map(database=database, table_name=tables)
    validations = validate_table.map(table_name=tables, file_path=raw_files)
    summary = aggregate_results(validations)
    if summary["validity_rate"] < 0.9:
        raise ValueError(f"Data quality below threshold: {summary['validity_rate']:.1%} of tables passed validation")
    return summary


def add_events(database: str, tables: int, rows: list[tuple[Any, Any]]) -> None:
    with connect(database) as connection:
        for number in range(tables):
            connection.execute(f"CREATE TABLE events_{number} (id, kind)")
            connection.executemany(f"INSERT INTO events_{number} VALUES (?, ?)", rows)


def test_dynamic_workflow_with_mapping(database: str) -> None:
    add_events(database, 5, [(1, "click"), (2, "view")])
    summary = dynamic_table_pipeline(database)
    assert summary["validity_rate"] == 1
    assert [(detail["table"], detail["row_count"]) for detail in summary["details"]] == [
        (f"events_{number}", 2) for number in range(5)
    ]


def test_dynamic_workflow_refuses_bad_tables(database: str, caplog: pytest.LogCaptureFixture) -> None:
    add_events(database, 2, [(1, None), (1, None)])
    with pytest.raises(ValueError, match=r"below threshold: 0.0% of tables"):
        dynamic_table_pipeline(database)
    assert caplog.text.count("Validation FAILED") == 2


def test_policies_that_the_guide_names_exist() -> None:
    executions: list[int] = []

    def square(number: int) -> int:
        executions.append(number)
        return number * number

    cached = task(cache_policy=INPUTS, persist_result=True)(square)
    fresh = task(cache_policy=NO_CACHE)(square)

    @flow
    def squares() -> list[int]:
        return [cached(3), cached(3), fresh(3), fresh(3)]

    assert squares() == [9, 9, 9, 9]
    assert len(executions) == 1 + 2
