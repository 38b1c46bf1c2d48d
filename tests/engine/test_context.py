"""What code inside a run can see: context variables, runtime facts, its logger, its prints."""

from __future__ import annotations

import asyncio
import builtins
import io
import logging
import subprocess
import sys
import threading
from contextvars import ContextVar
from typing import Any

import pytest
from worlds import World

from penstock import Engine, flow, get_run_logger, runtime, task
from penstock.errors import MissingContextError
from penstock.runners import ThreadPoolTaskRunner
from penstock.testing import penstock_test_harness

WATCHDOG = 5.0

request_id: ContextVar[str] = ContextVar("request_id", default="none")


class TestContextVariables:
    """The caller's context variables, as they were at the call."""

    def test_cross_into_tasks(self, world: World, engine: Engine) -> None:
        async def read() -> str:
            return request_id.get()

        sync, own = task(lambda: request_id.get()), task(world.function(read))

        async def body() -> Any:
            request_id.set("seven")
            futures = [sync.submit(), own.submit()]
            request_id.set("eight")
            return [await world.get(future) for future in futures], sync(), await world.get(own())

        assert world.run(flow(world.function(body))) == (["seven", "seven"], "eight", "eight")

    def test_that_a_submitted_task_sets_stay_with_it(self, world: World, engine: Engine) -> None:
        async def write() -> None:
            request_id.set("changed")

        writer = task(world.function(write))

        async def body() -> Any:
            request_id.set("mine")
            await world.get(writer.submit())
            return request_id.get()

        assert world.run(flow(world.function(body))) == "mine"

    def test_survive_a_retry(self, world: World, engine: Engine) -> None:
        seen: list[str] = []

        async def read() -> str:
            seen.append(request_id.get())
            if len(seen) == 1:
                raise ValueError
            return seen[-1]

        reader = task(retries=1, retry_delay_seconds=60)(world.function(read))

        async def body() -> Any:
            request_id.set("mine")
            return await world.get(reader.submit())

        assert world.run(flow(world.function(body))) == "mine"
        assert seen == ["mine", "mine"]

    def test_of_concurrent_flows_do_not_mix(self, engine: Engine) -> None:
        @task
        async def read() -> str:
            await asyncio.sleep(0)
            return request_id.get()

        @flow
        async def one(name: str) -> Any:
            request_id.set(name)
            await asyncio.sleep(0)
            return [await read(), await read.submit(), await task(lambda: request_id.get()).submit()]

        async def main() -> Any:
            return await asyncio.gather(*(one(str(n)) for n in range(50)))

        assert asyncio.run(main()) == [[str(n)] * 3 for n in range(50)]


class TestRuntime:
    """Facts about the runs around the caller."""

    def test_inside(self, world: World, engine: Engine) -> None:
        async def facts_of_task(x: int, y: int = 2) -> Any:
            t, f = runtime.task_run, runtime.flow_run
            return t.name, t.task_name, t.parameters, t.run_count, f.name, len(t.id or "")

        work = task(task_run_name="the-task")(world.function(facts_of_task))

        async def body(a: int) -> Any:
            f = runtime.flow_run
            own = f.name, f.flow_name, f.flow_version, f.parameters, f.run_count, f.parent_flow_run_id
            return own, await world.get(work(1)), await world.get(work.submit(1))

        run = flow(flow_run_name="the-flow", version="7")(world.function(body))
        own, called, submitted = world.run(lambda: run("5"))
        assert own == ("the-flow", "body", "7", {"a": 5}, 1, None)
        assert called == submitted == ("the-task", "facts_of_task", {"x": 1, "y": 2}, 1, "the-flow", 36)

    def test_count_attempts(self, engine: Engine) -> None:
        @task(retries=2)
        def work() -> int:
            if runtime.task_run.run_count < 3:
                raise ValueError
            return runtime.task_run.run_count

        assert flow(lambda: work.submit().result())() == 3

    def test_outside_are_empty(self) -> None:
        f, t = runtime.flow_run, runtime.task_run
        assert (f.id, f.name, f.parameters, f.tags, f.run_count) == (None, None, {}, frozenset(), 0)
        assert (t.id, t.name, t.parameters, t.tags, t.run_count) == (None, None, {}, frozenset(), 0)


class TestRunLogger:
    """``get_run_logger`` speaks for the run that asks."""

    def test_names_the_run(self, world: World, engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "penstock")

        async def log() -> None:
            get_run_logger().info("from the task %d%%", 50)

        work = task(task_run_name="the-task-%s")(world.function(log))

        async def body() -> None:
            get_run_logger().warning("from the flow", extra={"mine": 1})
            await world.get(work())
            await world.get(work.submit())

        world.run(flow(flow_run_name="the-flow")(world.function(body)))
        records = [r for r in caplog.records if "from the" in r.getMessage()]
        assert [(r.name, r.levelname, r.getMessage()) for r in records] == [
            ("penstock.flow_runs", "WARNING", "Flow run 'the-flow' - from the flow"),
            ("penstock.task_runs", "INFO", "Task run 'the-task-%s' - from the task 50%"),
            ("penstock.task_runs", "INFO", "Task run 'the-task-%s' - from the task 50%"),
        ]
        assert records[0].mine == 1  # type: ignore[attr-defined]
        assert {r.run_name for r in records} == {"the-flow", "the-task-%s"}  # type: ignore[attr-defined]

    def test_outside_of_a_run_says_what_to_do(self) -> None:
        with pytest.raises(MissingContextError, match=r"logging\.getLogger"):
            get_run_logger()


class TestLogPrints:
    """``log_prints`` turns the prints of a run into log lines, and nobody else's."""

    @pytest.mark.parametrize("made", [flow, task])
    def test_of_a_run(
        self, world: World, engine: Engine, made: Any, caplog: pytest.LogCaptureFixture, capsys: Any
    ) -> None:
        caplog.set_level(logging.INFO, "penstock")

        async def speak() -> None:
            print("hello", 5, sep="-")
            print("to stderr", file=sys.stderr)
            print("into a file", file=io.StringIO())

        run = made(log_prints=True)(world.function(speak))

        async def body() -> None:
            print("not captured")
            await world.get(run())

        world.run(flow(world.function(body)))
        assert sum(message.endswith(" - hello-5") for message in caplog.messages) == 1
        out, err = capsys.readouterr()
        assert out == "not captured\n"
        assert "to stderr" in err
        assert not any("stderr" in message or "file" in message for message in caplog.messages)

    def test_is_inherited_and_can_be_refused(
        self, engine: Engine, caplog: pytest.LogCaptureFixture, capsys: Any
    ) -> None:
        caplog.set_level(logging.INFO, "penstock")
        heir, refuser = task(lambda: print("heir")), task(log_prints=False)(lambda: print("refuser"))

        @flow(log_prints=True)
        def run() -> None:
            heir()
            heir.submit().result()
            refuser()
            refuser.submit().result()

        run()
        assert sum("heir" in message for message in caplog.messages) == 2
        assert capsys.readouterr().out == "refuser\nrefuser\n"

    def test_of_overlapping_runs_on_threads_do_not_mix(self, caplog: pytest.LogCaptureFixture, capsys: Any) -> None:
        caplog.set_level(logging.INFO, "penstock")
        barrier = threading.Barrier(4, timeout=WATCHDOG)

        def speak(name: str) -> None:
            barrier.wait()
            for number in range(50):
                print(f"{name} {number}")

        loud, quiet = task(log_prints=True)(speak), task(speak)
        with penstock_test_harness(ThreadPoolTaskRunner(4)):

            @flow
            def run() -> None:
                futures = [
                    *(loud.with_options(task_run_name=f"{n}").submit(n) for n in ("loud-a", "loud-b")),
                    *(quiet.submit(name) for name in ("quiet-a", "quiet-b")),
                ]
                for future in futures:
                    future.result()

            run()
        printed = capsys.readouterr().out.splitlines()
        assert sorted(printed) == sorted(f"quiet-{x} {n}" for x in "ab" for n in range(50))
        for name in ("loud-a", "loud-b"):
            lines = [m for m in caplog.messages if m.startswith(f"Task run {name!r} - loud")]
            assert lines == [f"Task run {name!r} - {name} {n}" for n in range(50)]

    def test_leaves_print_as_it_was_for_everybody_else(self, engine: Engine, capsys: Any) -> None:
        flow(log_prints=True)(lambda: None)()
        print("after", end="!")
        assert capsys.readouterr().out == "after!"
        assert builtins.print.__doc__


def run_script(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", text], capture_output=True, text=True, timeout=30, check=False
    )


SCRIPT = """
import logging
{before}
from penstock import flow, get_run_logger
@flow(flow_run_name="mine")
def run():
    get_run_logger().info("hello")
run()
print(sorted(type(h).__name__ for h in logging.getLogger().handlers), len(logging.getLogger("penstock").handlers))
"""


class TestHandlers:
    """A script shows what it does; an application's logging is left alone."""

    def test_a_script_sees_its_lines(self) -> None:
        done = run_script(SCRIPT.format(before=""))
        assert done.returncode == 0, done.stderr
        assert "| INFO    | Flow run 'mine' - hello" in done.stderr
        assert done.stdout == "[] 1\n"

    @pytest.mark.parametrize(
        "before",
        [
            "logging.basicConfig(level=logging.INFO)",
            "logging.getLogger('penstock').addHandler(logging.NullHandler())",
            "logging.getLogger('penstock').setLevel(logging.ERROR)",
        ],
    )
    def test_an_application_that_configured_logging_gets_no_handler_of_ours(self, before: str) -> None:
        done = run_script(SCRIPT.format(before=before))
        assert done.returncode == 0, done.stderr
        assert "| INFO" not in done.stderr
        ours = 1 if "NullHandler" in before else 0
        assert done.stdout.endswith(f" {ours}\n")
        assert done.stderr.count("hello") == (1 if "basicConfig" in before else 0)

    def test_one_that_configures_it_later_gets_each_line_once(self) -> None:
        done = run_script(
            SCRIPT.format(before="") + "logging.basicConfig(level=logging.INFO, format='APP %(message)s')\nrun()\n"
        )
        assert done.stderr.count("APP Flow run 'mine' - hello") == 1
        assert done.stderr.count("| INFO    | Flow run 'mine' - hello") == 1

    def test_the_root_logger_is_never_touched(self) -> None:
        root = logging.getLogger()
        before = (root.level, list(root.handlers), list(root.filters))
        flow(log_prints=True)(lambda: None)()
        assert (root.level, list(root.handlers), list(root.filters)) == before
