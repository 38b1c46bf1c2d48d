# From docs/howto/sweep.md.
"""How far the logistic map is from where it began, for many rates of growth."""

import sys

import numpy as np

from penstock import as_completed, flow, task, unmapped
from penstock.runners import ThreadPoolTaskRunner

RUNNER = ThreadPoolTaskRunner(max_workers=2)  # or DaskTaskRunner(), RayTaskRunner(), ProcessPoolTaskRunner()


@task(retries=1, crash_retries=1, task_run_name="rate-{rate}")
def distance(rate: float, start: np.ndarray) -> float:
    if not 0 < rate <= 4:
        raise ValueError(f"the rate {rate} leads out of the interval")
    x = start
    for _ in range(1000):
        x = rate * x * (1 - x)
    return float(np.abs(x - start).mean())


@flow(task_runner=RUNNER)
def sweep(rates: list[float]) -> dict[float, float]:
    start = np.linspace(0.1, 0.9, 100)
    futures = distance.map(rates, unmapped(start))
    for done, _ in enumerate(as_completed(futures), start=1):
        if done % 50 == 0:
            print(f"{done} of {len(futures)}", file=sys.stderr)
    return {rate: future.result() for rate, future in zip(rates, futures, strict=True) if future.exception() is None}


if __name__ == "__main__":
    found = sweep([number / 50 for number in range(1, 202)])
    print(f"{len(found)} distances, the largest {max(found.values()):.6f}")
