"""A job table as a doctor sees it: read without changing a byte, however damaged it is."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, inspect, select, text, union_all
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from batchgen.files.part import mark_of
from batchgen.files.safe_open import DATABASE_SUFFIXES
from batchgen.jobs import State
from batchgen.jobtable.batches import StoredBatch, stored_batches
from batchgen.jobtable.database import errors_for_people
from batchgen.jobtable.delivery import LOOK_FOR_FILES, LostFiles, lost_files
from batchgen.jobtable.engine import inspection_engine, memory_engine, path_of
from batchgen.jobtable.joins import ATTEMPTS, CURRENT_ATTEMPTS
from batchgen.jobtable.leases import holders
from batchgen.jobtable.migrations import HEAD, OUR_TABLES, migrate, version_of
from batchgen.jobtable.moves import Departure, departure_of
from batchgen.jobtable.query import reason_of
from batchgen.jobtable.run_lock import Owner
from batchgen.jobtable.schema import attempts, jobs, metadata, outputs
from batchgen.jobtable.statistics import count
from batchgen.jobtable.table_lock import code_of

PATHS_AT_ONCE = 1_000
SHOWN_FAULTS = 5  # of those that SQLite finds
INDEX_FAULTS = ("missing from index", "wrong # of entries in index", "non-unique entry in index")
"""Faults that making the indexes again mends: the rows themselves are whole."""


@dataclass(slots=True)
class TableCondition:
    """What is wrong with a job table; empty values are good."""

    error: str = ""
    """Why it cannot be read at all."""
    is_disk_at_fault: bool = False
    """Whether it cannot be read because its disk is full or fails: nothing is known of the table then."""
    version: str | None = None
    is_empty: bool = False
    """Whether there is no table at all, so that a run makes the job table."""
    faults: list[str] = field(default_factory=list)
    """What SQLite's `PRAGMA integrity_check` says, and what somebody has dropped."""
    orphans: int = 0
    """Rows that refer to rows that do not exist."""
    batches: list[StoredBatch] = field(default_factory=list)
    is_standby: bool = False
    """Whether its server of PostgreSQL, its database or its role writes nothing."""
    missing_rights: list[str] = field(default_factory=list)
    """What a role of PostgreSQL may not do, as SQL says it: `INSERT ON jobs`."""
    grants: str = ""
    """The SQL by which the owner of the tables gives it these rights."""

    @property
    def is_current(self) -> bool:
        return not self.error and self.version == HEAD

    @property
    def is_only_indexes(self) -> bool:
        return all(any(words in fault for words in INDEX_FAULTS) for fault in self.faults)


def is_unused(path: Path) -> bool:
    """Whether no other process has an SQLite file open: its journal lies beside it for as long as one has."""
    return not any(path.with_name(path.name + suffix).exists() for suffix in DATABASE_SUFFIXES[1:])


@contextmanager
def inspecting(url: URL) -> Iterator[Connection]:
    """A snapshot of a job table, read by a connection that leaves the table as it is, byte for byte."""
    path = path_of(url)
    engine = inspection_engine(url, immutable=path is not None and is_unused(path))
    try:
        with engine.connect() as connection:
            snapshot = "BEGIN" if path else "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
            connection.exec_driver_sql(snapshot)
            yield connection
    finally:
        engine.dispose()


def inspect_table(url: URL) -> TableCondition:
    """Examine a job table that exists. Never raises for what is wrong with it."""
    condition = TableCondition()
    path = path_of(url)
    try:
        with inspecting(url) as connection:
            condition.version = version_of(connection)
            tables = set(inspect(connection).get_table_names())
            condition.is_empty = condition.version is None and not tables
            if path:
                pragma = f"PRAGMA integrity_check({SHOWN_FAULTS})"
                lines = [str(fault) for fault in connection.exec_driver_sql(pragma).scalars()]
                condition.faults = [line for fault in lines if fault != "ok" for line in fault.splitlines()]
                condition.orphans = len(connection.exec_driver_sql("PRAGMA foreign_key_check").all())
            if condition.version == HEAD:
                condition.faults += [f"the {part} is missing" for part in missing_parts(connection)]
            elif condition.version is None and tables >= OUR_TABLES:
                condition.faults.append("`alembic_version` is empty")
            if condition.is_current:
                condition.batches = stored_batches(connection)
                if not path:
                    examine_rights(connection, condition)
    except (SQLAlchemyError, sqlite3.Error, ValueError) as error:
        condition.error = reason_of(error)
        condition.is_disk_at_fault = code_of(error) == sqlite3.SQLITE_IOERR
    return condition


def missing_parts(connection: Connection) -> list[str]:
    """What a new job table has and this one lacks. PostgreSQL has other names for the indexes that SQLite makes."""
    with memory_engine().begin() as new:
        migrate(new)
        missing = parts(new) - parts(connection)
    is_sqlite = connection.dialect.name == "sqlite"
    return sorted(part for part in missing if is_sqlite or not part.startswith("index sqlite_"))


def parts(connection: Connection) -> set[str]:
    """The tables, views and indexes of a database, such as "index ix_jobs_due"."""
    return set(connection.exec_driver_sql(PARTS[connection.dialect.name]).scalars())


def examine_rights(connection: Connection, condition: TableCondition) -> None:
    """Learn whether this role of PostgreSQL may write the tables of a run."""
    condition.is_standby = connection.exec_driver_sql(IS_STANDBY).scalar_one()
    missing = connection.execute(MISSING_RIGHTS, {"tables": [table.name for table in metadata.sorted_tables]}).all()
    condition.missing_rights = [f"{row.needed} ON {row.name}" for row in missing]
    condition.grants = " ".join(sorted({row.sql for row in missing}))


@dataclass(frozen=True, slots=True)
class BatchCondition:
    """What keeps a batch from its end."""

    lost: LostFiles
    other_accounts: int
    """How many jobs wait that were sent with another key."""
    held: int
    """How many wait for a person: the answers to their requests were lost."""
    leases: dict[str, Owner]
    """The runs that hold jobs, dead or alive."""
    output_paths: list[str]
    awaited_paths: list[str]
    """Those of the jobs that have not ended."""
    move: Departure | None
    """The move that takes the batch to another table."""
    downloading: set[str]
    """The marks of the unfinished downloads that a run goes on with."""


def inspect_batch(url: URL, batch_id: int, folder: Path, now: datetime, account: str | None) -> BatchCondition:
    """Examine one batch of a table that can be read. `account` is the label of the key in use, if it is known.

    Raises `StorageError`.
    """
    of_batch = jobs.c.batch_id == batch_id
    paths = select(jobs.c.output_path).where(of_batch)
    awaited = paths.where(jobs.c.state.in_([state for state in State if not state.is_terminal]))
    current = select(attempts.c.client_request_id).select_from(CURRENT_ATTEMPTS).where(of_batch)
    others = current.where(jobs.c.state.in_(ACTIVE), attempts.c.account != account)
    downloading = current.where(jobs.c.state.in_([State.GENERATING, State.DOWNLOADING]))
    with errors_for_people(url), inspecting(url) as connection:
        return BatchCondition(
            lost_files(connection, batch_id, folder, until=now + LOOK_FOR_FILES),
            len(connection.execute(others).all()) if account else 0,
            count(connection, batch_id, State.UNCONFIRMED, jobs.c.next_at.is_(None)),
            holders(connection),
            list(connection.execute(paths).scalars()),
            list(connection.execute(awaited).scalars()),
            departure_of(connection, batch_id),
            {mark_of(attempt) for attempt in connection.execute(downloading).scalars()},
        )


def output_paths(connection: Connection, batch_id: int) -> Iterator[str]:
    """The paths at which files of a batch lie, or are about to: those of every attempt, below the manifest's folder."""
    of_batch = jobs.c.batch_id == batch_id
    written = select(outputs.c.path).select_from(ATTEMPTS).join(outputs).where(of_batch, outputs.c.path.is_not(None))
    statement = union_all(written, select(jobs.c.output_path).where(of_batch, jobs.c.state.in_(ACTIVE)))
    yield from connection.execute(statement.execution_options(yield_per=PATHS_AT_ONCE)).scalars()


PARTS = {
    "sqlite": "SELECT type || ' ' || name FROM sqlite_master WHERE type IN ('table', 'view', 'index')",
    "postgresql": "SELECT CASE relkind WHEN 'v' THEN 'view' WHEN 'i' THEN 'index' ELSE 'table' END || ' ' || relname"
    " FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'i') AND pg_table_is_visible(oid)",
}
IS_STANDBY = "SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean"
MISSING_RIGHTS = text("""
    WITH ours AS (
        SELECT c.oid, c.relname AS name, quote_ident(n.nspname) AS schema
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relname = ANY(:tables) AND c.relkind IN ('r', 'p') AND pg_table_is_visible(c.oid)
    )
    SELECT needed, name,
        format('GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA %s TO %I;', schema, current_user) AS sql
    FROM ours, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE']) AS needed
    WHERE NOT has_table_privilege(oid, needed)
    UNION ALL
    SELECT 'USAGE', s.relname, format('GRANT USAGE ON ALL SEQUENCES IN SCHEMA %s TO %I;', schema, current_user)
    FROM ours JOIN pg_depend d ON d.refobjid = ours.oid AND d.deptype = 'a' JOIN pg_class s ON s.oid = d.objid
    WHERE CASE s.relkind WHEN 'S' THEN NOT has_sequence_privilege(s.oid, 'USAGE') END
    ORDER BY 2, 1
""")
"""The rights that a run needs and its role does not have: no row is deleted. A sequence numbers the rows of a table."""

ACTIVE = [state for state in State if state.is_active]
