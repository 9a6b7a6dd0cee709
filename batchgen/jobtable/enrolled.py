"""What a worker reads to go on with batches whose manifests it does not have."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from batchgen.files.output_paths import is_url
from batchgen.jobs import State
from batchgen.jobtable import commands, moves, settings
from batchgen.jobtable.fingerprint import JobWithFiles
from batchgen.jobtable.rows import rows_among
from batchgen.jobtable.schema import batches, jobs

OPEN = [state for state in State if not state.is_terminal]
SENDABLE = [state for state in State if not state.is_accepted]
"""The states from which a job may be sent, at once or when a person retries it."""


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


def open_batches(connection: Connection) -> list[EnrolledBatch]:
    """The batches with jobs that have not ended, as they were first enrolled; none that was moved to another table."""
    has_open = select(jobs.c.id).where(jobs.c.batch_id == batches.c.id, jobs.c.state.in_(OPEN)).exists()
    columns = (batches.c.id, batches.c.name, batches.c.service, batches.c.manifest_path, batches.c.synced_at)
    rows = connection.execute(select(*columns).where(has_open).order_by(batches.c.id)).all()
    away = {batch_id for move in moves.departures(connection) for batch_id in move.names}
    return [EnrolledBatch(*row, setting=settings.newest(connection, row.id)) for row in rows if row.id not in away]


def models_of(connection: Connection, batch_id: int) -> tuple[str, ...]:
    models = connection.execute(select(jobs.c.model).where(jobs.c.batch_id == batch_id).distinct()).scalars()
    return tuple(sorted(models))


def keys_of(connection: Connection, ids: Collection[int]) -> frozenset[str]:
    return frozenset(row.key for row in rows_among(connection, select(jobs.c.key), jobs.c.id, ids))


def ids_of(connection: Connection, batch_id: int, keys: Collection[str]) -> frozenset[int]:
    """The row ids of a batch's jobs by their keys; a key that is not in the batch is missing."""
    return frozenset(row.id for row in commands.rows_of(connection, batch_id, keys))


def jobs_with_files(connection: Connection, batch_id: int) -> list[JobWithFiles]:
    """The jobs that name local files and may still be sent."""
    columns = (jobs.c.id, jobs.c.endpoint, jobs.c.request, jobs.c.input_pointers, jobs.c.input_files)
    where = (jobs.c.batch_id == batch_id, jobs.c.state.in_(SENDABLE), jobs.c.input_pointers != "[]")
    rows = connection.execute(select(*columns, jobs.c.output_path, jobs.c.fingerprint, jobs.c.take).where(*where))
    return [
        JobWithFiles(
            *(row.id, row.endpoint, row.request, tuple(json.loads(row.input_pointers))),
            *(row.fingerprint, row.take),
            stored=json.loads(row.input_files or "{}") if is_url(row.output_path) else {},
        )
        for row in rows
    ]


def ids_without(connection: Connection, batch_id: int, left_out: Sequence[int]) -> list[int]:
    """The row ids of a batch's jobs but for some, in the order in which they are sent."""
    order = (jobs.c.rank.desc(), jobs.c.priority.desc(), jobs.c.id)
    absent = set(left_out)
    ids = connection.execute(select(jobs.c.id).where(jobs.c.batch_id == batch_id).order_by(*order)).scalars()
    return [job_id for job_id in ids if job_id not in absent]
