"""Every Python block of the README and of the documentation runs as it stands, and links lead somewhere."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import loopback
import pytest
import s3server

from penstock import flow, task

ROOT = Path(__file__).parents[2]
FENCE = re.compile(
    r"(?:<!-- (?P<key>no-run|name|file): (?P<text>.*?) -->\n)?```python\n(?P<code>.*?)^```", re.DOTALL | re.MULTILINE
)


class Block(NamedTuple):
    """One fenced block.

    Attributes:
        place: File and line, for people.
        code: The program, with empty lines before it so that tracebacks name the right line.
        no_run: Why it cannot run, or None.
        name: What tests call it by, or None.
    """

    place: str
    file: Path
    code: str
    no_run: str | None
    name: str | None

    def run(self) -> dict[str, Any]:
        """Execute the block as a program of its own, and give its names."""
        names: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(self.code, str(self.file), "exec"), names)
        return names


PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def blocks_of(file: Path) -> Iterator[Block]:
    """The Python blocks of a Markdown file."""
    text = file.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        line = text.count("\n", 0, found.start("code"))
        marks = {found["key"]: found["text"]}
        place = f"{file.relative_to(ROOT)}:{line + 1}"
        name = marks.get("name") or marks.get("file")
        yield Block(place, file, "\n" * line + found["code"], marks.get("no-run"), name)


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


@pytest.mark.parametrize("block", BLOCKS, ids=[block.place for block in BLOCKS])
def test_block_runs(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if block.no_run:
        pytest.skip(block.no_run)
    if "DATABASE_URL" in block.code:
        monkeypatch.setenv("DATABASE_URL", request.getfixturevalue("postgresql_url"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(block.file)])  # a program finds no arguments of pytest's
    block.run()


def test_blocks_that_do_not_run_are_rare_and_say_why() -> None:
    marked = [block for block in BLOCKS if block.no_run is not None]
    assert all(block.no_run for block in marked)
    assert len(marked) <= len(BLOCKS) // 10


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|mailto:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def named(name: str) -> Block:
    (block,) = [block for block in BLOCKS if block.name == name]
    return block


def test_the_runner_of_the_page_is_short_and_runs_flows() -> None:
    """tests/runners/test_conformance_teeth.py puts it through the suite."""
    block = named("custom_runner.py")
    assert len(block.code[block.code.index("class ") :].splitlines()) < 60
    runner = block.run()["MyRunner"]
    double = task(lambda number: 2 * number)
    assert flow(task_runner=runner())(lambda: double.map([1, 2, 3]).result())() == [2, 4, 6]


async def test_the_service_of_the_fastapi_page_answers() -> None:
    app = named("fastapi_jobs.py").run()["app"]
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as user,
    ):
        assert (await user.get("/report", params={"upto": 4})).json() == 14
        job = (await user.post("/jobs", params={"upto": 3})).json()
        while (answer := (await user.get(f"/jobs/{job}")).json())["state"] in ("Pending", "Running"):
            assert answer["result"] is None
            await asyncio.sleep(0)  # nothing on the way to an app in the same process ever suspends
        assert answer["result"] == 5
        assert (await user.delete(f"/jobs/{job}")).json() is False
        assert (await user.get(f"/jobs/{job}")).status_code == 404


async def test_the_service_of_the_readme_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    service = named("service")
    with loopback.serve({"/prices/A": {"price": 1.5}, "/prices/B": {"price": 2.0}}) as prices:
        prices.failures["/prices/B"] = 2  # the task has two retries
        monkeypatch.setenv("PRICES_URL", prices.url)
        app = service.run()["app"]
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://app") as user,
        ):
            answer = await user.get("/worth", params={"symbols": "A,B,A"})
    assert answer.json() == 5.0
    assert prices.requests == {"/prices/A": 2, "/prices/B": 3}


async def test_the_tutorials_service_answers() -> None:
    app = named("service.py").run()["app"]
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as user,
    ):
        answer = await user.get("/forecast", params={"cities": "Oslo,Lima"})
    assert answer.json() == ["OSLO IS SUNNY", "LIMA IS SUNNY"]


async def test_the_deployed_service_counts() -> None:
    app = named("deployed_service.py").run()["app"]
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as user,
    ):
        assert (await user.get("/thumbnails", params={"widths": "10,20"})).json() == [5, 10]
        while (health := (await user.get("/healthz")).json())["ended"] != {"Completed": 3}:
            await asyncio.sleep(0.01)  # sinks are served by a thread of their own
        assert (health["live"], health["events_dropped"]) == (0, 0)


@pytest.mark.leaks("fsspec keeps one thread for all its filesystems")
def test_the_pipeline_of_the_s3_page_keeps_its_results_on_s3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with s3server.serve(tmp_path) as server:
        monkeypatch.setenv("PIPELINE_RESULTS", server.url_for_claims("pipeline"))
        monkeypatch.setenv("PIPELINE_STORAGE_OPTIONS", json.dumps(server.storage_options))
        for _ in range(2):
            named("s3_pipeline.py").run()
    assert capsys.readouterr().out == "10000 from 5 days read anew\n10000 from 0 days read anew\n"


def test_the_suite_of_the_store_page_passes(tmp_path: Path) -> None:
    """As the page says, with pytest; the page itself is about a filesystem that nobody else has."""
    program = ROOT / "docs" / "examples" / "custom_store.py"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "come_back or corrupt"]
    done = subprocess.run(
        [*command, str(program)], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d+ passed", done.stdout)
