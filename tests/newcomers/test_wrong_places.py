"""Stores that newcomers name wrongly: each is refused in one sentence that names it, and nothing is made elsewhere."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
import s3server
from newcomer import Program

PROGRAM = """
import json, os
from penstock import Engine, flow, task
from penstock.results import ResultStore

@task(persist_result=True)
def number():
    return 1

@flow
def program():
    return number()

store = ResultStore({url!r}, storage_options={options!r})
with Engine(results=store):
    print(program())
"""

NOBODY = "http://127.0.0.1:9"
KEYS = {"key": "k", "secret": "s"}
HASTE = {"connect_timeout": 1, "retries": {"total_max_attempts": 1}}

PLACES: dict[str, tuple[str, dict[str, object], str]] = {
    "no bucket": ("s3://", KEYS, r"ConfigurationError: 's3://' names no bucket: write s3://bucket/prefix"),
    "an empty variable as the bucket": ("s3:///results", KEYS, r"ConfigurationError: 's3:///results' names no bucket"),
    "one slash": ("s3:/bucket/results", KEYS, r"ConfigurationError: 's3:/bucket/results' is neither a URL, as s3://"),
    "no slash": ("file:results", {}, r"ConfigurationError: 'file:results' is neither a URL, as file://"),
    "no credentials": (
        "s3://bucket/results",
        {"endpoint_url": NOBODY},
        r"ResultError: .*s3://bucket/results.* could not be used: .*credentials.*storage_options",
    ),
    "an endpoint where nobody listens": (
        "s3://bucket/results",
        {**KEYS, "endpoint_url": NOBODY, "config_kwargs": HASTE},
        r"ResultError: .*s3://bucket/results.* could not be used: EndpointConnectionError: .*http://127.0.0.1:9/",
    ),
    "an endpoint without http": (
        "s3://bucket/results",
        {**KEYS, "endpoint_url": "127.0.0.1:9"},
        r"ResultError: .*s3://bucket/results.* could not be used: .*Invalid endpoint: 127.0.0.1:9.*storage_options",
    ),
    "an option that nobody knows": (
        "s3://bucket/results",
        {"access_key": "k", "endpoint_url": NOBODY},
        r"ResultError: .*s3://bucket/results.* could not be used: .*'access_key'.*storage_options",
    ),
    "a folder that is a file": (
        "/dev/null/results",
        {},
        r"ResultError: .*file:///dev/null/results.* could not be used: NotADirectoryError",
    ),
}


@pytest.mark.parametrize("name", PLACES)
def test_a_wrong_place_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url, options, answer = PLACES[name]
    monkeypatch.chdir(tmp_path)
    text = PROGRAM.format(url=url, options=options)
    Program(text, answer).check(tmp_path, {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null"})
    assert {path.name for path in tmp_path.iterdir()} <= {"home", "program.py"}


def test_a_history_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    text = "from penstock import flow\n\nflow(lambda: 1, name='one')()\n"
    answer = rf"ConfigurationError: history='{tmp_path}' is a folder: name a file in it, {tmp_path}/history.db say"
    Program(text, answer).check(tmp_path, {"PENSTOCK_HISTORY": str(tmp_path)})


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Generator[s3server.S3Server]:
    with s3server.serve(tmp_path_factory.mktemp("s3")) as server:
        yield server


def test_a_misspelt_bucket_is_not_made(s3: s3server.S3Server, tmp_path: Path) -> None:
    text = PROGRAM.format(url="s3://bukket/results", options=s3.storage_options)
    Program(text, r"ResultError: .*s3://bukket/results.* could not be used: .*no bucket 'bukket'").check(tmp_path)
    assert [path.name for path in s3.folder.iterdir()] == ["bucket"]
