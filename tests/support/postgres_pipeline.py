"""A job of three parts, for two machines: the first run waits in the last part until it is killed.

python postgres_pipeline.py RESULTS begin       prints the id of its run
python postgres_pipeline.py RESULTS resume ID   prints which parts it executed, and what came out
"""

from __future__ import annotations

import sys
import time

from penstock import Engine, flow, resume, runtime, task
from penstock.results import ResultStore

executed: list[int] = []


@task(persist_result=True)
def part(number: int) -> int:
    if number == 2 and sys.argv[2] == "begin":
        print(runtime.flow_run.id, flush=True)
        time.sleep(1000)
    executed.append(number)
    return number * 10


@flow
def job() -> int:
    return sum(part(number) for number in range(3))


if __name__ == "__main__":
    with Engine(results=ResultStore(sys.argv[1])):
        if sys.argv[2] == "begin":
            job()
        else:
            print(resume(sys.argv[3]), executed)
