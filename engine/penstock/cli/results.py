"""``penstock results``: what lies in the result store."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from penstock.cli.output import Cell, Column, json_option, print_facts, print_json, print_line, print_table
from penstock.cli.words import age, byte_count, iso, local_time

if TYPE_CHECKING:
    from penstock_results.store import ResultInfo, ResultStore

__all__ = ("command",)


@click.group("results")
def command() -> None:
    """Look at stored results, and clear away what has expired.

    The store is the one that PENSTOCK_RESULTS names.
    """


@command.command("ls")
@click.option("--prefix", default="", help="Only keys that begin like this.")
@click.option(
    "--limit", default=50, show_default=True, type=click.IntRange(min=1), metavar="NUMBER", help="How many at most."
)
@json_option
def ls(prefix: str, limit: int, as_json: bool) -> None:
    """List results, the newest first."""
    store = _store()
    looked_at = (_looked_at(store, key) for key in _newest(store, prefix, limit))
    found = [facts for facts in looked_at if facts is not None]
    found.sort(key=lambda facts: facts.get("created", ""), reverse=True)
    if as_json:
        print_json(found)
    elif not found:
        what = f"No result in {store!r} has a key like that" if prefix else f"{store!r} is empty"
        print_line(f"{what}. PENSTOCK_RESULTS names another store.")
    else:
        columns = [Column("WRITTEN"), Column("TYPE"), Column("SIZE", right=True), Column("RUN", spare=True)]
        print_table([*columns, Column("KEY")], [_row(facts) for facts in found])


@command.command("show")
@click.argument("key")
@click.option("--value", is_flag=True, help="Load the value and print it, too. Loading a pickle can run code.")
@json_option
def show(key: str, value: bool, as_json: bool) -> None:
    """Say what is known of a result; the beginning of its key is enough."""
    store = _store()
    info = store.inspect(_the_key(store, key))
    facts = _facts(info) | ({"value": store.read(info.key)} if value else {})
    if as_json:
        print_json(facts)
        return
    print_facts(
        {
            "key": Cell(info.key, "bold"),
            "type": info.type,
            "size": f"{byte_count(info.stored)}, by {info.serializer} of Python {info.python}",
            "written": local_time(info.created),
            "expires": "never" if info.expires is None else local_time(info.expires),
            **_origin(info.provenance),
            "value": repr(facts["value"]) if value else None,
        }
    )


@command.command("gc")
@click.option("--prefix", default="", help="Only results whose keys begin like this.")
@click.option(
    "--orphan-age",
    default="1h",
    show_default=True,
    type=age,
    metavar="TIME",
    help="How long a writer must be silent to count as dead.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@json_option
def gc(prefix: str, orphan_age: float, dry_run: bool, as_json: bool) -> None:
    """Delete results that have expired, and what writers that died left behind."""
    swept = _store().gc(prefix=prefix, orphan_age=timedelta(seconds=orphan_age), dry_run=dry_run)
    if as_json:
        names = ("expired", "orphans", "damaged", "freed", "dry_run")
        print_json({name: getattr(swept, name) for name in names})
        return
    verb = "Would delete" if dry_run else "Deleted"
    print_line(
        f"{verb} {len(swept.expired)} expired results ({byte_count(swept.freed)}) and what {len(swept.orphans)} "
        "dead writers left."
    )
    for key in swept.damaged:
        print_line(Cell("damaged", "red"), f"  {key} is no result and stays, for you to look at.")


def _store() -> ResultStore:
    from penstock.wiring import open_store

    return open_store(None)


def _newest(store: ResultStore, prefix: str, limit: int) -> list[str]:
    """The keys of what was written last; the listing tells when, so that only these have to be looked at."""
    from penstock.errors import ResultError
    from penstock_results.naming import check_prefix, key_of

    try:
        entries = sorted(store.blobs.list(check_prefix(prefix)), key=lambda entry: entry.modified, reverse=True)
    except OSError as error:
        raise ResultError(f"{store!r} cannot be listed: {error}") from error
    keys = (key_of(entry.name) for entry in entries)
    return [key for key in keys if key is not None][:limit]


def _looked_at(store: ResultStore, key: str) -> dict[str, Any] | None:
    from penstock.errors import ResultError, ResultMissing

    try:
        return _facts(store.inspect(key))
    except ResultMissing:  # deleted since the listing
        return None
    except ResultError as error:
        return {"key": key, "damaged": str(error)}


def _the_key(store: ResultStore, beginning: str) -> str:
    """The one key that begins like this.

    Raises:
        ResultMissing: If there is none, or more than one.
    """
    from penstock.errors import ResultMissing

    keys = store.keys(beginning)
    if beginning in keys:
        return beginning
    if len(keys) == 1:
        return keys[0]
    if not keys:
        raise ResultMissing(
            f"No result in {store!r} has a key that begins with {beginning!r}. See `penstock results ls`; "
            "PENSTOCK_RESULTS names another store."
        )
    listed = "".join(f"\n  {key}" for key in keys[:10])
    raise ResultMissing(f"{len(keys)} results have keys that begin with {beginning!r}:{listed}")


def _facts(info: ResultInfo) -> dict[str, Any]:
    return {
        "key": info.key,
        "type": info.type,
        "size": info.stored,
        "serializer": info.serializer,
        "created": iso(info.created),
        "expires": iso(info.expires),
        "python": info.python,
        "provenance": dict(info.provenance),
    }


def _row(facts: Mapping[str, Any]) -> list[str | Cell]:
    if "damaged" in facts:
        return ["", Cell("damaged", "red"), "", "", facts["key"]]
    written = facts["created"][:19].replace("T", " ")
    return [written, facts["type"], byte_count(facts["size"]), facts["provenance"].get("name") or "", facts["key"]]


def _origin(provenance: Mapping[str, Any]) -> dict[str, str | None]:
    """What the writer said: for a run's result the run, and what its cache key is made of."""
    components: Mapping[str, str] = provenance.get("components") or {}
    told = {name: str(value) for name, value in provenance.items() if name != "components" and value is not None}
    return {**told, **{f"key: {name}": digest for name, digest in components.items()}}
