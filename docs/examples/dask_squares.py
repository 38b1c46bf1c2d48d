# From docs/howto/dask.md.
from penstock import flow, task
from penstock.runners import DaskTaskRunner


@task
def square(number: int) -> int:
    return number * number


@flow(task_runner=DaskTaskRunner(cluster_kwargs={"n_workers": 2}))
def squares() -> int:
    return sum(future.result() for future in square.map(range(100)))


if __name__ == "__main__":
    print(squares())
