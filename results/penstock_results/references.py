"""The handle that travels in place of a stored value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from penstock.ports import Reference

if TYPE_CHECKING:
    from penstock_results.store import ResultStore

__all__ = ("ResultReference",)


@dataclass(frozen=True, slots=True)
class ResultReference(Reference):
    """A small, picklable handle to a value in a result store.

    Attributes:
        url: The store.
        key: Where the value lies in it.
        size: The value's size in bytes, serialized and uncompressed.
        type: The value's type, for people.
        checksum: A digest of the serialized value. Loading through the reference gives these very bytes or raises
            `ResultCorrupt`; writing an equal value to the key again keeps the reference good.
        store: The store itself, as the description that travels; None where the reference came out of a record.
    """

    url: str
    key: str
    size: int  # pyright: ignore[reportIncompatibleVariableOverride] (a frozen field is read-only, like the property)
    type: str
    checksum: str
    store: ResultStore | None = field(default=None, compare=False, repr=False)

    def load(self) -> Any:
        """Read the value; blocks.

        Raises:
            ResultMissing: If it is gone or has expired.
            ResultCorrupt: If it is not what was written.
        """
        store = self.store
        if store is None:
            from penstock_results.store import ResultStore

            store = ResultStore(self.url)
        return store.read(self)

    def describe(self) -> dict[str, Any]:
        """Return the fields that a record keeps: JSON's own types, no credentials."""
        return {"url": self.url, "key": self.key, "size": self.size, "type": self.type, "checksum": self.checksum}
