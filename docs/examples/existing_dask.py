# From docs/howto/existing-cluster.md.
from distributed import LocalCluster

from penstock import flow, task
from penstock.runners import DaskTaskRunner


@task
def double(x: int) -> int:
    return 2 * x


@flow
def doubled(numbers: list[int]) -> list[int]:
    return double.map(numbers).result()


# In place of yours: a cluster that somebody else has started.
with LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0") as cluster:
    by_object = doubled.with_options(task_runner=DaskTaskRunner(cluster=cluster))
    assert by_object([1, 2, 3]) == [2, 4, 6]

    by_address = doubled.with_options(task_runner=DaskTaskRunner(address=cluster.scheduler_address))
    assert by_address([1, 2, 3]) == [2, 4, 6]
