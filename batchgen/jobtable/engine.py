"""SQLAlchemy engines: database URLs, SQLite pragmas, and transactions that begin with their first statement."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError

from batchgen.errors import StorageError, UsageError

LOG = logging.getLogger("batchgen.jobtable")

BUSY_TIMEOUT_MS = 5_000
"""How long SQLite waits for the lock of another process, deaf to everything: a second Ctrl-C must end a run soon."""
LOCK_TRIES = 120
"""How often a transaction waits so long: after ten minutes, whoever holds the lock has forgotten it."""
LOCK_TIMEOUT_MS = 30_000
"""How long PostgreSQL waits for the lock of another writer."""
WAL_TRIES, WAL_PAUSE_MS = 600, 50
"""How often the switch to write-ahead logging is tried while other processes use the database: for a minute at most."""
END_IT = "has locked the job table. End it, then run the same command"
PAUSE = threading.Event()
"""Never set."""
TAKE_WRITE_LOCK = f"""
SELECT set_config('lock_timeout', '{LOCK_TIMEOUT_MS}ms', true),
       set_config('idle_in_transaction_session_timeout', '5min', true),
       pg_advisory_xact_lock(7274331)
"""
"""One writer at a time in PostgreSQL too: what a transaction has read stays true to its end. The session time-out frees
the lock of a machine that has vanished."""


def database_url(place: str | Path) -> URL:
    """A path or an SQLAlchemy URL, as a URL. Raises `UsageError`, whose message leaves out the URL and its password."""
    if "://" not in str(place):
        return URL.create("sqlite", database=str(Path(place).absolute()))
    try:
        url = make_url(str(place))
        dialect = url.get_dialect()
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise UsageError(
            "--db: not a database URL that can be used here. Give a path, or postgresql://user:password@host/name"
            " (with %2F and the like for the signs in a password)"
        ) from None
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise UsageError(f"--db: {url.get_backend_name()} is not supported; use SQLite or PostgreSQL")
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise UsageError("--db: a job table in memory would be gone with the run, and what it paid for; give a path")
    try:
        dialect.import_dbapi()
    except ImportError:
        raise UsageError("--db: PostgreSQL needs its driver: pip install 'batchgen[postgres]'") from None
    return url


def path_of(url: URL) -> Path | None:
    """The file of an SQLite database; None for PostgreSQL."""
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def existing_file(url: URL, mode: str) -> URL:
    """The same SQLite database, opened in a mode of SQLite that never makes a file: "rw" or "ro"."""
    address = Path(str(url.database)).absolute().as_uri()
    return URL.create("sqlite", database=address, query={"mode": mode, "uri": "true"})


def use_write_ahead_log(connection: sqlite3.Connection, path: Path | None = None) -> None:
    """Switch to write-ahead logging. SQLite sometimes ignores its busy time-out for that, so it is tried again.

    Raises `StorageError` where another process, even one that only reads, keeps the table busy.
    """
    connection.execute(f"PRAGMA busy_timeout={WAL_PAUSE_MS}")
    for _ in range(WAL_TRIES):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
        PAUSE.wait(WAL_PAUSE_MS / 1000)
    raise StorageError(f"{path}: {lock_holders(path)} {END_IT}")


def make_engine(
    url: URL, *, writing: bool, foreign_keys: bool = True, impatient: threading.Event | None = None
) -> Engine:
    """An engine for writing, whose transactions hold the write lock from their beginning, or for reading a snapshot.

    Without `foreign_keys`, SQLite does not check them. Once `impatient` is set, nobody else's lock is waited for.
    """
    if not path_of(url):
        return postgres_engine(url, writing)
    return sqlite_engine(url, writing, foreign_keys, impatient or threading.Event())


def sqlite_engine(url: URL, writing: bool, foreign_keys: bool, impatient: threading.Event) -> Engine:
    path = path_of(url)
    url = existing_file(url, "rw")  # a table that was moved away must not be made again
    engine = create_engine(url, pool_size=1, max_overflow=0, connect_args={"check_same_thread": False})

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver would begin at the first write, after the reads it depends on
        use_write_ahead_log(connection, path)
        for pragma in (
            f"busy_timeout={BUSY_TIMEOUT_MS}",
            "synchronous=FULL",  # an intent must survive a power cut
            f"foreign_keys={'ON' if foreign_keys else 'OFF'}",
            f"query_only={'OFF' if writing else 'ON'}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if not writing:
            connection.exec_driver_sql("BEGIN")
            return
        for number in range(LOCK_TRIES):
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                return
            except OperationalError as error:
                code = getattr(error.orig, "sqlite_errorcode", None)
                if code != sqlite3.SQLITE_BUSY or impatient.is_set():
                    raise
            if not number:
                LOG.warning(f"{path} is locked by {lock_holders(path)}; this run waits for it")
        raise StorageError(f"{path}: {lock_holders(path)} {END_IT}")

    return engine


def lock_holders(path: Path | None) -> str:
    """The other processes that hold a lock on a file, as Linux lists them, in words."""
    holders = {}
    with suppress(OSError, ValueError, AttributeError):
        inode = str(path.stat().st_ino) if path else ""
        for line in Path("/proc/locks").read_text("utf-8").splitlines():
            _, kind, _, _, pid, file, *_ = line.split()
            if kind == "POSIX" and file.rpartition(":")[2] == inode and int(pid) not in (os.getpid(), 0, -1):
                command = Path(f"/proc/{pid}/comm").read_text("utf-8", "replace").strip()
                holders[pid] = f"process {pid} ({command!a})"
    return " and ".join(holders.values()) or "another process"


def postgres_engine(url: URL, writing: bool) -> Engine:
    if not writing:
        snapshot = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        return create_engine(url, pool_size=1, max_overflow=0, pool_pre_ping=True, execution_options=snapshot)
    # READ COMMITTED: a snapshot taken while the transaction waits for the lock would be out of date when it gets it.
    engine = create_engine(url, pool_size=1, max_overflow=0, pool_pre_ping=True, isolation_level="READ COMMITTED")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(TAKE_WRITE_LOCK)

    return engine


def inspection_engine(url: URL) -> Engine:
    """A read-only engine that leaves even a file of another kind unchanged, byte for byte."""
    if path_of(url):
        url = existing_file(url, "ro")
    return create_engine(url)
