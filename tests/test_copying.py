"""`batchgen db copy`: nothing of a batch is lost, nothing changes, and never may both tables run it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, insert, select, text

import batchgen as api
from batchgen.errors import StorageError, UsageError
from batchgen.files import liveness
from batchgen.jobs import State
from batchgen.jobtable import copying, leases, moves, submission, sync
from batchgen.jobtable.batches import Batch, stored_batches
from batchgen.jobtable.copying import TableCopy
from batchgen.jobtable.database import Database
from batchgen.jobtable.engine import database_url
from batchgen.jobtable.inspection import inspecting
from batchgen.jobtable.row_copy import ACCOUNT_TABLES, BATCH_TABLES, NUMBERED_TABLES
from batchgen.jobtable.run_lock import Owner
from batchgen.jobtable.schema import events, limits, metadata
from batchgen.jobtable.submission import Sender
from tests.batches import write_manifest
from tests.conftest import NOON, Command
from tests.copied_tables import copier, digests, fill, shown
from tests.postgres import Server
from tests.table import MINUTE, Table, spec

NewTable = Callable[[str], str]
"""Makes an empty job table of a kind of database, and returns its location."""
KINDS = ["sqlite", "postgresql"]


@pytest.fixture
def new_table(tmp_path: Path, empty_table: Path, request: pytest.FixtureRequest) -> NewTable:
    """Make an empty job table of a kind; returns its location."""
    number = iter(range(1_000))

    def make(kind: str) -> str:
        if kind == "sqlite":
            return str(shutil.copyfile(empty_table, tmp_path / f"table-{next(number)}.db"))
        postgres: Server = request.getfixturevalue("postgres")
        return postgres.create(like=request.getfixturevalue("migrated"))

    return make


@pytest.fixture(scope="module")
def copy_and_die() -> Iterator[Callable[[str, str, int], int]]:
    with copier() as copy:
        yield copy


@pytest.fixture
def full(table: Table) -> Table:
    """A table with every kind of row, in two batches that have shared jobs."""
    fill(table)
    return table


def copy(source: Database, target: str | Path, batch: str | None = None) -> TableCopy:
    return copying.copy(source, target, batch, NOON, lambda *_: None)


def runnable(location: str | Path) -> set[str]:
    """The batches that a run would work on in a table."""
    with inspecting(database_url(location)) as connection:
        gone = {batch_id for move in moves.departures(connection) for batch_id in move.names}
        return {batch.name for batch in stored_batches(connection) if batch.id not in gone}


def add_job(database: Database, key: str) -> None:
    """Add a job, with an event, to the first batch of a table."""
    table = Table(database, Path("/nowhere"), batch_id=database.read_now(stored_batches)[0].id)
    table.add(spec(key))


def test_every_table_is_copied_or_belongs_to_the_account() -> None:
    names = {table.name for table in (*BATCH_TABLES, *ACCOUNT_TABLES)}
    assert names == set(metadata.tables) - {"moves"}
    assert {table.name for table in ACCOUNT_TABLES} == {"limits", "prices", "timings"}
    assert {"batches", "jobs", "attempts", "outputs", "events", "verdicts"} <= {table.name for table in NUMBERED_TABLES}


@pytest.mark.slow
def test_a_round_trip_through_postgresql_brings_back_every_row_as_it_was(full: Table, new_table: NewTable) -> None:
    before, seen = digests(full.database), shown(full.database)
    there, back = new_table("postgresql"), new_table("sqlite")
    copied = copy(full.database, there)
    assert copied.batches == ["spring", "autumn"]
    assert {name: str(digest) for name, digest in copied.digests.items()} == before
    with Database(there) as database:
        assert (digests(database), shown(database)) == (before, seen)
        assert copy(database, back).digests.keys() == before.keys()
    with Database(back) as database:
        assert (digests(database), shown(database)) == (before, seen)
    assert [runnable(location) for location in (str(full.database.path), there, back)] == [
        set(),
        set(),
        {"spring", "autumn"},
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_with_other_batches_gets_the_rows_under_other_ids(full: Table, new_table: NewTable, kind: str) -> None:
    seen, there = shown(full.database), new_table(kind)
    with Database(there) as database:
        other = Table(database, full.folder)
        other.sync(batch=replace(full.batch, name="pilot"))
        other.bring(State.DONE, "one")
        paused = {"service": "aimlapi", "kind": "submits", "paused_until": NOON + 5 * MINUTE, "failures": 9}
        other.change(lambda connection: connection.execute(insert(limits), paused) and None)
        own = shown(database)["job_overview"]
    copy(full.database, there)
    with Database(there) as database:
        for view in ("job_overview", "ledger", "problems", "lineage", "failures"):
            rows = [row for row in shown(database)[view] if row["batch"] != "pilot"]
            assert rows == seen[view], view
        assert [row for row in shown(database)["job_overview"] if row["batch"] == "pilot"] == own
        assert shown(database)["timeline"][0]["batch"] == "pilot"
        add_job(database, "later")
        assert database.read_now(lambda c: c.execute(select(func.count(events.c.id.distinct()))).scalar_one()) > 58
        kept = select(limits.c.failures).where(limits.c.kind == "submits")
        assert database.read_now(lambda c: c.execute(kept).scalar_one()) == 9


def test_one_batch_moves_and_the_other_stays(table: Table, new_table: NewTable) -> None:
    here, there = str(table.database.path), new_table("sqlite")
    table.bring(State.DONE)
    table.sync("lisa", batch=replace(table.batch, name="autumn"))
    copy(table.database, there, "autumn")
    assert (runnable(here), runnable(there)) == ({"spring"}, {"autumn"})
    table.sync("mona", "anna")
    copy(table.database, there)
    assert (runnable(here), runnable(there)) == (set(), {"spring", "autumn"})


def test_batches_that_share_jobs_move_together_only(full: Table, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="taken over from one batch by the other"):
        copy(full.database, tmp_path / "b.db", "spring")
    assert not (tmp_path / "b.db").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_that_is_killed_anywhere_goes_on_and_never_may_both_tables_run(
    full: Table, new_table: NewTable, kind: str, tmp_path: Path, copy_and_die: Callable[[str, str, int], int]
) -> None:
    """Each second case is given up before it goes on, where that is possible."""
    before = digests(full.database)
    full.database.__exit__(None, None, None)
    original = tmp_path / "batchgen.db"

    def case(step: int) -> tuple[str, str, int]:
        return str(shutil.copyfile(original, tmp_path / f"{step}.db")), new_table(kind), step

    steps = copy_and_die(*case(0))
    last = range(steps - 3, steps + 1) if kind == "sqlite" else [steps]
    cases = [case(step) for step in (12, steps // 2, *last)]
    assert [copy_and_die(*killed) for killed in cases] == [-9] * len(cases)
    seen = set()
    for source, target, step in cases:
        here, there = runnable(source), runnable(target)
        seen.add((bool(here), bool(there)))
        assert not here & there, f"both tables run {here & there} after step {step}"
        with Database(source) as database:
            if step % 2:
                try:
                    copying.abort(database, target, NOON)
                    assert (runnable(source), runnable(target)) == ({"spring", "autumn"}, set())
                except UsageError:
                    assert here or runnable(target), "a copy that can neither be given up nor has arrived"
            assert copy(database, target).batches == ["spring", "autumn"]
        with Database(target) as database:
            assert digests(database) == before, f"after step {step}"
        assert (runnable(source), runnable(target)) == (set(), {"spring", "autumn"})
    assert seen == {(True, False), (False, False), (False, True)}, "the steps are before, in and after the copy"


def test_a_moved_batch_refuses_to_run_and_says_where_it_runs(
    table: Table, empty_table: Path, tmp_path: Path, batchgen: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIMLAPI_API_KEY", "test-key-never-to-be-seen")
    manifest = write_manifest(tmp_path / "spring.yaml", 2)
    shutil.copyfile(empty_table, tmp_path / "b.db")
    moved = batchgen("db", "copy", "batchgen.db", "b.db")
    assert (moved.returncode, moved.stdout.splitlines()[-2]) == (0, f"spring: moved to {tmp_path / 'b.db'}")
    for words in (["run"], ["retry"], ["plan"], ["export", "--format", "csv"]):
        ended = batchgen(words[0], manifest, *words[1:])
        assert ended.returncode == 2, words
        assert f"this batch was moved to {tmp_path / 'b.db'}" in ended.stderr, words
    with pytest.raises(UsageError, match="was moved to"):
        api.run(manifest)
    assert f"moved to {tmp_path / 'b.db'}" in batchgen("status", manifest).stdout
    assert json.loads(batchgen("status", manifest, "--json").stdout)["moved_to"] == str(tmp_path / "b.db")
    assert json.loads(batchgen("db", "copy", "batchgen.db", "b.db", "--json").stdout)["tables"] == {}
    assert table.rows() == []


def test_a_run_that_had_begun_sends_nothing_any_more(table: Table, new_table: NewTable) -> None:
    """A run that counted as dead, because it was stopped for minutes on another machine, goes on."""
    table.sync("mona")
    long_ago = table.now - 10 * MINUTE
    table.change(leases.begin_run, "0123456789ab", table.batch_id, Owner("elsewhere", 1, True), long_ago)
    chosen = table.change(submission.ready, table.batch_id, 1)
    copy(table.database, new_table("sqlite"))
    sender = Sender("0123456789ab", "aimlapi", "0badcafe")
    with pytest.raises(UsageError, match="was moved to"):
        table.change(submission.intend, table.batch_id, sender, table.now, table.now + MINUTE, chosen)
    with pytest.raises(UsageError, match="was moved to"):
        table.change(leases.begin_run, "ba9876543210", table.batch_id, Owner("elsewhere", 1, True), table.now)
    assert table.attempts() == []


def test_a_batch_on_which_a_run_is_at_work_is_not_moved(table: Table, tmp_path: Path, new_table: NewTable) -> None:
    run = "0123456789ab"
    assert table.database.path
    with liveness.file_lock_held(table.database.path, run):
        table.change(leases.begin_run, run, table.batch_id, Owner(liveness.host_name(), os.getpid(), True), table.now)
        with pytest.raises(UsageError, match=rf"spring: a run is at work on it \(process {os.getpid()} on "):
            copy(table.database, tmp_path / "b.db")
        assert not (tmp_path / "b.db").exists()
    copy(table.database, new_table("sqlite"))


REFUSED_ROWS = {
    "the other database refuses it": (
        "postgresql",
        "request = 'a' || char(0) || 'b'",
        r"TO refuses rows of the table jobs: .*NUL",
    ),
    "it changes on the way": (  # only an edit by hand leaves a zero byte there, which is stored as "?"
        "sqlite",
        "error = 'a' || char(0) || 'b'",
        "jobs: the rows differ after they were copied, so nothing was kept",
    ),
    "batchgen did not write it": (
        "sqlite",
        "created_at = 'yesterday'",
        "'yesterday' stands in it in place of a time in UTC",
    ),
}


@pytest.mark.parametrize(("kind", "edit", "message"), REFUSED_ROWS.values(), ids=REFUSED_ROWS)
def test_a_row_that_cannot_be_copied_as_it_is_leaves_everything_as_it_was(
    table: Table, new_table: NewTable, kind: str, edit: str, message: str
) -> None:
    table.sync("mona")
    table.change(lambda c: c.execute(text(f"UPDATE jobs SET {edit}")) and None)
    there = new_table(kind)
    with pytest.raises(StorageError, match=message):
        copy(table.database, there)
    assert (runnable(str(table.database.path)), runnable(there)) == ({"spring"}, set())


def test_a_copy_that_is_underway_goes_to_no_other_table(table: Table, tmp_path: Path, batchgen: Command) -> None:
    table.sync("mona")
    table.change(moves.record, "c0ffee", [table.batch_id], goes_to=str(tmp_path / "b.db"), began_at=NOON)
    with pytest.raises(UsageError, match=r"a copy to .*b\.db is underway, and that is not .*c\.db"):
        copy(table.database, tmp_path / "c.db")
    with pytest.raises(UsageError, match="may have had the whole copy"):
        copying.abort(table.database, tmp_path / "b.db", NOON)
    refused = batchgen("retry", table.folder / "spring.yaml", "--db", "batchgen.db")
    assert "is being moved to" in refused.stderr
    assert copy(table.database, tmp_path / "b.db").batches == ["spring"]
    with pytest.raises(UsageError, match="so there is none to give up"):
        copying.abort(table.database, tmp_path / "b.db", NOON)


def newer(connection: Connection, _batch: Batch) -> None:
    connection.execute(text("UPDATE alembic_version SET version_num = 'v999'"))


OTHER_TABLES: dict[str, Callable[[Connection, Batch], object]] = {
    "other.db": lambda connection, batch: sync.sync_manifest(connection, batch, [], NOON),
    "newer.db": newer,
    "empty.db": lambda _connection, _batch: None,
}
WRONG: dict[str, tuple[tuple[str, ...], int, str]] = {
    "no FROM": (("nowhere.db", "b.db"), 2, "nowhere.db: there is no job table"),
    "FROM is TO": (("batchgen.db", "./batchgen.db"), 2, "FROM and TO are the same database"),
    "no folder": (("batchgen.db", "nowhere/b.db"), 8, "its folder does not exist"),
    "no database": (("batchgen.db", "m.yaml"), 8, "file is not a database"),
    "no batch": (("batchgen.db", "b.db", "--batch", "summer"), 2, "there is no batch 'summer' in FROM"),
    "empty": (("batchgen.db", " "), 2, "FROM and TO may not be empty"),
    "nothing underway": (("batchgen.db", "b.db", "--abort"), 2, "so there is none to give up"),
    "another kind": (("batchgen.db", "mysql://me:geheim@host/x"), 2, "use SQLite or PostgreSQL"),
    "no server": (("batchgen.db", "postgresql://me:geheim@127.0.0.1:1/x?password=geheim"), 8, "cannot be used"),
    "a name that is there": (("batchgen.db", "other.db"), 2, "TO has a batch 'spring' already"),
    "newer": (("batchgen.db", "newer.db"), 2, "upgrade batchgen"),
    "no batches": (("empty.db", "b.db"), 2, "there is no batch in FROM"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_copy_is_refused_in_a_sentence_and_changes_nothing(
    table: Table, name: str, empty_table: Path, tmp_path: Path, batchgen: Command
) -> None:
    table.sync("mona")
    (tmp_path / "m.yaml").write_text("jobs: []" * 100)
    words, code, message = WRONG[name]
    for file, prepare in OTHER_TABLES.items():
        if file in words:
            with Database(shutil.copyfile(empty_table, tmp_path / file)) as database:
                database.write_now(prepare, table.batch)
    rows = table.rows()
    ended = batchgen("db", "copy", *words, "--json")
    assert ended.returncode == code
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "geheim" not in ended.stderr + ended.stdout
    assert table.rows() == rows
    assert runnable(str(table.database.path)) == {"spring"}
