# From docs/howto/background-jobs.md.
"""Jobs behind a service: uvicorn jobs_service:app"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from fastapi import FastAPI, HTTPException

from penstock import Engine, flow, resume, task
from penstock.errors import RunNotFound
from penstock.history import History, RunQuery, RunRecord
from penstock.results import ResultStore

history = History("jobs.db")
results = ResultStore("jobs-results")


@task(retries=2, retry_delay_seconds=1)
def square(number: int) -> int:
    return number * number


@flow(persist_result=True)
async def squares(upto: int) -> int:
    return sum(await square.map(range(upto)))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with Engine(history=history, results=results, grace=20) as app.state.engine:
        ended_badly = RunQuery(states=["crashed", "cancelled"], roots_only=True, limit=None)
        found = await asyncio.to_thread(history.runs, ended_badly)
        going_on = [asyncio.ensure_future(go_on(run)) for run in found if was_cut_off(run)]
        yield
    await asyncio.gather(*going_on)


app = FastAPI(lifespan=lifespan)


@app.post("/jobs")
async def post_job(upto: int) -> UUID:
    return app.state.engine.start(squares, upto).id


@app.get("/jobs/{job}")
async def get_job(job: UUID) -> dict[str, object]:
    run = await asyncio.to_thread(newest, job)
    value = await results.aio.read(run.result["key"]) if run.result else None
    return {"state": run.state, "message": run.message, "value": value}


async def go_on(run: RunRecord) -> None:
    """Resume a job; that it fails again is no reason for the service not to start, or that its code has changed."""
    try:
        await resume(run.id, history=history)
    except Exception as error:
        logging.getLogger(__name__).warning("job %s does not go on: %s", run.id, error)


def was_cut_off(run: RunRecord) -> bool:
    """Whether the service's end was the run's, and nobody goes on with it."""
    return run.resumed_by is None and (run.type == "CRASHED" or "shutdown" in (run.message or ""))


def newest(job: UUID) -> RunRecord:
    """The job, or the run that goes on with it."""
    try:
        run = history.run(job)
    except RunNotFound:
        raise HTTPException(404) from None
    while run.resumed_by is not None:
        run = history.run(run.resumed_by)
    return run
