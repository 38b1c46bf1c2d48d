# From docs/howto/command-line.md.
import time
from pathlib import Path

from penstock import flow, get_run_logger, runtime, task


@task(retries=2, retry_delay_seconds=0.3)
def fetch(page: int) -> list[int]:
    time.sleep(0.1 * page)
    if page == 3 and runtime.task_run.run_count == 1:
        raise ConnectionError("the server hung up")
    return list(range(10 * page))


@task
def add_up(numbers: list[int]) -> int:
    time.sleep(0.1)
    return sum(numbers)


@task
def publish(totals: list[int], folder: str) -> str:
    report = Path(folder, "report.txt")
    report.write_text("\n".join(map(str, totals)))
    return str(report)


@flow(persist_result=True, tags=["reports"])
def nightly(folder: str, pages: int = 4) -> str:
    get_run_logger().info("reading %d pages", pages)
    totals = add_up.map(fetch.map(range(1, pages + 1)))
    return publish(totals.result(), folder)


if __name__ == "__main__":
    print(nightly(folder="."))
