# From docs/howto/choose-a-runner.md.
from penstock import Engine, flow, task
from penstock.runners import ProcessPoolTaskRunner, SequentialTaskRunner, ThreadPoolTaskRunner


@task
def square(x: int) -> int:
    return x * x


@flow(task_runner=ThreadPoolTaskRunner(max_workers=4))
def squares(numbers: list[int]) -> list[int]:
    return square.map(numbers).result()


assert squares([1, 2, 3]) == [1, 4, 9]

# The same flow elsewhere: for debugging, say.
assert squares.with_options(task_runner=SequentialTaskRunner())([1, 2, 3]) == [1, 4, 9]

# One pool for several flow runs: what is handed over open is used and left open.
with ProcessPoolTaskRunner(max_workers=2) as pool:
    in_processes = squares.with_options(task_runner=pool)
    assert in_processes([1, 2]) == in_processes([-1, -2]) == [1, 4]

# For all flows of a program that name no runner.
with Engine(ThreadPoolTaskRunner(max_workers=8)):
    assert squares.with_options(task_runner=None)([3]) == [9]
