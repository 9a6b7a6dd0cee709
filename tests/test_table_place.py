"""A job table in a file may be moved away, replaced or locked while it is open: nothing is paid twice in silence."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from threading import Timer

import pytest
from sqlalchemy import Connection, text

from batchgen.errors import StorageError, TableLocked
from batchgen.files import liveness
from batchgen.jobtable import engine, place, table_lock
from batchgen.jobtable.database import Database
from batchgen.scheduler import Scheduler
from tests.batches import Bill, check_delivered, write_manifest
from tests.conftest import NOON, Command, Launch, Simulate
from tests.scripted import ScriptedService, context_of
from tests.table import Table, spec
from tests.waiting import rows, until

pytestmark = pytest.mark.hostile(
    "the job table moved, replaced or locked by another process",
    "the run waits or ends with a sentence; the same command does not pay again",
)
RUN = "0123456789ab"


def move(path: Path) -> None:
    path.rename(path.with_name("elsewhere.db"))


def delete(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    shutil.copy(path, path.with_name("copy.db"))
    path.with_name("copy.db").replace(path)


LOSSES = (move, delete, replace)


@pytest.mark.parametrize("lose", LOSSES, ids=lambda lose: lose.__name__)
async def test_no_intent_is_written_to_a_table_that_has_lost_its_place(
    table: Table, lose: Callable[[Path], None]
) -> None:
    table.sync(spec())
    service = ScriptedService()
    scheduler = Scheduler(context_of(table, service), 1)
    lose(table.folder / "batchgen.db")
    with pytest.raises(StorageError, match=r"batchgen\.db: the job table was moved, deleted or replaced"):
        await scheduler.tick(NOON)
    assert (service.submitted, table.attempts()) == ([], [])


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
async def test_no_intent_is_written_to_a_table_whose_journal_was_deleted(table: Table, suffix: str) -> None:
    table.sync(spec())
    service = ScriptedService()
    scheduler = Scheduler(context_of(table, service), 1)
    delete(table.folder / f"batchgen.db{suffix}")
    with pytest.raises(StorageError, match=rf"batchgen\.db{suffix}: the job table's journal was moved"):
        await scheduler.tick(NOON)
    assert not service.submitted


@pytest.mark.parametrize("is_reading", [False, True])
def test_what_a_deleted_journal_had_is_in_the_table_after_the_run_though_another_program_reads_it(
    is_reading: bool, tmp_path: Path, empty_table: Path
) -> None:
    path = tmp_path / "batchgen.db"
    shutil.copyfile(empty_table, path)
    with closing(sqlite3.connect(path, check_same_thread=False)) as reader:
        with Database(path) as database:
            if is_reading:
                reader.execute("BEGIN")
                Timer(4 * table_lock.RETRY_SECONDS, reader.rollback).start()
            reader.execute("SELECT count(*) FROM jobs").fetchone()
            Table(database, tmp_path).sync(spec())
            delete(tmp_path / "batchgen.db-wal")
        shutil.copyfile(path, tmp_path / "as_the_next_run_finds_it.db")
    assert rows(tmp_path / "as_the_next_run_finds_it.db", "SELECT key FROM jobs") == [{"key": "mona"}]


def test_a_deleted_journal_is_not_written_into_a_table_for_which_another_program_has_begun_a_new_one(
    tmp_path: Path, empty_table: Path
) -> None:
    path, journal = tmp_path / "batchgen.db", tmp_path / "batchgen.db-wal"
    shutil.copyfile(empty_table, path)
    program = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('PRAGMA user_version = 7'); input()"
    with Database(path) as database:
        Table(database, tmp_path).sync(spec())
        delete(journal)
        delete(tmp_path / "batchgen.db-shm")
        other = subprocess.Popen([sys.executable, "-c", program, path], stdin=subprocess.PIPE)
        until(lambda: journal.exists() and journal.stat().st_size > 0)
    in_the_table = path.read_bytes()
    other.communicate(b"\n")
    assert in_the_table == empty_table.read_bytes()


@pytest.mark.slow
def test_a_run_whose_table_is_moved_away_ends_and_the_same_command_does_not_pay_again(
    tmp_path: Path, simulate: Simulate, launch: Launch, batchgen: Command
) -> None:
    simulator = simulate(speed=10)
    database, bill = tmp_path / "batchgen.db", Bill(simulator.ledger)
    manifest = write_manifest(tmp_path / "m.yaml", 3)
    running = launch("run", manifest, **simulator.environment)
    until(lambda: len(rows(database, "SELECT * FROM jobs WHERE state = 'generating'")) == 3)
    move(database)
    first = running.end()
    assert "the job table was moved, deleted or replaced" in first.stderr
    again = batchgen("run", manifest, **simulator.environment)
    assert "would pay for every job again" in again.stderr
    assert (first.returncode, again.returncode) == (8, 8)
    assert "Traceback" not in first.stderr + again.stderr
    assert len(bill.accepted) == 3

    (tmp_path / "elsewhere.db").replace(database)
    with Database(database) as put_back:
        put_back.read_now(place.check_runs, database)
    assert [row["state"] for row in rows(database, "SELECT state FROM jobs")] == ["generating"] * 3


def test_a_table_that_is_gone_is_not_made_again_while_its_journal_is_there(tmp_path: Path, empty_table: Path) -> None:
    path = tmp_path / "batchgen.db"
    path.with_name("batchgen.db-wal").write_bytes(b"commits")
    with pytest.raises(StorageError, match=r"the job table is gone, but batchgen\.db-wal beside it"), Database(path):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["batchgen.db-wal"]


def test_a_table_that_is_gone_is_not_made_again_while_a_run_has_left_its_lock_file(tmp_path: Path) -> None:
    path = tmp_path / "batchgen.db"
    with liveness.file_lock_held(path, RUN) as lock:
        with Database(path):  # a run that was killed before the table knew it is no reason
            pass
        lock.record()
        path.unlink()
        with pytest.raises(StorageError, match=rf"the job table is gone, but batchgen\.db\.run-{RUN}"), Database(path):
            pass
    with Database(path):
        pass


def test_where_the_lock_file_was_taken_as_well_the_run_leaves_another(tmp_path: Path) -> None:
    path = tmp_path / "batchgen.db"
    with liveness.file_lock_held(path, RUN) as lock:
        lock.record()
        (tmp_path / f"batchgen.db.run-{RUN}").unlink()
        lock.stays = True
    assert liveness.recorded_runs(path) == [RUN]


def test_a_table_that_does_not_have_the_run_of_a_lock_file_is_another_one(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "batchgen.db"
    database.read_now(place.check_runs, path)
    with liveness.file_lock_held(path, RUN) as lock:
        database.read_now(place.check_runs, path)
        lock.record()
        with pytest.raises(StorageError, match=rf"does not have the run that left batchgen\.db\.run-{RUN} beside it"):
            database.read_now(place.check_runs, path)


def test_reading_a_table_that_was_moved_away_does_not_make_another(tmp_path: Path) -> None:
    path = tmp_path / "batchgen.db"
    with Database(path) as database:
        path.rename(tmp_path / "elsewhere.db")
        database.reading.dispose()
        with pytest.raises(StorageError):
            database.read_now(lambda connection: connection.execute(text("SELECT 1")))
    assert not path.exists()


# --- other processes hold it ---


class Holder:
    """Another process that holds a lock on a database until it is released."""

    def __init__(self, path: Path) -> None:
        code = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('BEGIN IMMEDIATE'); print(); input()"
        command = [sys.executable, "-c", code, str(path)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout
        self.process.stdout.readline()

    def release(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def holder(database: Database) -> Iterator[Holder]:
    assert database.path
    holder = Holder(database.path)
    yield holder
    holder.release()


@pytest.fixture
def _short(monkeypatch: pytest.MonkeyPatch, database: Database) -> None:
    """The lock is tried often, and soon worth a word."""
    monkeypatch.setattr(table_lock, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(table_lock, "NOTICED_TRIES", 2)
    monkeypatch.setattr(engine, "RETRY_SECONDS", 0.01)
    database.engine.dispose()  # the next connections have the shorter time-out
    database.reading.dispose()


@pytest.mark.usefixtures("_short")
def test_a_write_waits_for_the_lock_of_another_process_and_says_who_has_it(
    database: Database, holder: Holder, caplog: pytest.LogCaptureFixture
) -> None:
    database.lock.patience = None
    write = database.writer.submit(lambda connection: connection.execute(text("SELECT 1")).scalar())
    until(lambda: "the job table is locked by" in caplog.text, "the lock is worth a word")
    name = f"process {holder.process.pid} ('" if Path("/proc/locks").exists() else "another program"
    assert name in caplog.text
    assert "perhaps a database browser with an edit that is not saved; waiting until it is free" in caplog.text
    assert name in database.lock.notice
    assert not write.done()
    holder.release()
    assert write.result(10) == 1
    until(lambda: not database.lock.notice, "the notice is taken back")
    assert caplog.text.count("is locked") == 1  # once, then rarely


@pytest.mark.usefixtures("_short")
def test_a_command_that_somebody_waits_for_does_not_wait_for_ever(database: Database, holder: Holder) -> None:
    assert holder.process.poll() is None
    database.lock.patience = 3
    with pytest.raises(TableLocked, match=r"the job table is locked by .*the same command goes on once it is free"):
        database.write_now(lambda _connection: None)


@pytest.mark.usefixtures("_short")
def test_whoever_stops_a_run_at_once_does_not_wait_for_a_lock(
    database: Database, holder: Holder, caplog: pytest.LogCaptureFixture
) -> None:
    assert holder.process.poll() is None
    database.lock.impatient.set()
    with pytest.raises(TableLocked):
        database.write_now(lambda _connection: None)
    assert not caplog.text


@pytest.mark.usefixtures("_short")
def test_writes_that_wait_for_a_lock_are_all_done_once_in_their_order(database: Database, holder: Holder) -> None:
    database.lock.patience = None
    order: list[int] = []
    writes = [database.writer.submit(partial(lambda number, _: order.append(number), number)) for number in range(5)]
    until(lambda: database.lock.notice, "the writer waits")
    assert order == []
    holder.release()
    for write in writes:
        write.result(10)
    assert order == [0, 1, 2, 3, 4]


@pytest.mark.usefixtures("_short")
def test_a_read_goes_on_beside_a_writer_and_waits_for_an_exclusive_lock(database: Database, holder: Holder) -> None:
    def number(connection: Connection) -> object:
        return connection.execute(text("SELECT count(*) FROM jobs")).scalar()

    assert holder.process.poll() is None
    assert database.read_now(number) == 0
    holder.release()
    database.reading.dispose()
    database.engine.dispose()
    assert database.path
    with closing(sqlite3.connect(database.path, isolation_level=None, timeout=0, check_same_thread=False)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("UPDATE jobs SET tags = tags")  # takes the lock, and keeps it
        database.lock.patience = None
        with ThreadPoolExecutor(1) as thread:
            reading = thread.submit(database.read_now, number)
            until(lambda: database.lock.notice, "the reader waits")
            other.close()
            assert reading.result(10) == 0


@pytest.mark.parametrize("statement", ["SELECT * FROM jobs", "DELETE FROM jobs"], ids=["a reader", "a writer"])
def test_who_uses_a_table_without_a_write_ahead_log_is_waited_for(
    tmp_path: Path, empty_table: Path, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    """SQLite refuses the switch to write-ahead logging at once, whatever `busy_timeout` says."""
    path = tmp_path / "batchgen.db"
    path.write_bytes(empty_table.read_bytes())
    monkeypatch.setattr(table_lock, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(engine, "RETRY_SECONDS", 0.01)
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("PRAGMA journal_mode=DELETE")
    other.execute("BEGIN")
    other.execute(statement).fetchall()
    database = Database(path)
    with ThreadPoolExecutor(1) as thread:
        opening = thread.submit(database.__enter__)
        until(lambda: database.lock.is_held, "the opening waits")
        other.close()
        opening.result(10)
    mode = database.read_now(lambda connection: connection.execute(text("PRAGMA journal_mode")).scalar())
    database.__exit__(None)
    assert mode == "wal"


@pytest.mark.slow
def test_a_reader_of_the_table_holds_up_no_run(tmp_path: Path, simulate: Simulate, batchgen: Command) -> None:
    simulator = simulate()
    manifest = write_manifest(tmp_path / "m.yaml", 1)
    assert batchgen("run", manifest, **simulator.environment).returncode == 0
    write_manifest(tmp_path / "m.yaml", 2)
    with closing(sqlite3.connect(tmp_path / "batchgen.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM jobs").fetchall()
        ended = batchgen("run", manifest, **simulator.environment)
        assert ended.returncode == 0, ended.stderr
        check_delivered(tmp_path, tmp_path / "batchgen.db")
