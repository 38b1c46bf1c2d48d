"""Lengths of time and numbers of bytes, as they are read from a command line and printed."""

from __future__ import annotations

import click
import pytest

from penstock.cli.words import age, byte_count, duration, size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("15 min", 900), ("1.5h", 5400), ("30d", 30 * 86400), ("2w", 14 * 86400)],
)
def test_ages(text: str, seconds: float) -> None:
    assert age(text) == seconds


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("7", 7),
        ("7B", 7),
        ("500kB", 500_000),
        ("1.5 MB", 1_500_000),
        ("2GB", 2 * 10**9),
        ("1KiB", 1024),
        ("1TiB", 1 << 40),
    ],
)
def test_sizes(text: str, count: int) -> None:
    assert size(text) == count


@pytest.mark.parametrize("text", ["", "5", "soon", "-3d", "3 days"])
def test_what_is_no_age_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no length of time"):
        age(text)


@pytest.mark.parametrize("text", ["", "B", "much", "-3MB", "3XB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no size"):
        size(text)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, ""),
        (0.0123, "12 ms"),
        (1.234, "1.23 s"),
        (59.94, "59.9 s"),
        (61, "1 min 01 s"),
        (3660, "1 h 01 min"),
        (90_000, "1 d 01 h"),
    ],
)
def test_durations(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [(None, ""), (999, "999 B"), (1000, "1 kB"), (1_234_567, "1.23 MB"), (5e9, "5 GB"), (2e15, "2e+03 TB")],
)
def test_byte_counts(count: float | None, words: str) -> None:
    assert byte_count(count) == words
