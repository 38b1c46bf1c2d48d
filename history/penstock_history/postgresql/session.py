"""A connection to PostgreSQL for threads without an event loop, that comes back after it was cut.

asyncpg needs an event loop. A session has a small one of its own, which runs only while somebody waits for an answer,
in the thread that waits.

Three things may happen to a connection, and each is met here:

* It is cut, perhaps long before anybody uses it again. So what finds it cut is done once more, over a new one. All that
  is done here may be done twice.
* The server answers no more. So nothing waits longer than an answer may take, on neither side.
* The process forks. The child shares the socket: the server would take the parent for alive for as long as the child
  lives. So the child lets go of it, without a word to the server, and connects anew if it has something to say.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 (asyncpg's event loop)
import os
import selectors
import ssl
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import asyncpg

from penstock.errors import ConfigurationError, HistoryError
from penstock_history.postgresql.address import Address
from penstock_history.postgresql.connection import Connection
from penstock_history.postgresql.errors import CUT, FAILED, advice

__all__ = ("Session",)

T = TypeVar("T")

_SETTINGS = {
    "application_name": "penstock",
    "client_encoding": "UTF8",
    "default_transaction_isolation": "read committed",
    "idle_in_transaction_session_timeout": "0",  # whoever is stopped must not lose what says that he is alive
    "idle_session_timeout": "0",
    "jit": "off",  # compiling takes longer than any of these statements
    # A machine that is gone without a word keeps its session, and so seems alive, for 25 seconds and not two hours.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}


class Session:
    """A connection that is there when it is needed.

    Args:
        address: Where to connect to.
        settings: What the server is to set for the session, beside the above.
        error: What is raised when the database cannot do what is asked.
        prepare: Called with every new connection.
    """

    def __init__(
        self,
        address: Address,
        settings: Mapping[str, str],
        error: type[HistoryError],
        prepare: Callable[[Connection], Awaitable[None]] | None = None,
    ) -> None:
        self._address = address
        milliseconds = f"{1000 * address.patience:.0f}"
        self._settings = {**_SETTINGS, **settings, "statement_timeout": milliseconds, "lock_timeout": milliseconds}
        self._prepare = prepare
        self._error = error
        self._begin()
        _sessions.add(self)

    def _begin(self) -> None:
        self._connection: Connection | None = None
        self._selector = selectors.DefaultSelector()
        self._loop = asyncio.SelectorEventLoop(self._selector)

    def call(self, work: Callable[[Connection], Awaitable[T]], patience: float | None = None) -> T:
        """Do something in the database, and wait for it.

        Args:
            work: What to do; it may happen twice.
            patience: How many seconds it may take, if not as many as any other answer.

        Raises:
            HistoryError: If it could not be done, of the session's kind.
        """
        patience = patience or self._address.patience
        try:
            return self._drive(self._do(work, patience))
        except FAILED as error:
            said = str(error) or f"no answer came for {patience:g} s"
            raise self._error(f"The history {self._address.url} cannot be used: {said}. {advice(error)}") from error

    def close(self) -> None:
        """Let go of the connection; the second time, do nothing."""
        if self._loop.is_closed():
            return
        self._drive(self._leave())
        self._loop.close()

    def _drive(self, work: Coroutine[Any, Any, T]) -> T:
        """Run the session's loop until something is done."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._loop.run_until_complete(work)
        # A loop runs in this thread, and another may not; so another thread runs ours, while this one waits.
        with ThreadPoolExecutor(1, "penstock-postgresql") as helper:
            return helper.submit(self._loop.run_until_complete, work).result()

    async def _do(self, work: Callable[[Connection], Awaitable[T]], patience: float) -> T:
        if self._connection is not None:
            try:
                return await self._attempt(self._connection, work, patience)
            except TimeoutError:
                raise  # it was waited for once
            except CUT:
                pass  # and who knows when
        async with asyncio.timeout(self._address.patience):
            self._connection = await self._connect()
        return await self._attempt(self._connection, work, patience)

    async def _attempt(self, connection: Connection, work: Callable[[Connection], Awaitable[T]], patience: float) -> T:
        try:
            async with asyncio.timeout(patience):
                return await work(connection)
        except BaseException as error:
            if not isinstance(error, asyncpg.PostgresError) or connection.is_closed():
                await self._abandon(connection)
            raise

    async def _connect(self) -> Connection:
        try:
            connection: Connection = await asyncpg.connect(
                self._address.dsn, server_settings=self._settings, loop=self._loop
            )
        except ssl.SSLError:
            raise  # which is a ValueError too
        except (asyncpg.ClientConfigurationError, ValueError) as error:
            raise ConfigurationError(
                f"The URL of the PostgreSQL database at {self._address.url} has options that do not fit: {error}."
            ) from None
        try:
            if self._prepare is not None:
                await self._prepare(connection)
        except BaseException:
            await self._abandon(connection)
            raise
        return connection

    async def _abandon(self, connection: Connection) -> None:
        """Drop a connection of which nobody knows what it is doing."""
        self._connection = None
        connection.terminate()
        await asyncio.sleep(0)  # the loop closes the socket

    async def _leave(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            await connection.close(timeout=2.0)
        except FAILED:
            await self._abandon(connection)  # it was gone before

    def _let_go(self) -> None:
        """Close the child's copies of the descriptors, but keep their numbers from being given to others."""
        if self._loop.is_closed():
            return
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for key in self._selector.get_map().values():
            os.dup2(nothing, key.fd, inheritable=False)
        os.close(nothing)
        _parents.append((self._loop, self._connection))
        self._begin()


_sessions = weakref.WeakSet[Session]()
_parents: list[object] = []
"""What a forked child has of its parent's and must not even clean up."""


def _after_fork_in_child() -> None:
    for session in list(_sessions):
        session._let_go()


if hasattr(os, "register_at_fork"):  # there is no fork on Windows
    os.register_at_fork(after_in_child=_after_fork_in_child)
