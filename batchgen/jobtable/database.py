"""The job table's database: `write` and `read` run functions of a connection, in transactions.

Writes go through one writer thread. Reads have an engine of their own, so that a display never holds up a stage.
"""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Concatenate, ParamSpec, Self, TypeVar

from sqlalchemy import Connection, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from batchgen import clock
from batchgen.errors import StorageError
from batchgen.jobtable.engine import database_url, make_engine, may_write, path_of, shown
from batchgen.jobtable.migrations import bring_up, is_current
from batchgen.jobtable.table_lock import PATIENCE_TRIES, QUERY_CANCELED, TableLock, code_of
from batchgen.jobtable.writer import Writer

P = ParamSpec("P")
T = TypeVar("T")
SERVER_TIME = text("SELECT clock_timestamp()")
"""The only clock that SQL reads: no statement decides by it, `now` is always a parameter."""

LOST = (
    "the job table was moved, deleted or replaced while this run was at work on it. Nothing more is sent. Put it back,"
    " with its -wal file beside it, and run the same command: a run on another table would pay for the same jobs again"
)
JOURNAL_LOST = (
    "the job table's journal was moved, deleted or replaced while this run was at work on it. Nothing more is sent."
    " What was in it is written into the table, unless another program has begun a new one; run the same command again"
)
READ_ONLY = "it may only be read here. Ask for the right to write it"
DISK_AT_FAULT = "its disk is full, or fails. Free some space or check the disk, then run the same command"
SENTENCES: dict[object, str] = {
    sqlite3.SQLITE_FULL: "its disk is full. Free some space, then run the same command: what was stored is safe",
    sqlite3.SQLITE_READONLY: f"{READ_ONLY}, its file and its folder",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened. It and its folder must be writable, and few files open (ulimit -n)",
    sqlite3.SQLITE_IOERR: DISK_AT_FAULT,
    sqlite3.SQLITE_NOTADB: "it is no job table, or is damaged. Name another one with --db; `batchgen doctor` says how"
    " to begin again",
    sqlite3.SQLITE_CORRUPT: "it is damaged. Put a copy of it back; without one, `batchgen doctor` says how to begin"
    " again",
    "25006": f"{READ_ONLY}, or name the server that is no standby",
    "3F000": "no schema of its search_path exists, or none that this role may use. Set another one (ALTER ROLE … SET"
    " search_path = …), or make the schema",
    "25P03": "the server ended the connection, and its log says why. Where it bounds idle transactions to milliseconds,"
    " allow this role more (ALTER ROLE … SET idle_in_transaction_session_timeout = '1min')",
    QUERY_CANCELED: "a query took too long and was stopped by the server",
}
"""What a person does about an error, by the primary code of SQLite or the state of PostgreSQL."""
NO_RIGHT = "42501"
RIGHTS = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP)\b", re.IGNORECASE)
"""How a statement begins for which a role of PostgreSQL needs a right of that name, or the table."""


@contextmanager
def errors_for_people(url: URL) -> Iterator[None]:
    """Turn a database error into a `StorageError` that names the database, without its password, and the reason."""
    try:
        yield
    except SQLAlchemyError as error:
        raise StorageError(f"{shown(url)}: the job table cannot be used: {reason_for_person(error)}") from error


def reason_for_person(error: SQLAlchemyError) -> str:
    """What a person does about an error, and the reason: without the text of a statement, which PostgreSQL repeats."""
    origin = error.orig if isinstance(error, DBAPIError) else None
    diagnosis = getattr(origin, "diag", None)
    parts = [getattr(diagnosis, f"message_{part}", None) for part in ("primary", "detail")]
    reason = " ".join((": ".join(filter(None, parts)) or str(origin or error)).split())
    code = code_of(error)
    if not code and getattr(error, "connection_invalidated", False):  # psycopg saw no more than the end
        code = "25P03"
    if code == NO_RIGHT:
        right = RIGHTS.match(getattr(error, "statement", None) or "")
        lacks = f"may not {right[1].upper()}" if right else "lacks a right"
        return f"this role {lacks} ({reason}). Ask the owner for that; `batchgen doctor` may know the GRANT"
    return f"{SENTENCES[code]} ({reason})" if code in SENTENCES else reason


class Database:
    """The job table's database, open as a context manager.

    `patience` bounds how often a lock of another program is tried (`table_lock.py`); None waits as long as it is held.

    Opening raises `DatabaseNewer` for a table of a newer batchgen, `UsageError` for a database of something else and
    `StorageError` for a file that cannot be used. In each case nothing has been written.
    """

    def __init__(self, location: str | Path, *, patience: int | None = PATIENCE_TRIES) -> None:
        self.url = database_url(location)
        self.path = path_of(self.url)
        """The file of an SQLite database; None for PostgreSQL."""
        self.lock = TableLock(shown(self.url), self.path, patience)
        self.is_new = False
        """Whether the tables were made just now."""

    def __enter__(self) -> Self:
        with errors_for_people(self.url):
            if not self.lock.wait_for(lambda: is_current(self.url)):
                self.is_new = self.lock.wait_for(lambda: bring_up(self.url))
            self.engine = make_engine(self.url, writing=True)
            self.reading = make_engine(self.url, writing=False)
            # A file that cannot be written is noticed before anything is sent: here, or at a run's first write.
            if self.may_write:
                self.lock.wait_for(lambda: self.engine.connect().close())
            # The same file is read, whatever happens to its name.
            self.lock.wait_for(lambda: self.reading.connect().close())
        self.files = {path: path.stat() for path in self.names if path.exists()}
        """The table and its journal as they were opened."""
        self.lock.reconnects = True
        self.read_clock()
        self.writer = Writer(self.engine, self.lock, hints=self.path is None and self.lock.patience is not None)
        if self.path is None:
            clock.SERVER.follow()
        return self

    @property
    def may_write(self) -> bool:
        """Whether this process may change the table, as far as can be seen without trying."""
        return self.path is None or may_write(self.path)

    def copy_to(self, path: Path) -> None:
        """Copy an SQLite table, as it stands now, to a new file."""
        with closing(sqlite3.connect(path)) as target:
            self.read_now(lambda connection: connection.connection.dbapi_connection.backup(target))  # type: ignore[union-attr]

    def read_clock(self) -> None:
        """Go by the clock of the database's server, where there is one. The clock of the machine may be wrong."""
        if self.path is None:
            self.read_now(learn_clock)

    @property
    def names(self) -> list[Path]:
        """The files of an SQLite table: itself, its journal, and the index of that, by which processes agree."""
        return [self.path.with_name(self.path.name + suffix) for suffix in ("", "-wal", "-shm")] if self.path else []

    def misplaced(self) -> Path | None:
        """The first of the open files that does not have its name any more: the same device and inode."""
        for path, opened in self.files.items():
            try:
                if not os.path.samestat(opened, path.stat()):
                    return path
            except OSError:
                return path
        return None

    def check_in_place(self) -> None:
        """Raise `StorageError` if a file was moved, deleted or replaced: the next run would not see what it has."""
        if lost := self.misplaced():
            raise StorageError(f"{lost}: {LOST if lost == self.path else JOURNAL_LOST}")

    def save_journal(self) -> None:
        """Write a journal that has lost its name into the table: only connections opened before can read it.

        Where another program has written a new one, each would overwrite pages of the other, which damages the table.
        """
        lost = self.misplaced()
        if lost and lost in self.names[1:2] and not (lost.exists() and lost.stat().st_size):
            with suppress(sqlite3.Error), closing(self.engine.raw_connection()) as connection:
                for _ in range(PATIENCE_TRIES):  # a reader keeps back what came after its snapshot
                    is_busy, *_ = connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                    if not is_busy:
                        break

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind and not issubclass(kind, Exception):  # Ctrl-C ends a command at once
            self.lock.impatient.set()
        self.writer.close()
        self.reading.dispose()
        self.save_journal()
        self.engine.dispose()
        if self.path is None:
            clock.SERVER.leave()

    async def write(self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function(connection, …)` in a write transaction; return its value once that is durable.

        A caller that is cancelled stops waiting; the write is done all the same.
        """
        future = self.writer.submit(lambda connection: function(connection, *args, **kwargs))
        with errors_for_people(self.url):
            result: T = await asyncio.wrap_future(future)
        return result

    def write_now(self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`write` for callers without an event loop."""
        future = self.writer.submit(lambda connection: function(connection, *args, **kwargs))
        with errors_for_people(self.url):
            result: T = future.result()
        return result

    async def read(self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function(connection, …)` on a snapshot of the table, beside the writer."""
        return await asyncio.to_thread(partial(self.read_now, function, *args, **kwargs))

    def read_now(self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`read` for callers without an event loop."""

        def run() -> T:
            with self.reading.begin() as connection:
                return function(connection, *args, **kwargs)

        with errors_for_people(self.url):
            return self.lock.wait_for(run)


def learn_clock(connection: Connection) -> None:
    asked_at = clock.machine_now()
    answer = connection.execute(SERVER_TIME).scalar_one()
    clock.SERVER.learn(asked_at, answer, clock.machine_now())
