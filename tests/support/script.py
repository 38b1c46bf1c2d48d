"""A script to be interrupted: its flow writes every state to a file, and its tasks take as long as they are let."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

from penstock import Engine, flow, runtime, task, wait

KIND, STATES, SECONDS = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])


def say(word: str) -> None:
    """One write, so that threads do not share a line."""
    os.write(1, f"{word}\n".encode())


class ToFile:
    def emit(self, event: Any) -> None:
        with STATES.open("a") as file:
            file.write(f"{event.run.kind} {event.run.name} {event.state.name}\n")


@task
def sleeper(number: int) -> int:
    say("began")
    time.sleep(SECONDS)
    return number


@task
async def async_sleeper(number: int) -> int:
    say("began")
    try:
        await asyncio.sleep(SECONDS)
    finally:
        say("finally")
    return number


@flow
def sync_main() -> None:
    futures = sleeper.map(range(100))
    say("ready")
    wait(futures)


@flow
async def async_main() -> None:
    await async_sleeper.map(range(4))


def main() -> None:
    with Engine(sinks=[ToFile()], grace=4):
        asyncio.run(async_main()) if KIND == "async" else sync_main()  # type: ignore[func-returns-value]


if __name__ == "__main__":
    if len(sys.argv) > 4:
        with runtime.stop_on_sigterm():
            main()
    else:
        main()
