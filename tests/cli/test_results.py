"""``penstock results`` and ``penstock cache``."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from penstock.cli.exits import Exit
from penstock.results import ResultStore


def test_results_are_listed_shown_and_found_by_the_beginning_of_their_key(recorded) -> None:
    listed = recorded("results", "ls", "--json").json
    assert [facts["type"] for facts in listed].count("int") == 3
    assert [facts["created"] for facts in listed] == sorted((facts["created"] for facts in listed), reverse=True)
    limited = recorded("results", "ls", "--json", "--limit", "2").json
    assert len(limited) == 2
    assert all(facts in listed for facts in limited)
    first = next(facts for facts in listed if facts["type"] == "int")
    table = recorded("results", "ls").out.splitlines()
    assert table[0].split() == ["WRITTEN", "TYPE", "SIZE", "RUN", "KEY"]
    assert any(first["key"] in line for line in table)
    shown = recorded("results", "show", first["key"][:16], "--value", "--json").json
    assert shown["key"] == first["key"]
    assert shown["value"] in (0, 1, 4)
    assert shown["provenance"]["definition"] == "square"
    said = recorded("results", "show", first["key"]).out
    assert first["key"] in said
    assert "inputs.x" in said
    assert "\nvalue" not in said


def test_a_key_that_is_no_ones_or_anyones(recorded) -> None:
    answer = recorded("results", "show", "nobodys")
    assert answer.code == Exit.NOT_FOUND
    assert "begins with 'nobodys'" in answer.err
    assert "PENSTOCK_RESULTS names another store" in answer.err
    answer = recorded("results", "show", "v1-")
    assert answer.code == Exit.NOT_FOUND
    assert answer.err.count("\n  v1-") > 1


def test_what_has_expired_is_deleted_when_asked_for(penstock) -> None:
    store = ResultStore(penstock.home / "results")
    store.write("old", "reports/old", expires=timedelta(microseconds=1))
    store.write("new", "reports/new")
    (penstock.home / "results" / "damaged.result").write_bytes(b"no result at all")
    would = penstock("results", "gc", "--dry-run", "--json").json
    assert (would["expired"], would["damaged"], would["dry_run"]) == (["reports/old"], ["damaged"], True)
    assert store.keys() == ["damaged", "reports/new", "reports/old"]
    said = penstock("results", "gc").out
    assert said.startswith("Deleted 1 expired results")
    assert "damaged is no result and stays" in said.replace("  ", " ")
    assert store.keys() == ["damaged", "reports/new"]
    assert "damaged" in penstock("results", "ls").out
    answer = penstock("results", "show", "damaged")
    assert answer.code == Exit.UNUSABLE


def test_only_keys_that_begin_so_and_writers_that_are_silent_for_so_long(penstock) -> None:
    store = ResultStore(penstock.home / "results")
    for key in ("reports/old", "pictures/old"):
        store.write("old", key, expires=timedelta(microseconds=1))
    for name, minutes in (("dead", 10), ("slow", 2)):
        left = penstock.home / "results" / f".{name}.tmp"
        left.write_bytes(b"half of")
        os.utime(left, (time.time() - 60 * minutes,) * 2)
    assert [facts["key"] for facts in penstock("results", "ls", "--prefix", "rep", "--json").json] == ["reports/old"]
    swept = penstock("results", "gc", "--prefix", "reports/", "--json").json
    assert (swept["expired"], swept["orphans"]) == (["reports/old"], [])
    swept = penstock("results", "gc", "--orphan-age", "5m", "--json").json
    assert (swept["expired"], swept["orphans"]) == (["pictures/old"], [".dead.tmp"])


@pytest.mark.parametrize("where", ["nowhere://x", "/proc/nowhere/results"])
def test_a_store_that_cannot_be_used_says_so(where: str, penstock) -> None:
    command = penstock.given(PENSTOCK_RESULTS=where)
    answer = command("results", "show", "k")
    assert answer.code != Exit.DONE
    assert answer.err.startswith("Error: "), answer
    assert "Traceback" not in answer.err


def test_what_is_no_longer_a_part_of_the_key_is_named(penstock, tmp_path: Path) -> None:
    task = (
        "from penstock import flow, task\nfrom penstock.cache_policies import INPUTS\n"
        "@task(cache_policy=INPUTS)\ndef work({0}):\n    return x\n"
        "@flow\ndef run():\n    return work(1)\n"
    )
    (tmp_path / "job.py").write_text(task.format("x, factor=2"))
    assert penstock("run", "job.py:run", cwd=tmp_path).code == Exit.DONE
    (tmp_path / "job.py").write_text(task.format("x"))
    said = penstock("cache", "explain", "job.py:work", "-p", "x=1", cwd=tmp_path).out
    assert "not in this call  (changed)" in said


def test_the_cache_explains_itself(recorded, flows) -> None:
    hit = recorded("cache", "explain", flows("square"), "-p", "x=2", "--json").json
    assert hit["hit"] is True
    miss = recorded("cache", "explain", flows("square"), "-p", "x=12", "--json").json
    assert miss["hit"] is False
    assert miss["changed"] == ["inputs.x"]
    said = recorded("cache", "explain", flows("square"), "-p", "x=12").out
    assert "miss" in said
    assert "(changed)" in said
    assert "stores no results" in recorded("cache", "explain", flows("shaky"), "-p", "x=1").out
    answer = recorded("cache", "explain", flows("square"), "-p", "x=many")
    assert answer.code == Exit.USAGE
    assert "parameter 'x'" in answer.err
    answer = recorded("cache", "explain", flows("squares"))
    assert answer.code == Exit.USAGE
    assert "is a Flow and not a task" in answer.err
