# From docs/howto/ray.md.
from penstock import flow, task
from penstock.runners import RayTaskRunner


@task
def square(number: int) -> int:
    return number * number


@flow(task_runner=RayTaskRunner(init_kwargs={"num_cpus": 2}))
def squares() -> int:
    return sum(future.result() for future in square.map(range(100)))


if __name__ == "__main__":
    print(squares())
