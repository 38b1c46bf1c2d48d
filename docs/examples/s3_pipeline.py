# From docs/howto/s3.md.
"""Keeps results at PIPELINE_RESULTS, which is a folder unless somebody says otherwise: s3://bucket/prefix, say."""

import json
import os

from penstock import Engine, flow, task
from penstock.cache_policies import INPUTS
from penstock.results import ResultStore

store = ResultStore(
    os.environ.get("PIPELINE_RESULTS", "pipeline-results"),
    storage_options=json.loads(os.environ.get("PIPELINE_STORAGE_OPTIONS", "{}")),
)
executed: list[int] = []


@task(cache_policy=INPUTS, cache_result_in_memory=False)
def load(day: int) -> list[int]:
    executed.append(day)
    return [day] * 1000


@task
def total(parts: list[list[int]]) -> int:
    return sum(map(sum, parts))


@flow
def pipeline(days: int) -> int:
    return total(load.map(range(days)))


if __name__ == "__main__":
    with Engine(results=store):
        print(pipeline(5), "from", len(executed), "days read anew")
