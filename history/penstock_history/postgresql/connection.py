"""What is used here of asyncpg's connection, with types: asyncpg itself has none."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

__all__ = ("Connection", "Record")

Record = Any
"""A row: a sequence and a mapping at once."""


class Connection(Protocol):
    """See asyncpg's documentation."""

    async def execute(self, query: str, *values: Any) -> str:
        """Execute a statement; without values, several."""
        ...

    async def fetch(self, query: str, *values: Any) -> list[Record]:
        """Give the rows."""
        ...

    async def fetchrow(self, query: str, *values: Any) -> Record:
        """Give the first row, or None."""
        ...

    async def fetchval(self, query: str, *values: Any) -> Any:
        """Give the first column of the first row, or None."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[None]:
        """Make one transaction of a block."""
        ...

    def get_server_version(self) -> Any:
        """The server's version."""
        ...

    def get_settings(self) -> Any:
        """What the server said of itself."""
        ...

    def is_closed(self) -> bool:
        """Whether it is known to be closed."""
        ...

    def terminate(self) -> None:
        """Close the socket."""
        ...

    async def close(self, *, timeout: float) -> None:
        """Say good-bye and close the socket."""
        ...
