# From docs/howto/existing-cluster.md.
import ray

from penstock import flow, task
from penstock.runners import RayTaskRunner


@task
def double(x: int) -> int:
    return 2 * x


@flow(task_runner=RayTaskRunner())
def doubled(numbers: list[int]) -> list[int]:
    return double.map(numbers).result()


# In place of yours: a session that the program has for other reasons.
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100_000_000)
try:
    assert doubled([1, 2, 3]) == [2, 4, 6]
    assert ray.is_initialized()
finally:
    ray.shutdown()
