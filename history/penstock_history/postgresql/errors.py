"""What a PostgreSQL server, or the lack of one, means for people."""

from __future__ import annotations

import ssl

import asyncpg

__all__ = ("CUT", "FAILED", "advice")

CUT = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
"""A connection that is no more: the server was restarted, the network failed, or somebody ended the session."""

FAILED = (*CUT, asyncpg.PostgresError)
"""All that asyncpg raises."""

_NO_SERVER = "Start the server, or correct the host and the port. Is a firewall in the way?"

_ADVICE: tuple[tuple[type[BaseException], str], ...] = (
    (
        asyncpg.InvalidAuthorizationSpecificationError,
        "Give the user and the password that the server knows: in the URL, in PGUSER and PGPASSWORD, or in ~/.pgpass.",
    ),
    (asyncpg.InvalidCatalogNameError, "Create the database (createdb NAME), or correct its name in the URL."),
    (asyncpg.CannotConnectNowError, "The server is starting or stopping. Try again in a moment."),
    (asyncpg.TooManyConnectionsError, "Raise max_connections, or let fewer processes record."),
    (
        asyncpg.InsufficientPrivilegeError,
        "GRANT CREATE ON DATABASE name TO user, or make the schema: CREATE SCHEMA penstock AUTHORIZATION user.",
    ),
    (
        asyncpg.ReadOnlySQLTransactionError,
        "This is a standby. Name the primary, or all hosts and ?target_session_attrs=read-write.",
    ),
    (asyncpg.DiskFullError, "Make room on the server's disk."),
    (asyncpg.QueryCanceledError, "The server was too slow, or waits for somebody's lock: look at pg_stat_activity."),
    (asyncpg.LockNotAvailableError, "Another process holds the lock: look at pg_stat_activity."),
    (ssl.SSLError, "Correct sslmode, sslrootcert, sslcert and sslkey in the URL, or the server's certificate."),
    (TimeoutError, _NO_SERVER),
    (OSError, _NO_SERVER),
    (asyncpg.PostgresConnectionError, "The connection was cut. Look at the server's log."),
)


def advice(error: BaseException) -> str:
    """What to do about an error."""
    for kind, text in _ADVICE:
        if isinstance(error, kind):
            return text
    return "Look at the server's log."
