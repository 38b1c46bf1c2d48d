from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
import s3server
from flight_callers import Folder, fetch, fetch_async, in_threads

from penstock.errors import ConfigurationError
from penstock_results.claims import BucketClaims, Claims, DirectoryClaims, FsspecClaims, MemoryClaims
from penstock_results.locks import ClaimLost, SingleFlight
from penstock_results.owners import Owner, Record, this_owner

ROUNDS = 100


@pytest.fixture(params=["memory", "directory", "fsspec-memory", "fsspec-local"])
def claims(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Claims]:
    if request.param == "memory":
        yield MemoryClaims()
    elif request.param == "directory":
        yield DirectoryClaims(tmp_path / "claims")
    elif request.param == "fsspec-local":
        yield FsspecClaims(fsspec.filesystem("file"), str(tmp_path / "claims"))
    else:
        filesystem = fsspec.filesystem("memory")
        yield FsspecClaims(filesystem, f"/{tmp_path.name}")
        if filesystem.exists(f"/{tmp_path.name}"):
            filesystem.rm(f"/{tmp_path.name}", recursive=True)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def foreign_record(lease: float) -> bytes:
    return Record(1, "token", Owner("another host", 1, "1"), lease).encode()


def python(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


# Claiming


def test_one_claim_at_a_time(claims: Claims) -> None:
    first, second = SingleFlight(claims), SingleFlight(claims)
    claim = first.begin("k")
    assert claim is not None
    assert first.begin("k") is None
    assert second.begin("k") is None
    assert second.begin("other") is not None
    claim.check()
    claim.release()
    claim.release()
    assert claim.lost
    taken = second.begin("k")
    assert taken is not None
    taken.check()


def test_a_record_in_a_directory_is_whole_from_the_start(tmp_path: Path) -> None:
    """One that a killed claimer left half made would hold up everybody for a lease: nobody knows whose it is."""
    claims, record = DirectoryClaims(tmp_path / "claims"), foreign_record(30)
    enough = threading.Event()

    def claim_again_and_again() -> None:
        number = 0
        while not enough.is_set():
            claims.create("k", f"{number}-x", record)
            claims.remove("k", f"{number}-x")
            number += 1

    claimer = threading.Thread(target=claim_again_and_again)
    claimer.start()
    seen = 0
    try:
        while seen < 100:
            for name in claims.names("k"):
                content = claims.read("k", name)
                assert content in (None, record)
                seen += content is not None
    finally:
        enough.set()
        claimer.join()


def test_released_claims_leave_nothing(claims: Claims, tmp_path: Path) -> None:
    with SingleFlight(claims).begin("k"):  # type: ignore[union-attr]
        assert len(claims.names("k")) == 1
    assert claims.names("k") == []
    if isinstance(claims, DirectoryClaims):
        assert list((tmp_path / "claims").iterdir()) == []


@pytest.mark.parametrize("deep", ["k/deeper", "/".join(["k", *["long" * 30] * 15])], ids=["two", "sixteen"])
def test_keys_of_several_segments_do_not_mix(claims: Claims, deep: str) -> None:
    flight = SingleFlight(claims)
    inner, outer = flight.begin(deep), flight.begin("k")
    assert inner is not None
    assert outer is not None
    assert len(claims.names(deep)) == len(claims.names("k")) == 1
    outer.release()
    inner.check()
    inner.release()
    assert claims.names(deep) == claims.names("k") == []


def test_waiters_in_the_process_are_woken_by_release(claims: Claims) -> None:
    flight, woken = SingleFlight(claims), list[str]()
    claim = flight.begin("k")
    assert claim is not None
    flight.subscribe("k", lambda: woken.append("kept"))
    flight.subscribe("k", lambda: woken.append("cancelled")).cancel()
    assert not flight.wait("k", timeout=0.01)
    claim.release()
    assert woken == ["kept"]
    assert flight.wait("k", timeout=30)


def test_waiters_of_another_flight_see_the_release(claims: Claims) -> None:
    claim = SingleFlight(claims).begin("k")
    assert claim is not None
    waiter = threading.Thread(target=SingleFlight(claims).wait, args=("k",))
    waiter.start()
    waiter.join(0.05)
    assert waiter.is_alive()
    claim.release()
    waiter.join(30)
    assert not waiter.is_alive()


def test_a_claim_is_renewed_for_as_long_as_it_is_held(claims: Claims) -> None:
    claim = SingleFlight(claims, lease=0.3).begin("k")
    assert claim is not None
    [name] = claims.names("k")
    first = claims.read("k", name)
    assert not SingleFlight(claims, lease=0.3).wait("k", timeout=1.0)
    assert claims.read("k", name) != first
    claim.check()
    claim.release()


def test_an_owner_elsewhere_that_stops_renewing_is_inherited_after_its_lease(claims: Claims) -> None:
    claims.create("k", "7-token", foreign_record(lease=0.3))
    flight = SingleFlight(claims, lease=30.0)
    began = time.monotonic()
    assert flight.begin("k") is None
    assert flight.wait("k", timeout=30)
    assert 0.3 <= time.monotonic() - began < 15
    claim = flight.begin("k")
    assert claim is not None
    claim.check()


def test_a_record_that_was_never_finished_is_inherited(claims: Claims) -> None:
    claims.create("k", "1-token", b"")
    flight = SingleFlight(claims, lease=0.3)
    assert flight.begin("k") is None
    assert flight.wait("k", timeout=30)
    assert flight.begin("k") is not None


def test_an_ended_process_of_this_host_is_inherited_at_once(claims: Claims) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    owner = this_owner()
    claims.create("k", "3-token", Record(1, "token", Owner(owner.host, child.pid, "1"), 1000.0).encode())
    claim = SingleFlight(claims, lease=1000.0).begin("k")
    assert claim is not None
    assert claim.number == 4
    assert len(claims.names("k")) == 1


def test_a_process_that_is_dead_but_not_reaped_counts_as_ended() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    facts = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
    owner = Owner(this_owner().host, child.pid, facts[19])
    assert not owner.is_dead
    os.kill(child.pid, signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert owner.is_dead
    child.communicate()
    assert owner.is_dead


def test_a_claim_that_was_taken_away_says_so_before_publishing(claims: Claims) -> None:
    claim = SingleFlight(claims).begin("k")
    assert claim is not None
    [name] = claims.names("k")
    claims.remove("k", name)
    claims.create("k", "2-token", foreign_record(lease=30.0))
    with pytest.raises(ClaimLost, match="the claim on k was not found where it was written"):
        claim.check()
    assert claim.lost
    claim.release()
    assert claims.names("k") == ["2-token"]


def test_a_failing_place_for_claims_is_the_callers_error_and_blocks_nobody() -> None:
    class Failing(MemoryClaims):
        broken = True

        def names(self, key: str) -> list[str]:
            if self.broken:
                raise OSError("the store is away")
            return super().names(key)

    claims = Failing()
    flight = SingleFlight(claims)
    with pytest.raises(OSError, match="the store is away"):
        flight.begin("k")
    assert flight.wait("k", timeout=30)
    claims.broken = False
    assert flight.begin("k") is not None


def test_a_lease_must_be_positive() -> None:
    with pytest.raises(ConfigurationError, match="lease=0"):
        SingleFlight(MemoryClaims(), lease=0)


# Many callers of one cold key


@pytest.mark.parametrize("kind", ["memory", "directory"])
def test_threads_run_it_once(kind: str, folder: Folder) -> None:
    claims = MemoryClaims() if kind == "memory" else DirectoryClaims(folder.path / "claims")
    for number in range(ROUNDS):
        key, flight = f"key{number}", SingleFlight(claims)
        values = in_threads(100, lambda key=key, flight=flight: fetch(flight, folder, key, lambda: "made"))
        assert values == ["made"] * 100
        assert len(folder.executions(key)) == 1


@pytest.mark.parametrize("kind", ["memory", "directory"])
async def test_coroutines_run_it_once(kind: str, folder: Folder) -> None:
    claims = MemoryClaims() if kind == "memory" else DirectoryClaims(folder.path / "claims")
    for number in range(ROUNDS):
        key, flight = f"key{number}", SingleFlight(claims)
        values = await asyncio.gather(*(fetch_async(flight, folder, key, lambda: "made") for _ in range(100)))
        assert values == ["made"] * 100
        assert len(folder.executions(key)) == 1


def test_flights_that_only_share_the_place_run_it_once(claims: Claims, folder: Folder) -> None:
    """Every caller has a flight of its own, as if each were a process: nothing but the claims tells them apart."""
    for number in range(20):
        key = f"key{number}"
        values = in_threads(16, lambda key=key: fetch(SingleFlight(claims), folder, key, lambda: "made"))
        assert values == ["made"] * 16
        assert len(folder.executions(key)) == 1


def test_processes_run_it_once_also_when_the_owner_is_killed(folder: Folder) -> None:
    callers = python("-m", "flight_callers", str(folder.path), str(ROUNDS))
    report = callers.communicate(timeout=110)[0].splitlines()
    assert callers.returncode == 0
    assert len(report) == ROUNDS
    for number, line in enumerate(report):
        killed = number % 2 == 1
        executions = folder.executions(f"key{number}")
        assert json.loads(line) == ([-signal.SIGKILL, 0, 0, 0] if killed else [0, 0, 0, 0])
        assert len(executions) == len(set(executions)) == (2 if killed else 1)


def test_a_failed_owner_is_not_cached_and_wakes_the_next(folder: Folder) -> None:
    flight = SingleFlight(DirectoryClaims(folder.path / "claims"))
    outcomes = list[str]()

    def body() -> str:
        if len(folder.executions("k")) == 1:
            raise ZeroDivisionError
        return "second"

    def call() -> str:
        try:
            outcomes.append(fetch(flight, folder, "k", body))
        except ZeroDivisionError:
            outcomes.append("failed")
        return ""

    in_threads(20, call)
    assert sorted(outcomes) == ["failed"] + ["second"] * 19
    assert len(folder.executions("k")) == 2


# Processes

PAUSED = """
import sys
from penstock_results.claims import DirectoryClaims
from penstock_results.locks import ClaimLost, SingleFlight
claim = SingleFlight(DirectoryClaims(sys.argv[1]), lease=0.5).begin("k")
print("claimed", flush=True)
input()
try:
    claim.check()
except ClaimLost:
    print("lost", flush=True)
claim.release()
"""

FORKED = """
import os, sys
from penstock_results.claims import DirectoryClaims
from penstock_results.locks import SingleFlight
flight = SingleFlight(DirectoryClaims(sys.argv[1]), lease=0.4)
claim = flight.begin("k")
read, write = os.pipe()
child = os.fork()
if child == 0:
    own = flight.begin("child")
    seen_held = not flight.wait("k", timeout=1.0)
    own.check()
    print("renewed" if seen_held else "stolen", flush=True)
    os.write(write, b".")
    freed = flight.wait("k", timeout=30)
    print("freed" if freed else "stuck", flush=True)
    os._exit(0)
os.close(write)
os.read(read, 1)
claim.check()
claim.release()
os.waitpid(child, 0)
"""


def test_an_owner_that_was_paused_past_its_lease_cannot_publish(tmp_path: Path) -> None:
    owner = python("-c", PAUSED, str(tmp_path))
    assert owner.stdout is not None
    assert owner.stdout.readline() == "claimed\n"
    os.kill(owner.pid, signal.SIGSTOP)
    flight = SingleFlight(DirectoryClaims(tmp_path), lease=0.5)
    assert flight.wait("k", timeout=30)
    claim = flight.begin("k")
    assert claim is not None
    os.kill(owner.pid, signal.SIGCONT)
    assert owner.communicate("\n", timeout=30)[0] == "lost\n"
    claim.check()
    claim.release()


def test_a_forked_child_has_claims_and_waits_of_its_own(tmp_path: Path) -> None:
    parent = python("-c", FORKED, str(tmp_path))
    assert parent.communicate(timeout=60)[0].split() == ["renewed", "freed"]
    assert parent.returncode == 0


# A real object store, without conditional writes


def test_on_s3_callers_with_nothing_in_common_but_the_bucket_run_it_once(tmp_path: Path, folder: Folder) -> None:
    import s3fs

    server_folder = tmp_path / "server"
    server_folder.mkdir()
    with s3server.serve(server_folder) as server:
        filesystem = s3fs.S3FileSystem(**server.storage_options, skip_instance_cache=True)
        claims = BucketClaims(filesystem, server.url_for_claims("results") + "/.claims")
        for number in range(10):
            key = f"key{number}"
            values = in_threads(8, lambda key=key: fetch(SingleFlight(claims), folder, key, lambda: "made"))
            assert values == ["made"] * 8
            assert len(folder.executions(key)) == 1
            assert claims.names(key) == []
