"""Where a PostgreSQL database is: as users write it, as it may be shown, and how long to wait for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit

from penstock.errors import ConfigurationError

__all__ = ("Address",)

_SHOWN = ("host", "port", "database", "dbname")
"""The options that say where the database is, if the URL has them among its options."""


@dataclass(frozen=True, slots=True)
class Address:
    """A place to connect to.

    Attributes:
        url: What may be shown of it: hosts, ports and the database's name, and nothing that lets anybody in.
        dsn: What users wrote, with credentials.
        patience: How many seconds an answer may take.
    """

    url: str
    dsn: str = field(repr=False)
    patience: float

    @staticmethod
    def parse(text: str, patience: float) -> Address:
        """Read a URL; what is left out, asyncpg takes from libpq's variables and files (``PGPASSWORD``, ``~/.pgpass``).

        Args:
            text: The URL.
            patience: How many seconds an answer may take.

        Raises:
            ConfigurationError: If it is not one; the message does not show it, since it may have a password in it.
        """
        try:
            parts = urlsplit(text)
        except ValueError:
            parts = urlsplit("//:")
        place = parts.netloc.rpartition("@")[2]
        if "@" in parts.path + parts.query + parts.fragment or not all(map(_is_host, place.split(","))):
            raise ConfigurationError(
                "The URL of the PostgreSQL database cannot be read. It is postgresql://user:password@host:port/name, "
                "and in it a user's name or password is percent-encoded: %40 for @, %3A for :, %2F for /, %23 for #, "
                "%3F for ?, %25 for %."
            )
        options = urlencode([pair for pair in parse_qsl(parts.query) if pair[0] in _SHOWN], safe="/,:")
        return Address(f"postgresql://{place}{parts.path}{options and f'?{options}'}", text, patience)


def _is_host(text: str) -> bool:
    """Whether this is a host, with or without a port: a password that strayed here would have to be a number."""
    host, _, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    return not port or port.isdecimal() if host else ":" not in text
