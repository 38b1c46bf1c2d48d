"""The log lines of runs are in the history, and nothing else is made of logging."""

from __future__ import annotations

import logging

import pytest
from watching import newest, recording

from penstock import Engine, flow, get_run_logger
from penstock.history import History, RunQuery


def test_lines_of_runs_are_recorded(history: History, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "penstock")

    @flow(log_prints=True, name="main")
    def main() -> None:
        print("printed")
        get_run_logger().debug("not this")
        get_run_logger().info("%s %d", "formatted", 7)
        logging.getLogger("penstock.elsewhere").warning("not a run's")
        try:
            raise ValueError("broken")
        except ValueError:
            get_run_logger().exception("caught")
        get_run_logger().warning("x" * 1_000_000)

    with recording(history):
        main()
    lines = history.logs(newest(history).id)
    texts = [line.message.partition(" - ")[2] for line in lines]
    assert texts[1:3] == ["printed", "formatted 7"]
    assert texts[3].startswith("caught\nTraceback")
    assert texts[3].endswith("ValueError: broken")
    assert len(texts[4]) < 11_000
    assert texts[5] == "Finished in state Completed()"
    assert not any("not this" in text or "not a run's" in text for text in texts)
    assert [line.time for line in lines] == sorted(line.time for line in lines)
    assert {(line.logger, line.run) for line in lines} == {("penstock.flow_runs", newest(history).id)}


def test_a_filter_of_the_application_comes_first(history: History) -> None:
    def redact(record: logging.LogRecord) -> bool:
        record.msg = record.msg.replace("secret", "***")
        return True

    logger = logging.getLogger("penstock.flow_runs")
    logger.addFilter(redact)
    try:
        with recording(history):
            flow(lambda: get_run_logger().warning("a secret"), name="main")()
    finally:
        logger.removeFilter(redact)
    (line,) = history.logs(newest(history).id)
    assert line.message.endswith("a ***")
    assert logger.filters == []


def test_recording_configures_no_logging(history: History, capsys: pytest.CaptureFixture[str]) -> None:
    loggers = [logging.getLogger(name) for name in ("", "penstock", "penstock.flow_runs", "penstock.task_runs")]
    before = [(logger.level, tuple(logger.handlers)) for logger in loggers]
    with recording(history):
        flow(lambda: get_run_logger().warning("heard"), name="main")()
        assert [(logger.level, tuple(logger.handlers)) for logger in loggers] == before


def test_an_engine_without_a_history_is_not_recorded(history: History, caplog: pytest.LogCaptureFixture) -> None:
    with recording(history), Engine(history=None) as silent:
        flow(lambda: get_run_logger().warning("in private"), name="main")()
        assert silent.recorder is None
    assert history.runs(RunQuery(kind=None)) == []
    assert "in private" in caplog.text
