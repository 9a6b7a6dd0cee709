"""The job table in PostgreSQL: the same rows, the same promises, leases in place of file locks."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from hashlib import sha256
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, insert, select

from batchgen.errors import BatchgenError, DatabaseNewer, StorageError, UsageError
from batchgen.jobs import State
from batchgen.jobtable import leases
from batchgen.jobtable.database import Database
from batchgen.jobtable.schema import limits, metadata
from tests.batches import Bill, write_manifest
from tests.conftest import Command, Launch, Simulate
from tests.hot import HOT, Hot, statements
from tests.postgres import Server, binaries, serving
from tests.processes import gather
from tests.table import HOUR, RUN, Table
from tests.test_database import COUNT, OPEN
from tests.waiting import until

pytest.importorskip("psycopg", reason="batchgen[postgres] is not installed", exc_type=ImportError)

# So that each claims its own: what stands further on was brought there while nothing stood behind it.
FARTHEST_FIRST = (
    *(State.DONE, State.DOWNLOADING, State.GENERATING, State.FAILED, State.UNCONFIRMED, State.SUBMITTING),
    *(State.CANCELLED, State.PENDING),
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    found = binaries()
    if found is None:
        pytest.skip("no PostgreSQL server is installed (initdb and pg_ctl)")
    with serving(found) as running:
        yield running


@pytest.fixture(scope="module")
def migrated(server: Server) -> str:
    """The name of a database with an empty job table, to be copied."""
    url = server.create()
    with Database(url):
        pass
    return url.rpartition("/")[2]


@pytest.fixture
def place(server: Server, migrated: str) -> str:
    """The URL of an empty job table."""
    return server.create(like=migrated)


@pytest.fixture
def database(place: str) -> Iterator[Database]:
    with Database(place) as opened:
        yield opened


def note(connection: Connection, name: str, reason: str | None = None) -> None:
    connection.execute(insert(limits).values(name=name, failures=0, reason=reason))


def names(connection: Connection) -> list[str]:
    return list(connection.execute(select(limits.c.name).order_by(limits.c.name)).scalars())


def test_the_migrations_make_the_table_that_the_code_describes(database: Database) -> None:
    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, metadata))

    assert database.read_now(differences) == []


def test_a_job_can_stand_in_every_state_and_comes_back_as_it_was_written(table: Table) -> None:
    for state in FARTHEST_FIRST:
        table.bring(state, f"is-{state}")
    assert table.states() == {f"is-{state}": str(state) for state in State}
    assert table.story("is-done") == ["pending", "submitting", "generating", "downloading", "done"]
    row = table.row("is-done")
    assert (row.submitted_at, row.submitted_at.utcoffset()) == (table.now, timedelta(0))
    assert table.retry("is-failed", "is-cancelled") == ["is-failed", "is-cancelled"]
    assert table.cancel("is-pending") == ["is-pending"]


def test_money_is_exact_and_reads_as_it_was_written(table: Table) -> None:
    table.sync("mona")
    table.accept(table.intend()[0], "g-1", "0.2800005")
    assert str(table.row().cost_usd) == "0.2800005"
    table.sync("mona", "lisa")
    table.accept(table.intend()[0], "g-2", "12345678.5")
    assert [str(attempt.cost_usd) for attempt in table.attempts()] == ["0.2800005", "12345678.5"]
    assert table.database.read_now(lambda c: c.exec_driver_sql("SELECT sum(cost_usd) FROM jobs").scalar()) == Decimal(
        "12345678.7800005"
    )


def test_odd_words_of_the_service_are_written_down_all_the_same(database: Database) -> None:
    database.write_now(note, "n", "half a pair \ud83d, a zero \0 byte")
    assert database.read_now(lambda c: c.execute(select(limits.c.reason)).scalar()) == "half a pair ?, a zero ? byte"


def test_what_a_vanished_run_held_is_taken_up_when_its_lease_ends(table: Table) -> None:
    for state in (State.GENERATING, State.SUBMITTING):
        table.bring(state, f"is-{state}")
    assert [job.key for job in table.claim(State.GENERATING, "vanished")] == ["is-generating"]
    assert table.claim(State.GENERATING, RUN) == []
    table.now += HOUR
    assert table.change(leases.recover_expired, table.batch_id, table.now) == 1
    assert table.states()["is-submitting"] == "unconfirmed"
    assert [job.key for job in table.claim(State.GENERATING, RUN)] == ["is-generating"]


def test_what_reads_sees_one_moment_and_cannot_write(database: Database) -> None:
    def read_twice(connection: Connection) -> tuple[list[str], list[str]]:
        before = names(connection)
        database.write_now(note, "late")
        return before, names(connection)

    assert database.read_now(read_twice) == ([], [])
    assert database.read_now(names) == ["late"]
    with pytest.raises(StorageError, match="read-only"):
        database.read_now(note, "n")


def test_no_update_is_lost_between_two_processes(database: Database, place: str) -> None:
    database.write_now(note, "counter")
    gather(COUNT, [place] * 2)
    assert database.read_now(lambda c: c.execute(select(limits.c.failures)).scalar_one()) == 400


def test_two_first_runs_at_once_both_find_a_whole_table(server: Server) -> None:
    assert gather(OPEN, [server.create()] * 2) == ["0"] * 2


def test_killed_and_run_again_by_two_at_once_buys_nothing_twice(
    server: Server, place: str, tmp_path: Path, launch: Launch, simulate: Simulate, batchgen: Command
) -> None:
    """One create is never answered; its run dies, and is given up when its lease is over."""
    stall = {"create": {"accept_then_stall": {"probability": 1, "count": 1}}}
    service = simulate("--instant", "--speed", "2000", "--lag", "1", faults=stall)
    environment = {**service.environment, "BATCHGEN_DB": place}
    bill = Bill(service.ledger)
    write_manifest(tmp_path / "m.yaml", 8)
    running = launch("run", "m.yaml", **environment)
    until(lambda: len(bill.accepted) == 8 and len(list((tmp_path / "m").glob("*.mp4"))) == 7)
    running.signal(signal.SIGKILL)
    running.end()
    assert server.ask(place, "SELECT state FROM jobs WHERE leased_by IS NOT NULL AND state <> 'downloading'") == [
        {"state": "submitting"}
    ]
    server.ask(
        place,
        "UPDATE jobs SET leased_until = leased_until - interval '1 hour', next_at = next_at - interval '1 hour'"
        " WHERE leased_by IS NOT NULL",
    )
    both = [launch("run", "m.yaml", **environment) for _ in range(2)]
    assert [each.end().returncode for each in both] == [0, 0]
    assert (len(bill.accepted), bill.duplicates) == (8, 0)
    for job in server.ask(place, "SELECT output_path, bytes, sha256 FROM jobs WHERE state = 'done'"):
        content = (tmp_path / job["output_path"]).read_bytes()
        assert (len(content), sha256(content).hexdigest()) == (job["bytes"], job["sha256"])
    told = batchgen("status", "m.yaml", **environment)
    assert (told.returncode, told.stdout.split(";")[0]) == (0, "m: 8 done")


@pytest.mark.parametrize(
    ("made", "error", "told"),
    [
        ("CREATE TABLE guests (name text)", UsageError, "something else"),
        ("CREATE TABLE alembic_version (version_num text)", UsageError, "something else"),
        ("UPDATE alembic_version SET version_num = '9999'", DatabaseNewer, "upgrade batchgen"),
        (None, StorageError, "does not exist"),
    ],
)
def test_a_database_that_cannot_be_used_is_told_plainly_and_without_its_password(
    server: Server, migrated: str, made: str | None, error: type[BatchgenError], told: str
) -> None:
    url = server.create(like=migrated if error is DatabaseNewer else "template1") if made else server.url("nowhere")
    if made:
        server.ask(url, made)
    with pytest.raises(error, match=told) as refused, Database(url):
        pass
    assert "geheim" not in str(refused.value)


@pytest.mark.parametrize("hot", HOT.values(), ids=HOT)
def test_what_a_run_repeats_goes_by_an_index(table: Table, hot: Hot) -> None:
    for state in FARTHEST_FIRST:
        table.bring(state, f"is-{state}")

    def plans(connection: Connection) -> list[tuple[str, str]]:
        said = statements(connection, table.batch_id, hot)
        ask = connection.exec_driver_sql
        # Nine rows are read fastest from end to end: a plan with an index shows that there is one.
        ask("SELECT set_config(name, 'off', true) FROM unnest(ARRAY['enable_seqscan', 'enable_bitmapscan']) AS name")
        return [(sql, "\n".join(ask(f"EXPLAIN {sql}", given).scalars())) for sql, given in said]

    for sql, plan in table.change(plans):
        assert not re.search(r"Seq Scan on (jobs|attempts|events)|^ *(-> *)?Sort", plan), f"{sql}\n{plan}"
        for index, scanned, following in re.findall(
            r"Scan (?:Backward )?using (\w+) on (jobs|attempts|events)\b.*\n(.*)", plan
        ):
            assert "Index Cond" in following or index == "ix_attempts_uncharged", f"{sql}\n{scanned}\n{plan}"
