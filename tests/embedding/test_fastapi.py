"""Inside a web service: the loop is the service's own, and so is the decision what a vanished client means."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request
from recording import Recorder

from penstock import Engine, flow, task
from penstock.runners import ThreadPoolTaskRunner


class Server(uvicorn.Server):
    """A server that says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[Any] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """A real server on a free port of loopback, on the test's loop."""
    server = Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", ws="none"))
    running = asyncio.ensure_future(server._serve())
    await server.listening.wait()
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await running


async def test_a_hundred_concurrent_requests_share_the_loop_the_thread_and_a_client() -> None:
    seen: set[tuple[int, int]] = set()
    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    @task
    async def fetch(client: Any, number: int) -> int:
        seen.add((id(asyncio.get_running_loop()), threading.get_ident()))
        return int((await client().get(f"/double/{number}")).json())

    @flow
    async def handle(client: Any, number: int) -> int:
        called = await fetch(client, number)
        submitted = await fetch.map(client, [number, number + 1])
        return called + sum(submitted)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with Engine() as app.state.engine:
            yield

    app = FastAPI(lifespan=lifespan)
    client: httpx.AsyncClient

    @app.get("/double/{number}")
    async def double(number: int) -> int:
        return 2 * number

    @app.get("/flow/{number}")
    async def through_a_flow(number: int) -> int:
        return await handle(lambda: client, number)

    async with serving(app) as url:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client, httpx.AsyncClient(timeout=30) as browser:
            answers = await asyncio.gather(*(browser.get(f"{url}/flow/{number}") for number in range(100)))
    assert [answer.json() for answer in answers] == [6 * number + 2 for number in range(100)]
    assert seen == {(id(asyncio.get_running_loop()), threading.get_ident())}
    assert {number: signal.getsignal(number) for number in signals} == signals


async def _slips(stop: asyncio.Event) -> float:
    """By how much a 10 ms heartbeat was late at worst, in seconds."""
    loop, worst = asyncio.get_running_loop(), 0.0
    while not stop.is_set():
        due = loop.time() + 0.01
        await asyncio.sleep(0.01)
        worst = max(worst, loop.time() - due)
    return worst


async def test_a_heartbeat_goes_on_while_a_thousand_sync_tasks_run() -> None:
    @task
    def light(number: int) -> int:
        return sum(range(1_000)) + number

    @flow(task_runner=ThreadPoolTaskRunner(4))
    async def main() -> int:
        total = 0
        for start in range(0, 1_000, 100):
            total += sum(await light.map(range(start, start + 100)))
        return total

    def bare() -> int:
        return sum(sum(range(1_000)) + number for number in range(1_000))

    # What the machine itself is late by, with the same work on one plain thread, is none of the engine's doing.
    slips: dict[str, list[float]] = {"bare": [], "engine": []}
    for _ in range(3):
        for name in slips:
            stop = asyncio.Event()
            heart = asyncio.ensure_future(_slips(stop))
            if name == "bare":
                await asyncio.gather(*(asyncio.to_thread(bare) for _ in range(4)))
            else:
                assert await main() == 1_000 * sum(range(1_000)) + sum(range(1_000))
            stop.set()
            slips[name].append(await heart)
    assert min(slips["engine"]) < 0.05 + min(slips["bare"]), slips


@pytest.mark.parametrize("policy", ["cancel", "detach", "shield"])
async def test_a_client_that_disconnects_means_what_the_engine_says(policy: Any) -> None:
    begun, go_on, left, recorder = asyncio.Event(), asyncio.Event(), asyncio.Event(), Recorder()
    log: list[str] = []

    @task
    async def work() -> None:
        begun.set()
        await go_on.wait()

    @flow
    async def handle() -> None:
        try:
            await work.submit()
        finally:
            log.append("flow")

    app = FastAPI()

    @app.get("/")
    async def endpoint(request: Request) -> None:
        async with anyio.create_task_group() as group:

            async def watch() -> None:
                while (await request.receive())["type"] != "http.disconnect":
                    pass
                group.cancel_scope.cancel()
                if policy != "cancel":
                    asyncio.get_running_loop().call_later(0.05, go_on.set)

            group.start_soon(watch)
            await handle()
            group.cancel_scope.cancel()
        log.append("handler")
        left.set()

    async with Engine(on_caller_cancel=policy, sinks=[recorder], grace=5), serving(app) as url:
        async with httpx.AsyncClient() as browser:
            request = asyncio.ensure_future(browser.get(url))
            await begun.wait()
            request.cancel()
            await asyncio.wait([request])
        await asyncio.wait_for(left.wait(), 5)
    assert log == (["handler", "flow"] if policy == "detach" else ["flow", "handler"])
    assert recorder.endings_per_run() == {1}
    assert recorder.ends() == ({"Cancelled": 2} if policy == "cancel" else {"Completed": 2})


SERVICE = Path(__file__).parents[1] / "support" / "service.py"


def test_shutdown_drains_and_leaves_no_warning() -> None:
    process = subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error", str(SERVICE)],
        env={**os.environ, "PYTHONASYNCIODEBUG": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert httpx.get(f"{url}/start", timeout=30).json() == "started"
        assert httpx.get(f"{url}/flow", timeout=30).json() == 45
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert out.split() == ["drained"], err
    assert [line for line in err.splitlines() if "Warning" in line or "Traceback" in line or "never" in line] == []
