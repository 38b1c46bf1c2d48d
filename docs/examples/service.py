# From docs/tutorial/5-embed-in-fastapi.md.
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from penstock import Engine, flow, task


@task(retries=2, retry_delay_seconds=0.1)
async def fetch(city: str) -> str:
    await asyncio.sleep(0.01)  # a request to somebody else's service
    return f"{city} is sunny"


@task
def shout(text: str) -> str:
    return text.upper()  # synchronous code: submitted, it runs on the engine's threads


@flow(timeout_seconds=10)
async def forecast(cities: list[str]) -> list[str]:
    return await shout.map(await fetch.map(cities))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with Engine(grace=10):
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/forecast")
async def get_forecast(cities: str) -> list[str]:
    return await forecast(cities.split(","))
