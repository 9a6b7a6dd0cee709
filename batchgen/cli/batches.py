"""The batches of a job table, and the jobs of a batch, as commands name them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, select

from batchgen.cli.options import next_command, table_exists, table_location
from batchgen.errors import UsageError
from batchgen.jobs import State
from batchgen.jobtable import commands
from batchgen.jobtable.database import Database
from batchgen.jobtable.schema import batches

ALL_BATCHES = select(batches.c.id, batches.c.name, batches.c.service, batches.c.manifest_path).order_by(batches.c.id)


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """A batch in a job table."""

    id: int
    name: str
    service: str
    manifest: Path

    def is_from(self, manifest: Path) -> bool:
        """Whether this manifest made the batch, by whatever path it is named, even if its folder has been moved."""
        if self.manifest.exists() and manifest.exists():
            return self.manifest.samefile(manifest)
        absolute = Path(os.path.normpath(manifest.absolute()))  # without "..", but with symbolic links as they are
        return self.manifest == absolute or (not self.manifest.exists() and self.manifest.name == manifest.name)


def stored_batches(connection: Connection) -> list[StoredBatch]:
    """Every batch in the job table."""
    return [
        StoredBatch(row.id, row.name, row.service, Path(row.manifest_path)) for row in connection.execute(ALL_BATCHES)
    ]


@contextmanager
def open_table(db: str | None, manifest: Path | None) -> Iterator[Database]:
    """The job table of a manifest that was run before. Raises `UsageError` where there is none."""
    location = table_location(db, manifest or Path("batchgen.db"))
    if not table_exists(location):
        missing = f"{manifest}: there is no such manifest\n" if manifest and not manifest.exists() else ""
        raise UsageError(f"{missing}{location}: there is no job table yet; {next_command('run')} makes it")
    with Database(location) as database:
        yield database


def batches_from(database: Database, manifest: Path) -> list[StoredBatch]:
    """The batches that a manifest made: a real one, a simulated one, or both. Raises `UsageError` if there is none."""
    stored = database.look(stored_batches)
    found = [batch for batch in stored if batch.is_from(manifest)]
    if not found:
        location = database.path or database.url.render_as_string(hide_password=True)
        manifests = ", ".join(str(batch.manifest) for batch in stored) or "no manifest"
        raise UsageError(f"{manifest}: is not in the job table {location}, which has {manifests}")
    return found


@contextmanager
def open_batch(db: str | None, manifest: Path, simulate: bool) -> Iterator[tuple[Database, int]]:
    """The job table and the id of a manifest's batch, for commands that change it.

    Raises `UsageError` where the manifest was never run.
    """
    with open_table(db, manifest) as database:
        candidates = batches_from(database, manifest)
        matching = [batch for batch in candidates if (batch.service == "simulator") == simulate]
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
        return database.look(commands.keys_in, batch_id, default)
    states = database.look(commands.states_of, batch_id, ids)
    problems = [f"{key}: there is no such job in this batch" for key in ids if key not in states]
    problems += [f"{key}: is {state}" for key, state in states.items() if state not in allowed]
    if problems:
        names = " and ".join(sorted(allowed, reverse=True))
        raise UsageError("\n".join([*problems, f"Only {names} jobs can be {verb}. Nothing has been changed."]))
    return list(dict.fromkeys(ids))
