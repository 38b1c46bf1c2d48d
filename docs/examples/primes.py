# From docs/tutorial/4-swap-the-runner.md.
import sys
import time

from penstock import flow, task
from penstock.runners import DaskTaskRunner, ProcessPoolTaskRunner, RayTaskRunner, ThreadPoolTaskRunner


@task
def primes_below(limit: int) -> int:
    sieve = bytearray([1]) * limit
    for number in range(2, int(limit**0.5) + 1):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(range(number * number, limit, number)))
    return sum(sieve) - 2


@flow
def count(limits: list[int]) -> int:
    return sum(primes_below.map(limits).result())


RUNNERS = {
    "threads": ThreadPoolTaskRunner(max_workers=2),
    "processes": ProcessPoolTaskRunner(max_workers=2),
    "dask": DaskTaskRunner(cluster_kwargs={"n_workers": 2}),
    "ray": RayTaskRunner(init_kwargs={"num_cpus": 2}),
}

if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else "threads"
    began = time.monotonic()
    total = count.with_options(task_runner=RUNNERS[name])([20_000 + step for step in range(200)])
    print(f"{total} primes on {name} in {time.monotonic() - began:.1f} s")
