# From docs/howto/embed-in-fastapi.md.
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from fastapi import FastAPI, HTTPException

from penstock import Engine, flow, task
from penstock.futures import Future
from penstock.runners import ThreadPoolTaskRunner


@task(retries=2, retry_delay_seconds=0.5)
async def fetch(number: int) -> int:
    return number


@task
def crunch(number: int) -> int:
    return number * number  # synchronous code: submitted, it runs on the engine's threads


@flow(timeout_seconds=30)
async def report(numbers: list[int]) -> int:
    return sum(await crunch.map(await fetch.map(numbers)))


jobs: dict[UUID, Future[int]] = {}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with Engine(ThreadPoolTaskRunner(max_workers=8), grace=20) as app.state.engine:
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/report")
async def get_report(upto: int) -> int:
    return await report(list(range(upto)))


@app.post("/jobs")
async def post_job(upto: int) -> UUID:
    future = app.state.engine.start(report, list(range(upto)))
    jobs[future.id] = future
    return future.id


@app.get("/jobs/{job}")
async def get_job(job: UUID) -> dict[str, object]:
    if job not in jobs:
        raise HTTPException(404)
    state = jobs[job].state
    return {"state": state.name, "result": state.result() if state.is_completed() else None}


@app.delete("/jobs/{job}")
async def delete_job(job: UUID) -> bool:
    return jobs.pop(job).cancel()
