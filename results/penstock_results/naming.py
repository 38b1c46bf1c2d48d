"""Keys: what a result may be called, and what it is called where it lies.

A key is one or more segments joined by ``/``. A segment is made of letters, digits, ``_``, ``-`` and ``.``, and never
starts with a dot; so there is no way up, no hidden name, no separator of another system and nothing to quote, and
names that start with a dot are the store's own.
"""

from __future__ import annotations

import hashlib
import re
import uuid

from penstock.errors import ConfigurationError

__all__ = ("SUFFIX", "blob_name", "check_key", "check_prefix", "folder_name", "key_of", "new_key")

SUFFIX = ".result"

_SEGMENT = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}"
_KEY = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT}){{0,15}}")
_PREFIX = re.compile(rf"(?:{_SEGMENT}/){{0,15}}(?:{_SEGMENT})?")


def new_key() -> str:
    """Make a key that nobody else has."""
    return uuid.uuid4().hex


def check_key(key: str) -> str:
    """Return the key if it is one.

    Raises:
        ConfigurationError: If it is not.
    """
    if not _KEY.fullmatch(key) or f"{SUFFIX}/" in key:
        raise ConfigurationError(
            f"{key!r} is not a key for a result: use up to 16 segments joined by '/', each of at most 128 letters, "
            f"digits, '_', '-' and '.', not starting with '.', and no segment but the last ending in {SUFFIX!r}"
        )
    return key


def check_prefix(prefix: str) -> str:
    """Return the prefix if keys can start with it.

    Raises:
        ConfigurationError: If no key can.
    """
    if not _PREFIX.fullmatch(prefix):
        raise ConfigurationError(f"{prefix!r} is not the beginning of any key of a result")
    return prefix


def blob_name(key: str) -> str:
    """Say what the blob of a key is called; the suffix lets the keys ``a`` and ``a/b`` live in one folder."""
    return key + SUFFIX


def key_of(name: str) -> str | None:
    """Say which key a blob belongs to, or None if it is not one of ours."""
    key = name.removesuffix(SUFFIX)
    return key if key != name and _KEY.fullmatch(key) else None


def folder_name(key: str) -> str:
    """Give a key a name of one segment that no other key has, for what lies beside its blob.

    No key contains ``+``. A name that file systems would find too long is replaced by its hash.
    """
    name = key.replace("/", "+")
    return name if len(name) <= 200 else f"+{hashlib.sha256(key.encode()).hexdigest()}"
