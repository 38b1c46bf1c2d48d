# /// script
# dependencies = ["joblib==1.6.0", "dask==2026.8.0", "distributed==2026.8.0", "ray==2.60.0", "numpy==2.4.6"]
# ///
"""joblib's `Parallel` with its own batches, on threads, loky, Dask and Ray. It keeps no states and does not retry.

Large results are those of a function under `joblib.Memory`, called twice; they are not synced.
"""

from contextlib import contextmanager

import work
from joblib import Memory, Parallel, delayed, parallel_config


@contextmanager
def on(function, **config):
    def run(items):
        return work.timed(lambda: pool(delayed(function)(item) for item in items))

    with parallel_config(**config), Parallel(n_jobs=work.WORKERS) as pool:
        yield run


def threads(function):
    return on(function, backend="threading")


def processes(function):
    return on(function, backend="loky")


@contextmanager
def on_dask(function):
    with work.dask_client(), on(function, backend="dask") as run:
        yield run


@contextmanager
def on_ray(function):
    from ray.util.joblib import register_ray

    register_ray()
    with work.ray_session(), on(function, backend="ray") as run:
        yield run


@contextmanager
def large(folder):
    made = Memory(folder, verbose=0).cache(work.array)

    def keep(number):
        made(number)
        return made(number)

    yield lambda number: work.timed(lambda: keep(number))


if __name__ == "__main__":
    work.program(
        ["joblib", "dask", "ray"],
        {"threads": threads, "processes": processes, "dask": on_dask, "ray": on_ray},
        fan_outs=["threads", "processes"],
        large=large,
    )
