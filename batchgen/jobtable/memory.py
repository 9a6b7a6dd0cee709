"""A manifest that was enrolled whole is remembered: as long as nothing has changed, it need not be read again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from batchgen import __version__
from batchgen.files import local_files
from batchgen.jobs import JobSpec
from batchgen.jobtable import sync
from batchgen.jobtable.schema import batches, jobs, manifests, tallies
from batchgen.jobtable.sync import Batch, OnChanged, SyncResult
from batchgen.manifest import Limits, digest
from batchgen.manifest.limits import restored, stored


@dataclass(frozen=True, slots=True)
class Memory:
    """What a run needs to know of a manifest besides its jobs, and what tells whether it is still the same."""

    batch: Batch
    limits: Limits
    """The manifest's own."""
    models: tuple[str, ...]
    jobs: int
    named: Mapping[str, str]
    """What it names besides images: see `manifest.digest`."""
    images: Mapping[str, local_files.Stamp | None]
    """The local images that it names, as they were."""
    simulated: bool = False
    """The batch is for the simulator, though the manifest is not."""
    validated: bool = True
    steady: bool = True
    """Nothing that it names changed while it was read."""


def sync_manifest(
    connection: Connection, asked: Memory, specs: Sequence[JobSpec], now: datetime, on_changed: OnChanged = "refuse"
) -> SyncResult:
    """`sync.enrol`, remembered if the same manifest would bring nothing more the next time."""
    result = sync.sync_manifest(connection, asked.batch, specs, now, on_changed)
    if result.settled and asked.steady:
        remember(connection, result.batch_id, asked)
    return result


def remember(connection: Connection, batch_id: int, asked: Memory) -> None:
    """Write down what was enrolled."""
    values = {
        "sha256": asked.batch.sha256,
        "batchgen": __version__,
        "simulated": asked.simulated,
        "validated": asked.validated,
        "jobs": asked.jobs,
        "rows_held": rows_held(connection, batch_id),
        "limits": stored(asked.limits),
        "models": json.dumps(asked.models),
        "named": json.dumps(asked.named),
        "images": json.dumps(asked.images),
    }
    if not connection.execute(update(manifests).where(manifests.c.batch_id == batch_id).values(values)).rowcount:
        connection.execute(insert(manifests).values(batch_id=batch_id, **values))


def recall(connection: Connection, path: Path, simulate: bool, validate: bool) -> tuple[Memory, SyncResult] | None:
    """What is known of the manifest at `path` and what enrolling it would do, which is nothing; None: it must be read.

    It must unless it and all that it names are as they were, in this version of batchgen, and every row is there.
    """
    asked = select(manifests, batches.c.name, batches.c.service, batches.c.manifest_path).join_from(manifests, batches)
    same = (batches.c.manifest_path == str(path.absolute()), manifests.c.batchgen == __version__)
    for row in connection.execute(asked.where(*same, manifests.c.sha256.is_not(None))):
        meant = row.service == "simulator" if simulate else not row.simulated
        if not meant or row.validated < validate or row.rows_held != rows_held(connection, row.batch_id):
            continue
        memory = to_memory(row)
        if as_it_was(connection, row.batch_id, memory):
            return memory, SyncResult(row.batch_id, unchanged=memory.jobs)
    return None


def as_it_was(connection: Connection, batch_id: int, memory: Memory) -> bool:
    """Whether the files still are what was enrolled, and what was sent."""
    path = memory.batch.manifest
    try:
        if digest(path, memory.named) != memory.batch.sha256:
            return False
    except (OSError, ValueError):
        return False
    if local_files.stamps(path.parent, memory.images) != memory.images:
        return False
    if not memory.images:
        return True
    sent = select(jobs.c.input_digests).where(jobs.c.batch_id == batch_id, jobs.c.input_digests.is_not(None)).distinct()
    return not any(local_files.changed(path.parent, text) for text in connection.execute(sent).scalars())


def rows_held(connection: Connection, batch_id: int) -> int:
    """How many jobs of the batch the table holds: those of the manifest, and those that have gone from it."""
    held = select(func.sum(tallies.c.jobs)).where(tallies.c.batch_id == batch_id)
    return int(connection.execute(held).scalar_one())


def to_memory(row: Row[Any]) -> Memory:
    return Memory(
        batch=Batch(row.name, row.service, Path(row.manifest_path), row.sha256),
        limits=restored(row.limits),
        models=tuple(json.loads(row.models)),
        jobs=row.jobs,
        named=json.loads(row.named),
        images={name: stamp and local_files.Stamp(*stamp) for name, stamp in json.loads(row.images).items()},
        simulated=row.simulated,
        validated=row.validated,
    )
