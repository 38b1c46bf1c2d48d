# From docs/howto/deploy-a-service.md.
"""A service with flows inside: uvicorn deployed_service:app"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from penstock import Engine, flow, get_run_logger, task
from penstock.runners import ThreadPoolTaskRunner


class Metrics:
    """An event sink: counts how runs end. It is called on a thread of its own and can neither slow nor fail a run."""

    def __init__(self) -> None:
        self.ended: dict[str, int] = {}

    def emit(self, event) -> None:
        if event.state.is_final():
            self.ended[event.state.name] = self.ended.get(event.state.name, 0) + 1


@task(timeout_seconds=5)
def resize(width: int) -> int:
    get_run_logger().info("resizing to %d", width)
    return width // 2


@flow(timeout_seconds=30)
async def thumbnails(widths: list[int]) -> list[int]:
    return await resize.map(widths)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    logging.basicConfig(level=logging.INFO)
    app.state.metrics = Metrics()
    runner = ThreadPoolTaskRunner(max_workers=8)
    async with Engine(runner, sinks=[app.state.metrics], grace=20) as app.state.engine:
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/thumbnails")
async def get_thumbnails(widths: str) -> list[int]:
    return await thumbnails([int(width) for width in widths.split(",")])


@app.get("/healthz")
async def healthz() -> dict[str, object]:
    engine = app.state.engine
    return {"live": len(engine.live), "ended": app.state.metrics.ended, "events_dropped": engine.events_dropped}
