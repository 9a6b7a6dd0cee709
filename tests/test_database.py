"""Writing: real transactions, group commit, and an `await` that returns when the row is durable."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, event, insert, select, text, update

from batchgen.errors import BatchgenError, StorageError
from batchgen.jobtable.database import Database
from batchgen.jobtable.schema import timings
from tests.processes import gather
from tests.table import place_of


def note(connection: Connection, name: str, number: int | None = 0) -> str:
    """Insert a row into a table without foreign keys."""
    connection.execute(
        insert(timings).values(service="s", model=name, clip_seconds=5.0, generations=number, log_mean=0, log_m2=0)
    )
    return name


def names(connection: Connection) -> list[str]:
    return list(connection.execute(select(timings.c.model).order_by(timings.c.model)).scalars())


def hold(connection: Connection, begun: threading.Event, released: threading.Event) -> None:
    begun.set()
    assert released.wait(30)


class Queue:
    """Writes that wait behind one that holds the writer, so that they share the next transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.begun, self.released = threading.Event(), threading.Event()

    async def hold(self) -> asyncio.Task[None]:
        held = asyncio.create_task(self.database.write(hold, self.begun, self.released))
        await asyncio.to_thread(self.begun.wait, 30)
        return held


def transactions_of(database: Database) -> list[str]:
    """Every COMMIT and ROLLBACK on the writer's connection from now on."""
    endings: list[str] = []
    event.listen(database.engine, "commit", lambda _: endings.append("commit"))
    event.listen(database.engine, "rollback", lambda _: endings.append("rollback"))
    return endings


async def test_waiting_writes_share_one_transaction(database: Database) -> None:
    queue = Queue(database)
    held = await queue.hold()
    writes = [asyncio.create_task(database.write(note, f"n{number}")) for number in range(100)]
    await asyncio.sleep(0)  # every task has put its write into the queue
    endings = transactions_of(database)
    queue.released.set()
    assert await asyncio.gather(*writes) == [f"n{number}" for number in range(100)]
    await held
    assert endings == ["commit", "commit"]  # the one that held, and the hundred


async def test_a_write_that_fails_fails_alone(database: Database) -> None:
    queue = Queue(database)
    held = await queue.hold()
    good = [asyncio.create_task(database.write(note, f"n{number}")) for number in range(5)]
    bad = asyncio.create_task(database.write(note, "bad", None))
    last = asyncio.create_task(database.write(note, "last"))
    await asyncio.sleep(0)
    queue.released.set()
    with pytest.raises(StorageError, match=r"timings\.generations"):
        await bad
    await asyncio.gather(held, *good, last)
    assert await database.read(names) == ["last", "n0", "n1", "n2", "n3", "n4"]


async def test_an_error_of_our_own_is_raised_unchanged_and_rolls_back(database: Database) -> None:
    def refuse(connection: Connection) -> None:
        note(connection, "half")
        raise BatchgenError("not so")

    with pytest.raises(BatchgenError, match=r"^not so$"):
        await database.write(refuse)
    assert await database.read(names) == []


async def test_a_cancelled_caller_does_not_stop_the_writer(database: Database) -> None:
    """A second Ctrl-C cancels the tasks; their queued writes are committed, and other callers go on writing."""
    queue = Queue(database)
    held = await queue.hold()
    left = asyncio.create_task(database.write(note, "left"))
    await asyncio.sleep(0)
    left.cancel()
    queue.released.set()
    await held
    with pytest.raises(asyncio.CancelledError):
        await left
    assert await asyncio.wait_for(database.write(note, "next"), 20) == "next"
    assert await database.read(names) == ["left", "next"]


async def test_a_write_returns_only_once_it_is_committed(database: Database) -> None:
    assert database.path
    with closing(sqlite3.connect(database.path)) as other:
        for number in range(20):
            await database.write(note, f"n{number}")
            assert other.execute("SELECT count(*) FROM timings").fetchone() == (number + 1,)


def test_commits_are_durable_synchronous_full_with_a_write_ahead_log(database: Database) -> None:
    expected = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    with database.engine.connect() as connection:
        pragmas = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in expected}
    assert pragmas == expected


def test_a_read_cannot_write(database: Database) -> None:
    with pytest.raises(StorageError, match="readonly"):
        database.read_now(note, "n")


async def test_a_reader_sees_the_table_while_a_writer_holds_it(database: Database) -> None:
    queue = Queue(database)
    held = await queue.hold()
    assert await database.read(names) == []
    queue.released.set()
    await held


COUNTING_PROGRAM = """
import sys
from sqlalchemy import select, update
from batchgen.jobtable.database import Database
from batchgen.jobtable.schema import timings
def one_more(connection):
    seen = connection.execute(select(timings.c.generations)).scalar_one()
    connection.execute(update(timings).values(generations=seen + 1))
with Database(sys.argv[1]) as database:
    print("ready", flush=True); sys.stdin.readline()
    for _ in range(100):
        database.write_now(one_more)
"""


@pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
def test_no_update_is_lost_between_two_processes(database: Database) -> None:
    database.write_now(note, "counter")
    gather(COUNTING_PROGRAM, [place_of(database)] * 2)
    assert database.read_now(lambda connection: connection.execute(select(timings.c.generations)).scalar_one()) == 200


def test_nothing_changes_between_the_reads_and_the_writes_of_a_transaction(database: Database) -> None:
    """BEGIN IMMEDIATE: nobody else can begin a write in between."""
    assert database.path
    other = sqlite3.connect(database.path, timeout=0, isolation_level=None, check_same_thread=False)

    def read_then_write(connection: Connection) -> None:
        connection.execute(select(timings)).all()
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        connection.execute(update(timings).values(generations=1))

    with closing(other):
        database.write_now(read_then_write)


OPENING_PROGRAM = """
import sys
from batchgen.jobtable.database import Database
print("ready", flush=True); sys.stdin.readline()
with Database(sys.argv[1]) as database:
    print(database.read_now(lambda c: c.exec_driver_sql("SELECT count(*) FROM jobs").scalar()))
"""


@pytest.mark.parametrize("round_", range(3))
def test_four_first_runs_at_once_all_open_a_complete_table(tmp_path: Path, round_: int) -> None:
    assert gather(OPENING_PROGRAM, [tmp_path / "new.db"] * 4) == ["0"] * 4


def test_closing_commits_the_queued_writes(tmp_path: Path) -> None:
    async def ask(database: Database) -> None:
        for number in range(50):
            task = asyncio.create_task(database.write(note, f"n{number:02}"))
            await asyncio.sleep(0)
            task.cancel()

    with Database(tmp_path / "a.db") as database:
        asyncio.run(ask(database))
    with Database(tmp_path / "a.db") as database:
        assert len(database.read_now(names)) == 50
        assert database.read_now(lambda connection: connection.execute(text("PRAGMA integrity_check")).scalar()) == "ok"
