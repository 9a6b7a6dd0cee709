"""SQLAlchemy engines: database URLs, SQLite pragmas, and transactions that begin with their first statement."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from batchgen.errors import UsageError
from batchgen.jobtable.table_lock import RETRY_SECONDS, TAKES_LOCK
from batchgen.services.text import visible

LOCK_TIMEOUT_MS = 2_000
"""How long PostgreSQL waits for a lock at once. `table_lock.py` tries again, as it does with SQLite."""
STATEMENT_TIMEOUT_MS = 300_000
"""How long one statement may take in PostgreSQL, whatever the server's own bound is: a query of a process that has died
must not go on for hours. Statistics of a million rows take seconds."""
BOUNDS = (
    "SELECT set_config('lock_timeout', '{}ms', true), set_config('statement_timeout', '{}ms', true),"
    " set_config('idle_in_transaction_session_timeout', '5min', true), set_config('datestyle', 'ISO', true),"
    " set_config('standard_conforming_strings', 'on', true)"
)
"""What holds for each transaction, whatever the server, the database or the role prefer. The driver reads no other form
of a time, and the views are written for such strings."""
WRITE_LOCK = (
    f", set_config('idle_in_transaction_session_timeout', '15s', true), {TAKES_LOCK}(7274331),"
    " pg_current_xact_id()::text"
)
"""One writer at a time in PostgreSQL too: what a transaction has read stays true to its end. The session time-out frees
the lock of a process that was stopped, or of a machine that has vanished, in the middle of a transaction. The id tells
later whether a transaction was committed (`writer.py`)."""
TRANSACTION_ID = "transaction_id"
"""The key of the transaction's id in `Connection.info`; only in PostgreSQL."""

HINTS = "batchgen"
"""The channel of PostgreSQL's NOTIFY: something may be due that no run has planned."""

NETWORK_OPTIONS = {
    "connect_timeout": "10",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "11000",
    "application_name": "batchgen",
    "client_encoding": "utf8",
}
"""Options of libpq, with which it notices within eleven seconds that a server's machine has vanished. A URL may name
others."""

SECRETS = ("password", "passfile", "sslkey", "sslpassword")
"""Parameters of a PostgreSQL URL that nobody is shown."""


def database_url(place: str | Path) -> URL:
    """A path or an SQLAlchemy URL, as a URL. Raises `UsageError`, whose message leaves out the URL and its password."""
    if "://" not in str(place):
        return URL.create("sqlite", database=str(Path(place).absolute()))
    try:
        url = make_url(str(place).replace("postgres://", "postgresql://", 1))  # libpq takes both, SQLAlchemy one
        dialect = url.get_dialect()
        if "@" in f"{url.host}{url.database}" and url.get_backend_name() == "postgresql":
            raise ValueError("what is read as the host, or the database, has the end of a password")
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise UsageError(
            "--db: not a database URL that can be used here. Give a path, or postgresql://user:password@host/name"
            " (with %2F and the like for the signs in a password)"
        ) from None
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise UsageError(f"--db: {url.get_backend_name()} is not supported; use SQLite or PostgreSQL")
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise UsageError("--db: a job table in memory would be gone with the run, and what it paid for; give a path")
    if url.get_driver_name() not in ("psycopg", "pysqlite"):
        begin = f"begin with {url.get_backend_name()}://"
        raise UsageError(f"--db: the driver {url.get_driver_name()} is not supported; {begin}")
    try:
        dialect.import_dbapi()
    except ImportError:
        raise UsageError("--db: PostgreSQL needs its driver: pip install 'batchgen[postgres]'") from None
    return url


def path_of(url: URL) -> Path | None:
    """The file of an SQLite database; None for PostgreSQL."""
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def file_of(connection: Connection) -> Path | None:
    """The file of an SQLite database, whose engine has it with options; None for PostgreSQL."""
    if connection.dialect.name != "sqlite":
        return None
    row = connection.exec_driver_sql("PRAGMA database_list").first()
    return Path(row.file) if row else None


def shown(url: URL) -> str:
    """A database for a person: its file, or its address without the password."""
    return visible(str(path_of(url) or url.difference_update_query(SECRETS).render_as_string(hide_password=True)))


def existing_file(url: URL, mode: str, *, immutable: bool = False) -> URL:
    """The same SQLite database, opened in a mode of SQLite that never makes a file: "rw" or "ro".

    Where it is `immutable`, nobody changes it, and SQLite makes no file beside it.
    """
    query = {"mode": mode, "uri": "true", **({"immutable": "1"} if immutable else {})}
    return URL.create("sqlite", database=Path(str(url.database)).absolute().as_uri(), query=query)


def may_write(path: Path) -> bool:
    """Whether this process may change the SQLite database of a file that is there, and make a journal beside it."""
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


def has_journal(path: Path) -> bool:
    """Whether an SQLite database has a journal: without one no run is at work."""
    return path.with_name(f"{path.name}-wal").exists()


def make_engine(url: URL, *, writing: bool, foreign_keys: bool = True) -> Engine:
    """An engine for writing, whose transactions hold the write lock from their beginning, or for reading a snapshot.

    Without `foreign_keys`, SQLite does not check them. Nothing waits long for a lock: `TableLock.wait_for` does.
    """
    return sqlite_engine(url, writing, foreign_keys) if path_of(url) else postgres_engine(url, writing)


def sqlite_engine(url: URL, writing: bool, foreign_keys: bool) -> Engine:
    path = Path(str(url.database))
    is_sealed = not (writing or may_write(path))  # such as one on a colleague's disk
    # Whatever the mode, a table that was moved away must not be made again.
    url = existing_file(url, "ro", immutable=not has_journal(path)) if is_sealed else existing_file(url, "rw")
    # A read waits for the one before it, however long that takes.
    options: dict[str, Any] = {"pool_size": 1, "max_overflow": 0, "pool_timeout": None}
    engine = create_engine(url, connect_args={"check_same_thread": False}, **options)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver would begin at the first write, after the reads it depends on
        for pragma in (
            f"busy_timeout={round(RETRY_SECONDS * 1000)}",
            *([] if is_sealed else ["journal_mode=WAL"]),
            "synchronous=FULL",  # an intent must survive a power cut
            f"foreign_keys={'ON' if foreign_keys else 'OFF'}",
            f"query_only={'OFF' if writing else 'ON'}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


def memory_engine() -> Engine:
    """An engine of an empty SQLite database in memory."""
    return create_engine("sqlite://")


def allow_idle(connection: Connection) -> None:
    """Let a transaction compute for up to five minutes between two statements, and hold up all others meanwhile."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = '5min'")


def connect_args(url: URL) -> dict[str, Any]:
    """What the driver of PostgreSQL is given beside the URL.

    Statements that a connection has prepared are not there in its next transaction, behind a pooler of transactions.
    """
    options = {name: value for name, value in NETWORK_OPTIONS.items() if name not in url.query}
    return {**options, "prepare_threshold": None}


def postgres_engine(url: URL, writing: bool) -> Engine:
    """No connection is tested before its use: a transaction that finds it broken is run again (`table_lock.py`)."""
    # READ COMMITTED: a snapshot taken while the transaction waits for the lock would be out of date when it gets it.
    options: dict[str, Any] = {"isolation_level": "READ COMMITTED"}
    if not writing:
        options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    pool: dict[str, Any] = {"pool_size": 1, "max_overflow": 0, "pool_timeout": LOCK_TIMEOUT_MS / 1000}
    engine = create_engine(url, connect_args=connect_args(url), execution_options=options, **pool)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        bounds = BOUNDS.format(LOCK_TIMEOUT_MS, STATEMENT_TIMEOUT_MS)
        row = connection.exec_driver_sql(bounds + WRITE_LOCK if writing else bounds).one()
        if writing:
            connection.info[TRANSACTION_ID] = row[-1]

    return engine


def inspection_engine(url: URL, *, immutable: bool = False) -> Engine:
    """A read-only engine that leaves even a file of another kind unchanged, byte for byte.

    `immutable` makes no journal beside it either; it is for a file that nobody else has open.
    """
    if path := path_of(url):
        is_immutable = immutable or not (may_write(path) or has_journal(path))
        return create_engine(existing_file(url, "ro", immutable=is_immutable), connect_args={"timeout": RETRY_SECONDS})
    return postgres_engine(url, writing=False)
