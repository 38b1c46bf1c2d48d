"""The one connection of a process that writes into a history in PostgreSQL."""

from __future__ import annotations

import os
import platform
import time  # noqa: TID251 (when a process began or ended)
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar
from uuid import UUID

from penstock.errors import HistoryError, HistoryWriteError, OwnerLost, ResumeConflict
from penstock_history.database import Durability
from penstock_history.keys import Numbers
from penstock_history.postgresql import owners, requests
from penstock_history.postgresql.address import Address
from penstock_history.postgresql.connection import Connection
from penstock_history.postgresql.deletion import compact, delete_piece
from penstock_history.postgresql.schema import bring_up_to_date
from penstock_history.postgresql.session import Session
from penstock_history.postgresql.statements import RECORD, RECORD_FUNCTION, SETTINGS, documents_of
from penstock_history.records import Group, OwnerRecord

__all__ = ("PostgreSQLWriter",)

T = TypeVar("T")

_A_WHILE = 3600.0
"""Seconds that giving space back may take."""


class PostgreSQLWriter:
    """See `penstock_history.database.Writer`.

    Args:
        address: The database; its schema is made and brought up to date if need be.
        durability: When a commit counts.
        lease: Seconds after which a process is dead whose connection was cut and that does not come back.

    Raises:
        HistoryError: If there can be no history there.
    """

    def __init__(self, address: Address, durability: Durability, lease: float) -> None:
        self._url = address.url
        self._full = durability == "full"
        self._process = os.getpid()
        self._numbers = Numbers(self._number)
        self._owner = OwnerRecord(0, os.getpid(), platform.node(), time.time())
        self._session = Session(address, SETTINGS, HistoryWriteError, self._prepare)
        try:
            self._session.call(bring_up_to_date)
            number = self._session.call(lambda connection: owners.register(connection, self._owner, lease))
        except BaseException:
            self._session.close()
            raise
        self._owner = replace(self._owner, id=number)
        self._closed = False

    @property
    def owner(self) -> OwnerRecord:
        """See `Writer.owner`."""
        return self._owner

    def key_of(self, run_id: int) -> int:
        """See `Writer.key_of`."""
        return self._numbers.key_of(run_id)

    def write(self, group: Group) -> None:
        """See `Writer.write`."""
        documents = tuple(documents_of(group))
        try:
            written: bool = self._call(
                lambda connection: connection.fetchval(RECORD, self._owner.id, self._full, *documents)
            )
        except HistoryWriteError as error:
            cause = error.__cause__
            if getattr(cause, "constraint_name", None) == "flows_by_resumes":
                raise ResumeConflict("The run is being continued already, by another run.") from error
            raise
        if not written:
            raise self._lost()

    def renew(self) -> None:
        """See `Writer.renew`."""
        if not self._call(lambda connection: owners.renew(connection, self._owner.id)):
            raise self._lost()

    def reap(self) -> Sequence[UUID]:
        """See `Writer.reap`."""
        return self._call(owners.bury)

    def ask_to_cancel(self, run_id: UUID) -> bool:
        """See `Writer.ask_to_cancel`."""
        return self._call(lambda connection: requests.put(connection, run_id))

    def to_cancel(self) -> Sequence[UUID]:
        """See `Writer.to_cancel`."""
        return self._call(lambda connection: requests.take(connection, self._owner.id))

    def delete(self, roots: Sequence[UUID]) -> int:
        """See `Writer.delete`."""
        count = 0
        for root in roots:
            while (piece := self._delete_piece(root)) is not None:
                count += piece
        self._call(owners.forget)
        return count

    def compact(self) -> None:
        """See `Writer.compact`."""
        self._session.call(compact, _A_WHILE)

    def close(self) -> None:
        """See `Writer.close`; the second time, do nothing."""
        if self._closed or os.getpid() != self._process:
            return
        self._closed = True
        try:
            self._call(lambda connection: owners.end(connection, self._owner.id, time.time()))
        except HistoryWriteError:
            pass  # the server sees for itself that the session ends, and the lease does the rest
        finally:
            self._session.close()

    def _call(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        if os.getpid() != self._process:
            raise HistoryError(
                f"The history {self._url} was opened by process {self._process}, and this is a forked child of it, "
                f"process {os.getpid()}. Open the history again here."
            )
        return self._session.call(work)

    async def _prepare(self, connection: Connection) -> None:
        """Make a new connection this process's."""
        if self._owner.id:
            await owners.claim(connection, self._owner.id)
        await connection.execute(RECORD_FUNCTION)
        # Who records, and by which numbers, is on the disk before anything is recorded; a group only if it has to be. A
        # server that also waits for its standbys is left as it is.
        if await connection.fetchval("SHOW synchronous_commit") == "off":
            await connection.execute("SET synchronous_commit = on")

    def _number(self, prefix: bytes) -> int:
        return self._call(lambda connection: owners.number_of_prefix(connection, self._owner.id, prefix))

    def _delete_piece(self, root: UUID) -> int | None:
        return self._call(lambda connection: delete_piece(connection, root))

    def _lost(self) -> OwnerLost:
        return OwnerLost(
            f"In the history {self._url} this process (owner {self._owner.id}) is down as dead: its connection was "
            "cut, and its lease was over before it came back. Its unfinished runs are CRASHED there and can be "
            "resumed; it records nothing more."
        )
