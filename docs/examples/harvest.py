# From docs/howto/resume.md.
"""Reads pages; when it is interrupted, `penstock runs resume` goes on where it stopped."""

from penstock import flow, task


@task(retries=2, retry_delay_seconds=5)
def read(page: int) -> int:
    return page * page


@flow(persist_result=True)
def harvest(pages: int) -> int:
    return sum(read.map(range(pages)).result())


if __name__ == "__main__":
    print(harvest(20))
