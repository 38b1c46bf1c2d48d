# From docs/howto/pipeline.md.
"""Counts the words of a day's pages."""

from penstock import flow, task
from penstock.cache_policies import INPUTS


@task(cache_policy=INPUTS)
def pages(day: str) -> list[str]:
    return [f"{day} page {number}" for number in range(20)]


@task(retries=2, retry_delay_seconds=1)
def words(page: str) -> int:
    return len(page.split())


@task
def total(counts: list[int]) -> int:
    return sum(counts)


@flow(persist_result=True)
def report(day: str) -> int:
    return total(words.map(pages(day)))


if __name__ == "__main__":
    print(report("2026-11-21"))
