"""A flow whose tasks keep large results in a bucket, run as a program so that it can be killed and started again.

Arguments: the URL of the store, the options of s3fs as JSON, and the file that gets a line for every execution.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from penstock import flow, task
from penstock.cache_policies import INPUTS
from penstock.results import ResultStore
from penstock.runners import ThreadPoolTaskRunner

__all__ = ("COUNT", "value")

COUNT = 5
_SIZE = 20 << 20


def value(number: int) -> list[Any]:
    """Make a value that goes up in several parts, and that anybody can recognise as whole."""
    return [number, bytes([number]) * _SIZE]


@task(cache_policy=INPUTS, cache_result_in_memory=False)
def load(number: int, log: str) -> list[Any]:
    line = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.write(line, b"%d\n" % number)
    os.close(line)
    return value(number)


@flow(task_runner=ThreadPoolTaskRunner(max_workers=2))
def pipeline(log: str) -> int:
    futures = [load.submit(number, log) for number in range(COUNT)]
    return sum(future.result()[0] for future in futures)


def main(url: str, options: str, log: str) -> None:
    store = ResultStore(url, storage_options=json.loads(options))
    print(pipeline.with_options(result_storage=store)(log))


if __name__ == "__main__":
    main(*sys.argv[1:])
