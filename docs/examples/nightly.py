# From docs/howto/command-line.md.
from pathlib import Path
from random import Random
from statistics import median

from penstock import flow, get_run_logger, runtime, task


@task(retries=2, retry_delay_seconds=0.3)
def fetch(page: int) -> list[int]:
    if page == 3 and runtime.task_run.run_count == 1:
        raise ConnectionError("the server hung up")
    return Random(page).choices(range(1000), k=20_000 * page)


@task
def middle(prices: list[int]) -> float:
    return median(prices)


@task
def publish(prices: list[float], folder: str) -> str:
    report = Path(folder, "report.txt")
    report.write_text("\n".join(map(str, prices)))
    return str(report)


@flow(persist_result=True, tags=["reports"])
def nightly(folder: str, pages: int = 4) -> str:
    get_run_logger().info("reading %d pages", pages)
    prices = middle.map(fetch.map(range(1, pages + 1)))
    return publish(prices.result(), folder)


if __name__ == "__main__":
    print(nightly(folder="."))
