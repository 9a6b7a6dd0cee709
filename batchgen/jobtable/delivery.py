"""downloading → done: the file first, the row last."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from batchgen.jobs import Job, State
from batchgen.jobtable.guarded_update import Increment
from batchgen.jobtable.transition import FREE, move, update_leased


def begun(connection: Connection, job: Job, worker: str, etag: str | None) -> bool:
    """The server names this version of the file: what a `.part` on the disk is a part of."""
    return update_leased(connection, job, worker, etag=etag)


def relocated(connection: Connection, job: Job, worker: str, url: str) -> bool:
    """The fetch endpoint gave a new address for the same video."""
    return update_leased(connection, job, worker, video_url=url)


def verified(connection: Connection, job: Job, worker: str, size: int, sha256: str) -> bool:
    """The `.part` is whole. Written before the rename, so that after a crash the target can be told to be ours."""
    return update_leased(connection, job, worker, bytes=size, sha256=sha256)


def postponed(connection: Connection, job: Job, worker: str, reason: str, next_at: datetime) -> bool:
    """This try failed: keep why, and try again at `next_at`. A paid video is never given up."""
    return update_leased(connection, job, worker, failures=Increment(1), error=reason, next_at=next_at, **FREE)


def delivered(
    connection: Connection,
    job: Job,
    worker: str,
    size: int,
    sha256: str,
    output_path: str,
    now: datetime,
    told: str | None = None,
) -> bool:
    """The whole file lies at `output_path`. `told` is what a person should know of it."""
    return move(
        connection,
        job.id,
        State.DOWNLOADING,
        State.DONE,
        now,
        guard={"leased_by": worker},
        detail=f"{output_path}: {told}" if told else output_path,
        error=told,
        bytes=size,
        sha256=sha256,
        output_path=output_path,
        delivered_at=now,
        next_at=None,
    )
