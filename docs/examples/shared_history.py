# From docs/howto/postgresql.md.
"""Records in the database that DATABASE_URL names, and looks at what is there."""

import os

from penstock import Engine, flow, task
from penstock.history import History, RunQuery

DATABASE = os.environ["DATABASE_URL"]


@task
def load(shop: str) -> int:
    return len(shop)


@flow
def report(shops: list[str]) -> int:
    return sum(load.map(shops).result())


if __name__ == "__main__":
    with Engine(history=DATABASE):
        report(["Bern", "Chur"])

    history = History(DATABASE)
    newest = history.runs()[0]
    assert (newest.definition, newest.state) == ("report", "Completed")
    assert [run.definition for run in history.inside(newest.id)] == ["load", "load"]
    failures = history.runs(RunQuery(kind="task", states=["failed", "crashed"]))
    assert failures == []
