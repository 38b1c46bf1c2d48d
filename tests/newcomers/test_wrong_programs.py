"""The wrong programs that newcomers write, as scripts: each gets one clear answer, or simply works.

A script is what a newcomer runs, so each is a process of its own, with a home folder of its own and everything at its
default, the history included. An answer is the end of what the script writes to standard error.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from newcomer import Program, environment, run_script, start, write

PROGRAMS = {
    "forgot await": Program(
        """
        import asyncio
        from penstock import flow

        @flow
        async def number():
            return 20

        async def main():
            print(number() + 1)

        asyncio.run(main())
        """,
        answer=r"TypeError: unsupported operand type\(s\) for \+: 'coroutine' and 'int'",
        says="RuntimeWarning: coroutine 'number' was never awaited",
    ),
    "asked for the result in the loop": Program(
        """
        import asyncio
        from penstock import flow, task

        @task
        async def number():
            return 20

        @flow
        async def program():
            return number.submit().result()

        asyncio.run(program())
        """,
        answer=r"WouldBlock: .*would block the event loop\. Write `await future`",
    ),
    "calculated with a future": Program(
        """
        from penstock import flow, task

        @task
        def number():
            return 20

        @flow
        def program():
            return number.submit() + 1

        program()
        """,
        answer=r"TypeError: unsupported operand type\(s\) for \+: 'Future' and 'int'",
    ),
    "a lock for another process": Program(
        """
        import threading
        from penstock import flow, task
        from penstock.runners import ProcessPoolTaskRunner

        class Session:
            def __init__(self):
                self._lock = threading.Lock()

        @task
        def use(session):
            return 1

        @flow(task_runner=ProcessPoolTaskRunner(1))
        def program():
            return use.submit(Session()).result()

        program()
        """,
        answer=r"SerializationError: task 'use' was not sent .*`?session\._lock`?.*cannot pickle '_thread\.lock'",
    ),
    "a lock as a result": Program(
        """
        import threading
        from penstock import flow, task
        from penstock.runners import ProcessPoolTaskRunner

        @task
        def make():
            return {"lock": threading.Lock()}

        @flow(task_runner=ProcessPoolTaskRunner(1))
        def program():
            return make.submit().result()

        program()
        """,
        answer=r"SerializationError: task 'make' ran, but its result cannot be brought home .*'_thread\.lock'",
    ),
    "a lambda and no main guard": Program(
        """
        from penstock import flow, task
        from penstock.runners import ProcessPoolTaskRunner

        @task
        def apply(function, value):
            return function(value)

        @flow(task_runner=ProcessPoolTaskRunner(1))
        def program():
            return apply.submit(lambda value: value * 2, 21).result()

        print(program())
        """,
        prints="42",
    ),
    "no main guard for Dask": Program(
        """
        from penstock import flow, task
        from penstock.runners import DaskTaskRunner

        @task
        def double(number):
            return 2 * number

        @flow(task_runner=DaskTaskRunner(cluster_kwargs={"n_workers": 1}))
        def program():
            return double.submit(1).result()

        program()
        """,
        answer=r"RunnerError: DaskTaskRunner could not start .*[^.]\. In a script .* must stand under `if __name__ ==",
        says="RunnerError: A worker process is importing the script, which started a cluster again. In a script",
    ),
    "changed an argument that a task has": Program(
        """
        from penstock import flow, task
        from penstock.runners import SequentialTaskRunner

        @task
        def total(values):
            return sum(values)

        @flow(task_runner=SequentialTaskRunner())
        def program():
            values, totals = [], []
            for number in (1, 2, 3):
                values.append(number)
                totals.append(total.submit(values))
            return totals

        print(program())
        """,
        prints="[1, 3, 6]",
    ),
    "maps of different lengths": Program(
        """
        from penstock import flow, task

        @task
        def add(a, b):
            return a + b

        @flow
        def program():
            return add.map([1, 2, 3], [1, 2]).result()

        program()
        """,
        answer=r"MappingLengthMismatch: .*a: 3, b: 2.*unmapped\(\.\.\.\)",
    ),
    "mapped over one value": Program(
        """
        from penstock import flow, task

        @task
        def double(a):
            return 2 * a

        @flow
        def program():
            return double.map(3).result()

        program()
        """,
        answer=r"MappingMissingIterable: .*got nothing to map over\. Give at least one list",
    ),
    "an extra that is not installed": Program(
        """
        import sys
        sys.modules["distributed"] = None  # as if it were not there
        from penstock import flow, task
        from penstock.runners import DaskTaskRunner

        @task
        def number():
            return 1

        @flow(task_runner=DaskTaskRunner())
        def program():
            return number.submit().result()

        program()
        """,
        answer=r"MissingExtra: .*pip install 'penstock\[dask\]'",
    ),
    "a store with a bad URL": Program(
        """
        from penstock import flow, task

        @task(persist_result=True, result_storage="s4://bucket/results")
        def number():
            return 1

        @flow
        def program():
            return number()

        program()
        """,
        answer=r"(ConfigurationError|ResultError): .*s4",
    ),
    "an argument of the wrong type": Program(
        """
        from penstock import flow

        @flow
        def program(count: int):
            return count + 1

        program("many")
        """,
        answer=r"ParameterTypeError: .*count.*",
    ),
    "a forgotten argument": Program(
        """
        from penstock import flow, task

        @task
        def add(a, b):
            return a + b

        @flow
        def program():
            return add.submit(1).result()

        program()
        """,
        answer=r"ParameterBindError: .*'?b'?",
    ),
    "a misspelt option": Program(
        """
        from penstock import task

        @task(retires=3)
        def number():
            return 1
        """,
        answer=r"ConfigurationError: .*retires.*retries",
    ),
    "pools within pools": Program(
        """
        from penstock import flow, task
        from penstock.runners import ProcessPoolTaskRunner

        @task
        def square(value):
            return value * value

        @flow(task_runner=ProcessPoolTaskRunner(1))
        def inner(values):
            return sum(square.map(values).result())

        @task
        def work(values):
            return inner(values)

        @flow(task_runner=ProcessPoolTaskRunner(1))
        def program():
            return work.submit([1, 2, 3]).result()

        print(program())
        """,
        prints="14",
    ),
    "endless recursion": Program(
        """
        from penstock import flow

        @flow
        def program(depth):
            return program(depth + 1)

        program(0)
        """,
        answer=r"RecursionError: maximum recursion depth exceeded",
    ),
    "recursion through one thread": Program(
        """
        from penstock import flow, task
        from penstock.runners import ThreadPoolTaskRunner

        @task
        def down(depth):
            return 0 if depth == 0 else 1 + down.submit(depth - 1).result()

        @flow(task_runner=ThreadPoolTaskRunner(1))
        def program():
            return down.submit(30).result()

        print(program())
        """,
        prints="30",
    ),
    "a huge result": Program(
        """
        from penstock import flow, task
        from penstock.runners import ProcessPoolTaskRunner

        @task
        def make():
            return bytes(200_000_000)

        @flow(task_runner=ProcessPoolTaskRunner(1))
        def program():
            return len(make.submit().result())

        print(program())
        """,
        prints="200000000",
    ),
    "returned the futures": Program(
        """
        from penstock import flow, task

        @task
        def double(value):
            return 2 * value

        @flow
        def program():
            return [double.submit(value) for value in (1, 2)]

        print(program())
        """,
        prints="[2, 4]",
    ),
    "never looked at what failed": Program(
        """
        from penstock import flow, task

        @task
        def fail():
            raise ValueError("bad row 17")

        @flow
        def program():
            fail.submit()

        program()
        """,
        answer=r"UnhandledFailures: .*fail.*",
    ),
    "submitted outside of a flow": Program(
        """
        from penstock import task

        @task
        def double(value):
            return 2 * value

        print(double.submit(21).result())
        """,
        prints="42",
    ),
    "a logger outside of a run": Program(
        """
        from penstock import get_run_logger, task

        @task
        def log():
            get_run_logger().info("hello")

        log.fn()
        """,
        answer=r"MissingContextError: .*outside of a flow or task run.*",
    ),
    "blocked for itself": Program(
        """
        from penstock import flow, task

        box = []

        @task
        def first():
            while len(box) < 2:
                pass
            return box[1].result()

        @task
        def second():
            while len(box) < 2:
                pass
            return box[0].result()

        @flow
        def program():
            box.append(first.submit())
            box.append(second.submit())
            return [future.result() for future in box]

        program()
        """,
        answer=r"DeadlockError: .*waits for.*",
    ),
    "continued what never was": Program(
        """
        from penstock import resume

        resume("018f2a7e-0000-8000-8000-000000000000")
        """,
        answer=r"RunNotFound: .*",
    ),
    "a home that is no folder": Program(
        """
        from penstock import flow

        @flow
        def program():
            return 1

        print(program())
        """,
        prints="1",
        environment={"PENSTOCK_HOME": "/dev/null/home"},
    ),
    "a setting that is no number": Program(
        """
        from penstock import flow, task

        @task(persist_result=True)
        def number():
            return 1

        @flow
        def program():
            return number()

        program()
        """,
        answer=r"ConfigurationError: .*PENSTOCK_PERSIST_RESULTS.*'maybe'.*give true or false",
        environment={"PENSTOCK_PERSIST_RESULTS": "maybe"},
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_wrong_program_gets_a_clear_answer_or_works(name: str, tmp_path: Path) -> None:
    PROGRAMS[name].check(tmp_path)


def test_prints_from_many_threads_are_whole_lines_where_they_are_logged(tmp_path: Path) -> None:
    script = """
    from penstock import flow, task

    @task
    def say(number):
        print(f"line {number:03d}")

    @flow(log_prints=True)
    def program():
        say.map(range(100)).wait()

    program()
    """
    done = run_script(script, tmp_path, {})
    said = [line.rpartition(" - ")[2] for line in done.stderr.splitlines() if " - line " in line]
    assert sorted(said) == [f"line {number:03d}" for number in range(100)]


def test_two_programs_at_once_share_one_history(tmp_path: Path) -> None:
    script = """
    from penstock import flow, task

    @task
    def double(value):
        return 2 * value

    @flow
    def program():
        return sum(double.map(range(200)).result())

    print(program())
    """
    path = write(script, tmp_path)
    running = [start(path, tmp_path, {}) for _ in range(3)]
    for process in running:
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert output == "39800\n"
        assert "locked" not in errors
    listing = subprocess.run(
        [sys.executable, "-m", "penstock", "runs", "ls", "--json"],
        env=environment(tmp_path, {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert listing.stdout.count('"program"') == 3
