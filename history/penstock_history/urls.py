"""From what users write to the database that is meant."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote, urlsplit

from penstock.errors import ConfigurationError, MissingExtra
from penstock_history.database import Database

__all__ = ("open_database",)


def open_database(where: str | os.PathLike[str]) -> Database:
    """The database at a place; nothing is opened yet.

    Args:
        where: A path, ``sqlite:///relative/or/absolute/path`` (an absolute one has four slashes), or
            ``postgresql://user:password@host:port/name``.

    Raises:
        ConfigurationError: If it is none of these, or a folder.
        MissingExtra: If it is PostgreSQL and asyncpg is not installed.
    """
    text = os.fspath(where)
    scheme, separator, _ = text.partition("://")
    if not separator:
        return _sqlite(text)
    if scheme == "sqlite":
        return _sqlite(_path_of(text))
    if scheme in ("postgresql", "postgres"):
        return _postgresql(text)
    raise ConfigurationError(
        f"history='{scheme}://...': a history is in a file (a path, or sqlite:///path) or in a PostgreSQL database "
        "(postgresql://...)."  # the rest is not shown: there may be a password in it
    )


def _path_of(url: str) -> str:
    """The path in ``sqlite:///path``: what stands after the third slash, as in SQLAlchemy's URLs."""
    parts = urlsplit(url)
    path = unquote(parts.path)[1:]
    if parts.netloc or parts.query or not path:
        raise ConfigurationError(
            f"history={url!r}: give sqlite:///relative/path or sqlite:////absolute/path, with nothing behind it."
        )
    return path


def _sqlite(path: str) -> Database:
    from penstock_history.sqlite.database import SQLite

    file = Path(path).expanduser()
    if file.is_dir():
        raise ConfigurationError(f"history={path!r} is a folder: name a file in it, {file / 'history.db'} say.")
    return SQLite(file)


def _postgresql(url: str) -> Database:
    try:
        import_module("asyncpg")
    except ImportError as error:
        raise MissingExtra("a history in PostgreSQL", "postgresql") from error
    from penstock_history.postgresql.database import PostgreSQL

    return PostgreSQL(url)
