"""Where the job table of a manifest is, which of its batches the manifest made, and the rows of batches."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from batchgen.catalogue.wording import listed
from batchgen.errors import UsageError
from batchgen.files.local_files import FileDigests
from batchgen.files.spelling import no_such_manifest, similar_manifest
from batchgen.jobs import JobSpec, State
from batchgen.jobtable import moves, settings
from batchgen.jobtable.database import Database
from batchgen.jobtable.engine import file_of, shown
from batchgen.jobtable.fingerprint import fingerprint_of
from batchgen.jobtable.joins import CURRENT_OR_NONE
from batchgen.jobtable.schema import attempts, batches, jobs
from batchgen.services.registry import SIMULATOR
from batchgen.services.text import character_fault

LIBPQ = re.compile(r"(^|\s)(host|hostaddr|dbname|service)\s*=|^postgres(ql)?:(?!//)")
"""A database as programs of PostgreSQL take it, and a URL without its slashes."""
StoredBatch = Row[tuple[int, str, str, str, datetime]]
"""The columns id, name, service, manifest_path and synced_at of a batch."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A manifest's identity in the database."""

    name: str
    service: str
    manifest: Path
    sha256: str


@dataclass(frozen=True, slots=True)
class EnrolledBatch:
    """A batch with jobs that have not ended."""

    id: int
    name: str
    service: str
    manifest_path: str
    synced_at: datetime
    setting: int
    """The newest setting of a person."""


def stored_batches(connection: Connection) -> list[StoredBatch]:
    """Every batch in the job table."""
    return list(connection.execute(STORED))


def open_batches(connection: Connection) -> list[EnrolledBatch]:
    """The batches with jobs that have not ended, as they were first enrolled; none that was moved to another table."""
    unended = [state for state in State if not state.is_terminal]
    has_open = select(jobs.c.id).where(jobs.c.batch_id == batches.c.id, jobs.c.state.in_(unended)).exists()
    rows = connection.execute(STORED.where(has_open)).all()
    away = {batch_id for move in moves.departures(connection) for batch_id in move.names}
    return [EnrolledBatch(*row, setting=settings.newest(connection, row.id)) for row in rows if row.id not in away]


def models_of(connection: Connection, batch_id: int) -> tuple[str, ...]:
    models = connection.execute(select(jobs.c.model).where(jobs.c.batch_id == batch_id).distinct()).scalars()
    return tuple(sorted(models))


def sent_keys(connection: Connection, batch: str) -> set[str]:
    """The keys of the jobs that were sent, and no longer need the files of their manifest."""
    sent = jobs.c.state.not_in([state for state in State if state.is_unsent]) | jobs.c.attempt_id.is_not(None)
    return set(connection.execute(select(jobs.c.key).join(batches).where(batches.c.name == batch, sent)).scalars())


def is_at(batch: StoredBatch, manifest: Path) -> bool:
    """Whether the batch was made from this very place."""
    stored = Path(batch.manifest_path)
    with suppress(OSError, ValueError):  # one of them is not there, or not to be seen
        return stored.samefile(manifest)
    return stored == Path(os.path.normpath(manifest.absolute()))  # without "..", but with symbolic links as they are


def may_exist(path: Path) -> bool:
    """Whether a file is there, or may be: nobody sees into another person's private folder."""
    try:
        return path.exists()
    except PermissionError:
        return True


def is_moved(batch: StoredBatch, manifest: Path) -> bool:
    """Whether the batch was made from a file of this name that is not on this machine, at least not there any more."""
    stored = Path(batch.manifest_path)
    return stored.name == manifest.name and not may_exist(stored)


def is_copied(batch: StoredBatch, manifest: Path, table: Path | None) -> bool:
    """Whether manifest and job table are copies, side by side as their originals: a backup, or a colleague's."""
    stored = Path(batch.manifest_path)
    if table is None or stored.name != manifest.name or table.resolve().parent != manifest.parent.resolve():
        return False
    return may_exist(stored.with_name(table.name))


def made_by(stored: Sequence[StoredBatch], manifest: Path, table: Path | None = None) -> list[StoredBatch]:
    """The batches that a manifest made, real and simulated, each from this very place, else from a file of this name
    that was moved; with the SQLite `table` that has them, else from one that was copied with it."""
    made: list[StoredBatch] = []
    for is_its in (is_at, is_moved, partial(is_copied, table=table)):
        kinds = {batch.service == SIMULATOR for batch in made}
        made += [batch for batch in stored if is_its(batch, manifest) and (batch.service == SIMULATOR) not in kinds]
    return made


def table_location(db: str | Path | None, manifest: Path) -> str | Path:
    """Where the job table is: `db`, else BATCHGEN_DB, else beside the manifest. Raises `UsageError`."""
    place = db or os.environ.get("BATCHGEN_DB", "").strip()
    # A slip must not make a second table, which would pay for the same jobs again.
    if (fault := character_fault(str(place))) and not Path(place).exists():
        raise UsageError(f"--db {fault}. There is no such job table, and none is made under such a name")
    if LIBPQ.search(str(place)) and not Path(place).exists():
        raise UsageError("--db: a server's database is written as a URL here: postgresql://user:password@host/name")
    return place or manifest.absolute().parent / "batchgen.db"


def table_exists(location: str | Path) -> bool:
    """Whether there is a job table, as far as can be seen without opening it: a URL is taken to have one."""
    return "://" in str(location) or Path(location).exists()


@contextmanager
def open_table(db: str | Path | None, manifest: Path | None, run_command: str = "a run") -> Iterator[Database]:
    """The job table of a manifest, or of none. Raises `UsageError` where there is no table, and for a manifest that is
    not there and was not run: one that was deleted after its run still names its batch."""
    if manifest and manifest.is_dir():
        hint = similar_manifest(manifest) or "name a manifest in it, or its job table with --db"
        raise UsageError(f"{manifest}: this is a folder; {hint}")
    location = table_location(db, manifest or Path("batchgen.db"))
    if not table_exists(location):
        if manifest and not manifest.exists():
            raise UsageError(f"{no_such_manifest(manifest)}\n{location}: there is no job table; name one with --db")
        raise UsageError(f"{location}: there is no job table yet; {run_command} makes it")
    with Database(location) as database:
        if manifest and not may_exist(manifest):
            chosen_batches(database, manifest, simulate=False)
        yield database


def chosen_batches(database: Database, manifest: Path | None, *, simulate: bool) -> list[StoredBatch]:
    """The batches of a manifest, or of the whole table; with `simulate`, only simulated ones. Raises `UsageError`."""
    stored = database.read_now(stored_batches)
    chosen = made_by(stored, manifest, database.path) if manifest else stored
    if manifest and not chosen:
        raise UsageError(not_stored(manifest, stored, shown(database.url)))
    if simulate and not (chosen := [batch for batch in chosen if batch.service == SIMULATOR]):
        raise UsageError(f"{manifest or shown(database.url)}: not run with --simulate yet")
    return chosen


def not_stored(manifest: Path, stored: Sequence[StoredBatch], table: str) -> str:
    """Why a command finds no batch of this manifest, and what may be meant."""
    if batch := next((batch for batch in stored if batch.name == str(manifest)), None):
        simulate = " --simulate" if batch.service == SIMULATOR else ""
        return f"{manifest}: this is the name of a batch; name its manifest: {batch.manifest_path}{simulate}"
    paths = list(dict.fromkeys(batch.manifest_path for batch in stored))
    manifests = listed(paths) or "no manifest"
    if manifest.exists():
        advice = "a run puts it there, or name its table with --db"
        if not all(may_exist(Path(path)) for path in paths):
            advice = "if it was renamed, name it as it was"
        return f"{manifest}: it is not in the job table {table}, which has {manifests}; {advice}"
    return f"{no_such_manifest(manifest)}\nThe job table {table} has {manifests}"


def upsert_batch(
    connection: Connection, batch: Batch, now: datetime, specs: Sequence[JobSpec], digests: FileDigests
) -> int:
    """Create or update the row of a batch. Returns its id. Raises `UsageError` where another manifest has the name."""
    row = connection.execute(select(batches).where(batches.c.name == batch.name)).one_or_none()
    values = {"manifest_path": str(batch.manifest), "manifest_sha256": batch.sha256, "synced_at": now}
    if row is None:
        new = {"name": batch.name, "service": batch.service, "created_at": now}
        empty = {"spent_nanousd": Decimal(0), "reserved_nanousd": Decimal(0), "unpriced": 0, "delivered_bytes": 0}
        inserted = connection.execute(insert(batches).values(**new, **values, **empty).returning(batches.c.id))
        return int(inserted.scalar_one())
    moves.refuse_moved(connection, row.id)
    if row.service != batch.service:
        raise UsageError(
            f"{batch.manifest}: the batch {batch.name!r} was begun with service {row.service}, and the manifest now"
            f" says {batch.service}. Give it another `batch:` name, or another database with --db."
        )
    if not is_same_manifest(connection, row, batch.manifest, specs, digests):
        raise UsageError(
            f"{batch.manifest}: this database already holds a batch {batch.name!r}, from {row.manifest_path}."
            " Give this one another `batch:` name, or another database with --db. Where this database is a copy, run"
            " the batch in one place only: two of them would pay twice for what is not sent yet."
        )
    connection.execute(update(batches).where(batches.c.id == row.id).values(**values))
    return int(row.id)


def is_same_manifest(
    connection: Connection, batch: Any, manifest: Path, specs: Sequence[JobSpec], digests: FileDigests
) -> bool:
    """Whether a batch was made from this manifest.

    One that was moved lies beside its table, or still asks for one of the batch's jobs at least. Another person's
    manifest with the same batch name asks for none, and would cancel them all.
    """
    if is_at(batch, manifest) or may_exist(Path(batch.manifest_path)):
        return is_at(batch, manifest)
    table = file_of(connection)
    if table and table.parent.resolve() == manifest.parent.resolve():
        return True
    columns = (jobs.c.key, jobs.c.fingerprint, attempts.c.input_digests)
    of_batch = select(*columns).select_from(CURRENT_OR_NONE).where(jobs.c.batch_id == batch.id)
    rows = {row.key: row for row in connection.execute(of_batch)}
    fingerprints = {row.fingerprint for row in rows.values()}
    sent = {key: row.input_digests for key, row in rows.items()}
    return not rows or any(fingerprint_of(spec, digests, sent.get(spec.key)) in fingerprints for spec in specs)


STORED = select(
    *(batches.c.id, batches.c.name, batches.c.service, batches.c.manifest_path, batches.c.synced_at)
).order_by(batches.c.id)
