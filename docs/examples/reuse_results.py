# From docs/howto/results-and-caching.md.
from penstock import Engine, explain_cache, flow, task
from penstock.cache_policies import INPUTS, TASK_SOURCE

executed = []


@task(cache_policy=INPUTS + TASK_SOURCE)
def square(x: int) -> int:
    executed.append(x)
    return x * x


@flow
def squares(numbers: list[int]) -> list[int]:
    return square.map(numbers).result()


with Engine(results="results"):  # a folder
    assert squares([1, 2]) == [1, 4]
    assert squares([2, 3]) == [4, 9]
    assert sorted(executed) == [1, 2, 3]
    assert square(2, return_state=True).name == "Cached"

    # Why would a call not be answered from the store?
    assert explain_cache(square, 3).hit
    assert explain_cache(square, 4).changed == ("inputs.x",)
