"""Runs on PostgreSQL that die, are stopped or are cut off: who notices it, and that nothing is bought twice or lost."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from itertools import accumulate, combinations
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, select, text

from batchgen import clock as clocks
from batchgen.errors import ExitCode, StorageError
from batchgen.files import liveness
from batchgen.jobtable import engine, leases, run_lock, table_lock
from batchgen.jobtable.database import Database
from batchgen.jobtable.run_lock import Neighbours, Owner, SessionLock, lock_held, locked_runs
from batchgen.jobtable.schema import timings
from batchgen.limits import rate
from batchgen.testing.proxy import proxied
from tests.batches import Bill, write_manifest
from tests.conftest import Launch, Simulate
from tests.cut_connections import cutting
from tests.postgres import Server
from tests.table import place_of
from tests.test_database import note
from tests.waiting import until

RUN, OTHER = "0123456789ab", "ba9876543210"
ELSEWHERE = {RUN: Owner("elsewhere", 1, True)}


def ignore() -> None:
    """A hint that nobody waits for."""


@pytest.fixture
def database(place: str) -> Iterator[Database]:
    with Database(place) as opened:
        yield opened


@contextmanager
def locked(place: str) -> Iterator[SessionLock]:
    """The lock of a run, held as its process holds it."""
    with Database(place) as own, lock_held(own, RUN, ignore) as lock:
        assert isinstance(lock, SessionLock)
        yield lock


def cut(server: Server, place: str) -> None:
    """End the session that holds the lock of a run."""
    ended = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND classid > 1"
    assert server.ask(place, ended)


# --- the lock --------------------------------------------------------------------------------------------------------


def test_a_run_is_alive_while_its_session_holds_its_lock(database: Database, place: str) -> None:
    with locked(place):
        assert database.read_now(locked_runs) == {RUN}
        assert run_lock.dead_runs(database, ELSEWHERE) == []
    until(lambda: run_lock.dead_runs(database, ELSEWHERE) == [RUN], "the server notices the end of the session")


def test_the_lock_of_a_run_is_not_seen_in_another_database(database: Database, postgres: Server, migrated: str) -> None:
    with locked(postgres.create(like=migrated)):
        assert database.read_now(locked_runs) == set()


def test_a_lock_whose_connection_is_cut_is_taken_again_and_no_other_run_is_deceived(
    database: Database, postgres: Server, place: str
) -> None:
    neighbours = Neighbours(database)
    with locked(place) as lock:
        cut(postgres, place)
        until(lambda: lock.taken_at)
        assert neighbours.dead(ELSEWHERE) == ([], [])
        assert database.read_now(locked_runs) == {RUN}
        assert not lock.can_judge  # a run that has just lost its own lock does not judge the others


def test_a_missing_lock_must_be_seen_twice(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    neighbours = Neighbours(database)
    assert neighbours.dead(ELSEWHERE) == ([], [])
    monkeypatch.setattr(run_lock, "CONFIRM", timedelta(0))
    assert neighbours.dead(ELSEWHERE) == ([], [RUN])


@pytest.mark.parametrize(
    ("owner", "dead"),
    [
        pytest.param(Owner(liveness.host_name(), 2**22 + 1, True), ([RUN], []), id="its process is gone"),
        pytest.param(Owner(liveness.host_name(), os.getpid(), True), ([], [RUN]), id="its process lives"),
        pytest.param(Owner("elsewhere", 1, False), ([], []), id="it can hold no lock"),
    ],
)
def test_what_the_missing_lock_of_a_run_says(
    owner: Owner, dead: tuple[list[str], list[str]], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "CONFIRM", timedelta(0))
    assert Neighbours(database).dead({RUN: owner}) == dead


def test_a_command_wakes_the_runs_on_its_table(place: str) -> None:
    hints: list[bool] = []
    with Database(place) as own, lock_held(own, RUN, lambda: hints.append(True)), Database(place) as command:
        command.write_now(note, "retried")
        assert all(until(lambda: hints))


# --- what a broken connection leaves behind --------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_commit_whose_answer_is_lost_is_done_once(
    moment: str, postgres: Server, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_lock, "RETRY_SECONDS", 0.01)

    def count(connection: Connection) -> int:
        note(connection, f"row {connection.execute(select(func.count()).select_from(timings)).scalar_one()}")
        return 7

    with cutting(postgres.port) as proxy:
        address = place.replace(f":{postgres.port}/", f":{proxy.port}/") + "?sslmode=disable"
        with Database(address) as database:
            proxy.moment = moment
            assert database.write_now(count) == 7
            assert proxy.commits == 1
            assert database.read_now(lambda c: c.execute(select(func.count()).select_from(timings)).scalar()) == 1


def test_a_session_that_is_idle_in_a_transaction_for_too_long_frees_the_table(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_lock, "RETRY_SECONDS", 0.01)
    calls: list[None] = []

    def stall(connection: Connection) -> str:
        calls.append(None)
        if len(calls) == 1:
            connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 1"))
            with Database(place_of(database)) as other:
                other.write_now(note, "meanwhile")
        return note(connection, "late")

    assert database.write_now(stall) == "late"
    assert len(calls) == 2


def test_a_read_that_takes_too_long_is_stopped(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "STATEMENT_TIMEOUT_MS", 20)
    with Database(place) as database, pytest.raises(StorageError, match="took too long and was stopped by the server"):
        database.read_now(lambda connection: connection.execute(text("SELECT pg_sleep(60)")) and None)


# --- one clock -------------------------------------------------------------------------------------------------------


def test_the_clock_of_the_server_counts_while_its_database_is_open(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = clocks.SERVER.offset
    monkeypatch.setattr(clocks, "machine_now", lambda: datetime.now(UTC) - timedelta(minutes=2))
    with Database(place):
        assert abs(clocks.SERVER.offset - timedelta(minutes=2)) < timedelta(seconds=10)
        with Database(place):  # as where a program asks for the status of a batch while it runs
            pass
        assert abs(clocks.SERVER.offset - timedelta(minutes=2)) < timedelta(seconds=10)
    assert before == clocks.SERVER.offset == timedelta(0)


# --- whole runs ------------------------------------------------------------------------------------------------------


UNCONFIRMED = f"SELECT * FROM events WHERE to_state = 'unconfirmed' AND detail = '{leases.RUN_ENDED}'"
"""Jobs that were taken over from a run while their request may have been on the wire."""
END_LEASES = (
    "UPDATE jobs SET leased_until = leased_until - interval '1 hour', next_at = next_at - interval '1 hour'"
    " WHERE leased_by IS NOT NULL"
)


def check_delivered(server: Server, place: str, folder: Path, jobs: int) -> None:
    outputs = server.ask(place, "SELECT path, bytes, sha256 FROM outputs WHERE delivered_at IS NOT NULL")
    assert len(outputs) == jobs
    left = server.ask(place, "SELECT DISTINCT state FROM jobs WHERE state NOT IN ('done', 'pending')")
    assert left == []
    for output in outputs:
        content = (folder / output["path"]).read_bytes()
        assert (len(content), sha256(content).hexdigest()) == (output["bytes"], output["sha256"])


@pytest.mark.slow
async def test_a_stopped_run_is_taken_over_when_its_lease_ends_and_its_late_writes_change_nothing(
    postgres: Server, place: str, tmp_path: Path, launch: Launch, simulate: Simulate
) -> None:
    """It is stopped while four accepted creates have no answer yet."""
    service = simulate("--lag", "1", speed=2_000)
    bill = Bill(service.ledger)
    write_manifest(tmp_path / "m.yaml", 4)
    async with proxied(service.base_url, lambda method, _path: method == "POST") as proxy:
        environment = {**service.environment, "AIMLAPI_BASE_URL": proxy.base_url, "BATCHGEN_DB": place}
        stopped = launch("run", "m.yaml", **environment)
        all_accepted = asyncio.Event()

        async def stop(moment: str) -> None:
            if moment == "accepted":
                if len(bill.accepted) == 4:
                    stopped.signal(signal.SIGSTOP)
                    all_accepted.set()
                await all_accepted.wait()  # no answer reaches the run before it is stopped

        proxy.on_create = stop
        await all_accepted.wait()
        proxy.on_create = None
        postgres.ask(place, END_LEASES)
        second = await asyncio.to_thread(launch("run", "m.yaml", **environment).end)
        stopped.signal(signal.SIGCONT)
        first = await asyncio.to_thread(stopped.end)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert (len(bill.accepted), bill.duplicates) == (4, 0)
    assert len(postgres.ask(place, UNCONFIRMED)) == 4
    check_delivered(postgres, place, tmp_path, 4)


@pytest.mark.slow
def test_a_run_goes_on_after_a_restart_of_the_server(
    postgres: Server, place: str, tmp_path: Path, launch: Launch, simulate: Simulate
) -> None:
    service = simulate(speed=1_000)
    bill = Bill(service.ledger)
    write_manifest(tmp_path / "m.yaml", 12, limits={"submits_per_minute": 600, "in_flight": 4})
    running = launch("run", "m.yaml", **service.environment, BATCHGEN_DB=place)
    until(lambda: len(bill.accepted) >= 4)
    postgres.restart()
    ended = running.end()
    assert (ended.returncode, len(bill.accepted), bill.duplicates) == (0, 12, 0), ended.stderr
    check_delivered(postgres, place, tmp_path, 12)
    assert postgres.ask(place, UNCONFIRMED) == []


CLOCK = """
import os
from datetime import UTC, datetime, timedelta
from batchgen import clock
clock.machine_now = lambda: datetime.now(UTC) + timedelta(minutes=float(os.environ["SHIFT"]))
"""
"""A `sitecustomize` module: the clock of the machine is wrong."""


def most_at_once(generations: list[dict[str, str]]) -> int:
    """The most generations that the service had in progress at one time."""
    began = [(row["created_at"], 1) for row in generations]
    ended = [(row["finishes_at"], -1) for row in generations]
    return max(accumulate(step for _, step in sorted(began + ended)))


@pytest.mark.slow
def test_four_runs_with_clocks_apart_keep_the_limits_of_one_and_take_over_from_a_killed_one(
    postgres: Server, place: str, tmp_path: Path, launch: Launch, simulate: Simulate
) -> None:
    (tmp_path / "sitecustomize.py").write_text(CLOCK)
    service = simulate("--lag", "1", speed=300)
    environment = {**service.environment, "BATCHGEN_DB": place, "PYTHONPATH": str(tmp_path)}
    bill, cap, per_minute, in_flight = Bill(service.ledger), Decimal(20), 300, 4
    limits = {"submits_per_minute": per_minute, "in_flight": in_flight, "max_cost": float(cap)}
    lost = {"unconfirmed_minutes": 0.05, "on_unconfirmed": "resubmit"}  # the log is complete at once
    write_manifest(tmp_path / "m.yaml", 16, limits={**limits, **lost})
    running = [launch("run", "m.yaml", **environment, SHIFT=shift) for shift in ("2", "-2", "0", "0")]
    holders = "SELECT pid FROM runs JOIN jobs ON jobs.leased_by = runs.id WHERE (SELECT count(*) FROM attempts) > 4"
    (holder, *_) = until(lambda: postgres.ask(place, holders))
    for run in running:
        if run.process.pid == holder["pid"]:
            run.signal(signal.SIGKILL)
    assert sorted(run.end().returncode for run in running) == [-9, *[ExitCode.LIMIT_REACHED] * 3]
    price = Decimal(bill.accepted[0]["micro_usd"]) / 10**6
    (absent,) = postgres.ask(place, "SELECT count(*) AS number FROM attempts WHERE released_at IS NOT NULL")
    assert absent["number"] <= 1, "what the killed run had on the wire: it stays reserved, for it may be charged"
    assert (len(bill.accepted), bill.duplicates) == (int(cap / price) - absent["number"], 0)
    assert most_at_once(bill.accepted) <= in_flight
    check_delivered(postgres, place, tmp_path, len(bill.accepted))
    intents = [row["intent_at"] for row in postgres.ask(place, "SELECT intent_at FROM attempts ORDER BY intent_at")]
    for (first, at), (last, later) in combinations(enumerate(intents), 2):
        assert later - at >= (last - first) * timedelta(minutes=1) / per_minute - rate.TOLERANCE
