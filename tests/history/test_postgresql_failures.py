"""A history in PostgreSQL when processes die, servers stop and networks fail."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from uuid import UUID

import psutil
import pytest
from networks import Network, network
from postgres import Server
from postgres_callers import OnHost, begin_runs, fork_and_go_on, owner_of, reap, record_transitions

from penstock.errors import HistoryError, HistoryWriteError
from penstock.testing import wait_until
from penstock_history.database import Durability, Reader
from penstock_history.postgresql import owners
from penstock_history.postgresql.database import PostgreSQL
from penstock_history.postgresql.schema import VERSION
from penstock_history.postgresql.writer import PostgreSQLWriter
from penstock_history.records import RunQuery, RunRecord
from penstock_history.testing.probes import Companion, Story, buried

LIVENESS = 60.0
"""Seconds after which something that has to happen has not."""


@pytest.fixture
def name(postgresql_url: str) -> str:
    """The name of the test's database."""
    return postgresql_url.rpartition("/")[2]


@pytest.fixture
def carrier(postgresql_server: Server) -> Iterator[Network]:
    with network(postgresql_server.port) as carrier:
        yield carrier


@pytest.fixture
def reader(postgresql_url: str) -> Iterator[Reader]:
    reader = PostgreSQL(postgresql_url).open_reader()
    yield reader
    reader.close()


def opened(database: PostgreSQL) -> PostgreSQLWriter:
    return database.open_writer("fast")


def story_of(writer: PostgreSQLWriter) -> tuple[Story, RunRecord]:
    """A group with something for every table, not written yet."""
    story = Story(writer)
    run = story.flow(story.begin(), entrypoint="a:b")
    task = story.result(story.done(inside=run), inputs="in")
    story.state(task, 2, "RUNNING", "Special")
    for line in ("one", "the same", "the same"):
        story.log(task, line)
    return story, run


def seen(reader: Reader, run: RunRecord) -> tuple[int, int, int, list[str]]:
    """How many runs, tasks and special states there are, and the log lines."""
    tasks = list(reader.inside(run.id))
    states = [state.name for task in tasks for state in reader.states(task.id)]
    return (
        len(reader.runs(RunQuery())),
        len(tasks),
        states.count("Special"),
        [line.message for line in reader.logs(run.id)],
    )


ONCE = (1, 1, 1, ["one", "the same", "the same"])


# --- who is alive ---


def test_a_machine_that_died_is_noticed_within_two_leases(postgresql_url: str, reader: Reader) -> None:
    database = PostgreSQL(postgresql_url, lease=3.0)
    with Companion(OnHost(database, "machine-a")) as one, Companion(OnHost(database, "machine-b")) as another:
        runs = one.do(begin_runs, 3)
        mine = another.do(begin_runs, 1)
        one.kill()
        assert set(buried(partial(another.do, reap), 2 * 3.0)) == set(runs), "within two leases"
        assert another.do(reap) == []
    crashed = reader.run(runs[0])
    assert crashed
    assert (crashed.type, crashed.sequence) == ("CRASHED", 3)
    assert "owner_lost" in str(crashed.message)
    assert "machine-a" in str(crashed.message)
    alive = reader.run(mine[0])
    assert alive
    assert alive.type == "RUNNING"


def test_a_process_that_is_gone_from_this_machine_is_not_waited_for(postgresql_url: str, reader: Reader) -> None:
    database = PostgreSQL(postgresql_url, lease=1000.0)
    with Companion(database) as one, Companion(database) as another:
        runs, owner = one.do(begin_runs, 1), one.do(owner_of)
        assert reader.is_alive(owner)
        assert another.do(reap) == []
        one.kill()
        assert buried(partial(another.do, reap), LIVENESS) == runs
        assert not reader.is_alive(owner)


def test_a_machine_that_stands_still_is_alive_for_ever(
    postgresql_server: Server, postgresql_url: str, name: str
) -> None:
    database = PostgreSQL(postgresql_url, lease=0.2)
    with Companion(OnHost(database, "laptop")) as one, Companion(OnHost(database, "desk")) as another:
        one.do(begin_runs, 1)
        one.stop()
        over = "SELECT bool_and(renewed + make_interval(secs => 3 * lease) < now()) FROM penstock.owners"
        wait_until(lambda: postgresql_server.sql(over, name) == ["t"], "the leases to be over")
        assert another.do(reap) == []
        one.go_on()
        assert one.do(begin_runs, 1)


def test_a_process_that_comes_back_within_its_lease_goes_on(
    postgresql_server: Server, postgresql_url: str, name: str, reader: Reader
) -> None:
    writer = opened(PostgreSQL(postgresql_url, lease=LIVENESS))
    story, run = story_of(writer)
    with Companion(PostgreSQL(postgresql_url)) as another:
        postgresql_server.cut(name)
        assert another.do(reap) == []
        story.write()
        assert another.do(reap) == []
    assert seen(reader, run) == ONCE
    assert reader.is_alive(writer.owner.id)
    writer.close()


def test_many_that_look_for_the_dead_find_each_once(postgresql_url: str) -> None:
    database = PostgreSQL(postgresql_url, lease=0.5)
    with ExitStack() as stack:
        dead = [stack.enter_context(Companion(database)) for _ in range(3)]
        runs = [run for companion in dead for run in companion.do(begin_runs, 5)]
        living = [stack.enter_context(Companion(database)) for _ in range(3)]
        for companion in dead:
            companion.kill()
        found = list[UUID]()

        def look() -> bool:
            for companion in living:
                companion.start(reap)
            for companion in living:
                found.extend(companion.answer())
            return len(found) >= len(runs)

        wait_until(look, "all of them to be found", LIVENESS)
        assert sorted(found) == sorted(runs)


def test_an_owner_that_somebody_deals_with_is_left_for_later(
    postgresql_server: Server, postgresql_url: str, name: str
) -> None:
    database = PostgreSQL(postgresql_url, lease=0.1, patience=1.0)
    with Companion(database) as companion:
        runs, owner = companion.do(begin_runs, 1), companion.do(owner_of)
        companion.kill()
    busy, looking = (opened(database) for _ in range(2))
    busy._session.call(lambda connection: connection.execute("BEGIN"))
    busy._session.call(lambda connection: owners.renew(connection, owner))
    over = f"SELECT renewed + make_interval(secs => lease) < now() FROM penstock.owners WHERE id = {owner}"
    wait_until(lambda: postgresql_server.sql(over, name) == ["t"], "the lease to be over")
    assert list(looking.reap()) == []
    busy._session.call(lambda connection: connection.execute("COMMIT"))
    assert buried(looking.reap, LIVENESS) == runs
    busy.close()
    looking.close()


def test_a_forked_child_does_not_keep_its_parent_alive(postgresql_url: str) -> None:
    database = PostgreSQL(postgresql_url, lease=0.5)
    with Companion(database) as one, Companion(database) as another:
        child, said, runs = one.do(fork_and_go_on)
        try:
            assert "forked child" in said
            one.kill()
            assert buried(partial(another.do, reap), LIVENESS) == runs, "the child keeps its parent alive"
            assert psutil.pid_exists(child)
        finally:
            os.kill(child, signal.SIGKILL)


# --- connections that are cut ---


@pytest.mark.parametrize("side", ["cut_request", "cut_answer"])
def test_a_group_is_written_once_wherever_the_connection_is_cut(
    postgresql_server: Server, postgresql_url: str, carrier: Network, side: str
) -> None:
    cuts = 0
    while True:
        with postgresql_server.database() as url:
            writer, reader = opened(PostgreSQL(carrier.url(url))), PostgreSQL(url).open_reader()
            story, run = story_of(writer)
            setattr(carrier, side, cuts)
            story.write()
            is_over = getattr(carrier, side) is not None
            setattr(carrier, side, None)
            assert seen(reader, run) == ONCE
            reader.close()
            writer.close()
        if is_over:
            break
        cuts += 1
    assert cuts > 1


def test_a_server_that_does_not_know_of_a_cut_gives_the_lock_to_who_comes_back(
    postgresql_url: str, carrier: Network, reader: Reader
) -> None:
    writer = opened(PostgreSQL(carrier.url(postgresql_url)))
    story, run = story_of(writer)
    carrier.hides_cuts = True
    carrier.cut_request = 0
    story.write()
    carrier.hides_cuts = False
    assert seen(reader, run) == ONCE
    writer.close()


def test_the_schema_is_made_whole_wherever_the_connection_is_cut(postgresql_server: Server, carrier: Network) -> None:
    with postgresql_server.database() as url:
        database, name = PostgreSQL(carrier.url(url)), url.rpartition("/")[2]
        steps = "SELECT to_regclass('penstock.steps') IS NULL, count(*) FROM pg_class WHERE relname = 'logs'"
        for cuts in range(200):
            carrier.cut_request = cuts
            try:
                version = database.migrate()
            except HistoryError:
                assert postgresql_server.sql(steps, name) in (["t|0"], ["f|1"])
            else:
                break
        carrier.cut_request = None
        assert cuts > 20
        assert version == VERSION
        assert database.migrate() == VERSION


def test_many_processes_that_make_the_schema_at_once_make_it_once(postgresql_url: str) -> None:
    with ThreadPoolExecutor(4) as threads:
        writers = list(threads.map(lambda _: opened(PostgreSQL(postgresql_url)), range(4)))
    assert len({writer.owner.id for writer in writers}) == 4
    for writer in writers:
        writer.close()


def test_what_is_written_while_the_server_is_down_is_refused_and_can_be_written_later(
    postgresql_server: Server, postgresql_url: str, name: str
) -> None:
    with Companion(PostgreSQL(postgresql_url, lease=5.0)) as other:
        writer = opened(PostgreSQL(postgresql_url, lease=5.0))
        story, run = story_of(writer)
        late = begin_runs(writer, 1)
        # The server is down for an hour, as far as the leases can tell.
        postgresql_server.sql("UPDATE penstock.owners SET renewed = renewed - interval '1 hour'", name)
        postgresql_server.stop()
        try:
            with pytest.raises(HistoryWriteError, match="Start the server"):
                writer.write(story.group)
        finally:
            postgresql_server.start()
        assert other.do(reap) == [], "nobody could renew a lease"
        writer.write(story.group)
        reader = PostgreSQL(postgresql_url).open_reader()
        assert reader.run(late[0])
        assert seen(reader, run) == (2, *ONCE[1:])
        reader.close()
        writer.close()


@pytest.mark.parametrize("durability", ["fast", "full"])
def test_a_server_that_crashes_loses_nothing_that_full_promised(
    postgresql_server: Server, postgresql_url: str, durability: Durability
) -> None:
    writer = PostgreSQL(postgresql_url).open_writer(durability)
    written = [begin_runs(writer, 1)[0] for _ in range(20)]
    postgresql_server.stop(signal.SIGQUIT)  # what it had not given to the system is gone
    postgresql_server.start()
    reader = PostgreSQL(postgresql_url).open_reader()
    left = [run for run in written if reader.run(run)]
    assert left == (written if durability == "full" else written[: len(left)])
    reader.close()
    begin_runs(writer, 1)
    writer.close()


def test_a_server_that_hangs_is_not_waited_for(postgresql_server: Server, postgresql_url: str) -> None:
    writer = opened(PostgreSQL(postgresql_url, patience=0.5))
    story, run = story_of(writer)
    (pid,) = postgresql_server.sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'penstock'")
    session = psutil.Process(int(pid))
    session.suspend()
    try:
        for _ in range(2):  # the second time, the new session cannot have what the old one holds
            with pytest.raises(HistoryWriteError, match="no answer came"):
                writer.write(story.group)
    finally:
        session.resume()
    session.wait(LIVENESS)
    writer.write(story.group)
    reader = PostgreSQL(postgresql_url).open_reader()
    assert seen(reader, run) == ONCE
    reader.close()
    writer.close()


# --- many at once ---


@pytest.mark.parametrize("runs", [2, pytest.param(100, marks=[pytest.mark.chaos, pytest.mark.timeout(900)])])
def test_eight_processes_record_every_transition(postgresql_url: str, reader: Reader, runs: int) -> None:
    with ExitStack() as stack:
        companions = [stack.enter_context(Companion(PostgreSQL(postgresql_url))) for _ in range(8)]
        for companion in companions:
            companion.start(record_transitions, runs, 50)
        ids = [run for companion in companions for run in companion.answer()]
    assert len(set(ids)) == 8 * runs
    for run in ids:
        states = reader.states(run)
        assert [state.sequence for state in states] == list(range(1, 51))
        assert [state.name for state in states[1:-1]] == [f"Step {number}" for number in range(2, 50)]
        assert states[-1].type == "COMPLETED"
