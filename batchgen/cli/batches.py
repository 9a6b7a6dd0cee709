"""The batches of a job table, and the jobs of a batch, as commands name them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Row, select

from batchgen.cli import options
from batchgen.errors import UsageError
from batchgen.jobs import State
from batchgen.jobtable import commands
from batchgen.jobtable.database import Database
from batchgen.jobtable.schema import batches
from batchgen.services.registry import SIMULATOR

StoredBatch = Row[tuple[int, str, str, str]]
"""The columns id, name, service and manifest_path of a batch."""


def stored_batches(connection: Connection) -> list[StoredBatch]:
    """Every batch in the job table."""
    columns = (batches.c.id, batches.c.name, batches.c.service, batches.c.manifest_path)
    return list(connection.execute(select(*columns).order_by(batches.c.id)))


def is_from(batch: StoredBatch, manifest: Path) -> bool:
    """Whether this manifest made the batch, by whatever path it is named, even if its folder has been moved since."""
    stored = Path(batch.manifest_path)
    if stored.exists() and manifest.exists():
        return stored.samefile(manifest)
    absolute = Path(os.path.normpath(manifest.absolute()))  # without "..", but with symbolic links as they are
    return stored == absolute or (not stored.exists() and stored.name == manifest.name)


@contextmanager
def open_table(db: str | None, manifest: Path | None) -> Iterator[Database]:
    """The job table of a manifest that was run before. Raises `UsageError` where there is none."""
    location = options.table_location(db, manifest or Path("batchgen.db"))
    if not options.table_exists(location):
        missing = f"{manifest}: there is no such manifest\n" if manifest and not manifest.exists() else ""
        raise UsageError(f"{missing}{location}: there is no job table yet; {options.next_command('run')} makes it")
    with Database(location) as database:
        yield database


def batches_from(database: Database, manifest: Path) -> list[StoredBatch]:
    """The batches that a manifest made: a real one, a simulated one, or both. Raises `UsageError` if there is none."""
    stored = database.read_now(stored_batches)
    matching = [batch for batch in stored if is_from(batch, manifest)]
    if not matching:
        location = database.path or database.url.render_as_string(hide_password=True)
        manifests = ", ".join(batch.manifest_path for batch in stored) or "no manifest"
        raise UsageError(f"{manifest}: is not in the job table {location}, which has {manifests}")
    return matching


@contextmanager
def open_batch(db: str | None, manifest: Path, simulate: bool) -> Iterator[tuple[Database, int]]:
    """The job table and the id of a manifest's batch, for commands that change it.

    Raises `UsageError` where the manifest was never run.
    """
    with open_table(db, manifest) as database:
        candidates = batches_from(database, manifest)
        matching = [batch for batch in candidates if (batch.service == SIMULATOR) == simulate]
        if not matching and len(candidates) > 1:
            raise UsageError(f"{manifest}: not run {'with' if simulate else 'without'} --simulate yet")
        yield database, (matching or candidates)[0].id


def job_keys(
    database: Database, batch_id: int, ids: Sequence[str], *, default: set[State], allowed: set[State], verb: str
) -> list[str]:
    """The jobs that a command is about: those in `ids`, or without any, all in the `default` states.

    Raises `UsageError` for an id that is not in the batch, and for a job that is in none of the `allowed` states.
    """
    if not ids:
        return database.read_now(commands.keys_in, batch_id, default)
    states = database.read_now(commands.states_of, batch_id, ids)
    problems = [f"{key}: there is no such job in this batch" for key in ids if key not in states]
    problems += [f"{key}: is {state}" for key, state in states.items() if state not in allowed]
    if problems:
        names = " and ".join(sorted(allowed, reverse=True))
        raise UsageError("\n".join([*problems, f"Only {names} jobs can be {verb}. Nothing has been changed."]))
    return list(dict.fromkeys(ids))
