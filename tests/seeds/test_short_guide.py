"""The programs of the fourth guide, a short introduction."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import httpx
import pytest
from loopback import JsonServer

from penstock import Engine, flow, task
from penstock.tasks import task_input_hash
from penstock.testing import VirtualClock


def test_pipeline_with_retries_and_prints(
    api: JsonServer, jumping_clock: Engine, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    @task(retries=3, retry_delay_seconds=10)
    def extract_data(url: str) -> list[Any]:
        # The guide does not look at the status; without that there is nothing to retry.
        return httpx.get(url).raise_for_status().json()

    @flow(log_prints=True)
    def pipeline() -> None:
        data = extract_data(f"{api.url}/data")
        print(f"Got {len(data)} records")

    api.answers["/data"] = [1, 2, 3]
    api.failures["/data"] = 2
    with caplog.at_level(logging.INFO, "penstock"):
        pipeline()
    assert "Got 3 records" in caplog.text
    assert capsys.readouterr().out == ""
    assert api.requests["/data"] == 3


def test_price_analysis_with_a_cache(
    api: JsonServer, capsys: pytest.CaptureFixture[str], cache_clock: VirtualClock
) -> None:
    @task(cache_key_fn=task_input_hash, cache_expiration=timedelta(hours=1))
    def fetch_prices(symbol: str) -> list[dict[str, float]]:
        return httpx.get(f"{api.url}/prices/{symbol}").json()

    @task
    def compute_average(prices: list[dict[str, float]]) -> float:
        return sum(price["close"] for price in prices) / len(prices)

    @flow
    def price_analysis(symbol: str = "AAPL") -> None:
        prices = fetch_prices(symbol)
        average = compute_average(prices)
        print(f"{symbol} average: {average:.2f}")

    api.answers["/prices/AAPL"] = [{"close": 10.0}, {"close": 15.0}]
    price_analysis()
    price_analysis()
    assert capsys.readouterr().out == "AAPL average: 12.50\n" * 2
    assert api.requests["/prices/AAPL"] == 1
    cache_clock.advance(3601)
    price_analysis()
    assert api.requests["/prices/AAPL"] == 2
