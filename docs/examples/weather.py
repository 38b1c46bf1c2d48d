# From docs/tutorial/1-first-flow.md.
from penstock import flow, task


@task
def read(city: str) -> list[float]:
    readings = {"Oslo": [-3.5, -1.0, 0.5], "Cairo": [18.0, 21.5, 24.0]}
    return readings[city]


@task
def mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers)


@flow
def weather(cities: list[str]) -> dict[str, float]:
    return {city: mean(read(city)) for city in cities}


if __name__ == "__main__":
    print(weather(["Oslo", "Cairo"]))
