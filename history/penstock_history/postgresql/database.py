"""A history that several machines share: PostgreSQL."""

from __future__ import annotations

from penstock.errors import HistoryError
from penstock_history.database import Durability
from penstock_history.postgresql.address import Address
from penstock_history.postgresql.reader import PostgreSQLReader
from penstock_history.postgresql.schema import VERSION, bring_up_to_date, version_of
from penstock_history.postgresql.session import Session
from penstock_history.postgresql.writer import PostgreSQLWriter

__all__ = ("PostgreSQL",)

_LEASE = 30.0
_PATIENCE = 10.0


class PostgreSQL:
    """See `penstock_history.database.Database`.

    Args:
        url: ``postgresql://user:password@host:port/name``.
        lease: How many seconds a process has to come back whose connection was cut. When they are over, it is taken for
            dead. Three times what passes between two calls of `Writer.renew`, at least.
        patience: How many seconds an answer of the server may take.

    Raises:
        ConfigurationError: If the URL cannot be read.
    """

    def __init__(self, url: str, lease: float = _LEASE, patience: float = _PATIENCE) -> None:
        self._address = Address.parse(url, patience)
        self._lease = lease

    def __repr__(self) -> str:
        return f"PostgreSQL({self.url!r})"

    @property
    def url(self) -> str:
        """See `Database.url`."""
        return self._address.url

    def open_writer(self, durability: Durability) -> PostgreSQLWriter:
        """See `Database.open_writer`."""
        return PostgreSQLWriter(self._address, durability, self._lease)

    def open_reader(self) -> PostgreSQLReader:
        """See `Database.open_reader`."""
        session = Session(self._address, {"default_transaction_read_only": "on"}, HistoryError)
        try:
            if 0 < session.call(version_of) < VERSION:
                self.migrate()
        except BaseException:
            session.close()
            raise
        return PostgreSQLReader(session, self.url)

    def migrate(self) -> int:
        """See `Database.migrate`."""
        session = Session(self._address, {}, HistoryError)
        try:
            session.call(bring_up_to_date)
        finally:
            session.close()
        return VERSION
