"""A small service: prints its address, and what became of what it had started when it was told to stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI

from penstock import Engine, flow, task

logging.basicConfig(level=logging.WARNING)
leaving = asyncio.Event()


@task
def work(number: int) -> int:
    return number


@task
async def async_work(number: int) -> int:
    await asyncio.sleep(0)
    return number


@flow
async def quick() -> int:
    return sum(await work.map(range(5))) + sum(await async_work.map(range(5, 10)))


@flow
async def slow() -> None:
    await leaving.wait()
    await work.submit(1)
    print("drained", flush=True)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with Engine(grace=10) as app.state.engine:
        yield
        leaving.set()


app = FastAPI(lifespan=lifespan)


@app.get("/flow")
async def run_flow() -> int:
    return await quick()


@app.get("/start")
async def start_flow() -> str:
    app.state.handle = app.state.engine.start(slow)
    return "started"


class Server(uvicorn.Server):
    async def startup(self, sockets: list[object] | None = None) -> None:
        await super().startup(sockets)  # type: ignore[arg-type]
        print(f"http://127.0.0.1:{self.servers[0].sockets[0].getsockname()[1]}", flush=True)


if __name__ == "__main__":
    try:
        Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", ws="none")).run()
    except KeyboardInterrupt:
        pass
