"""downloading → done: the file first, the row last."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from batchgen.jobs import Job, State
from batchgen.jobtable.transition import NO_LEASE, Increment, move, update_leased


def begun(connection: Connection, job: Job, worker: str, etag: str | None) -> bool:
    """The `.part` on the disk belongs to this version of the file, so that it can be resumed later."""
    return update_leased(connection, job, worker, etag=etag)


def relocated(connection: Connection, job: Job, worker: str, url: str) -> bool:
    """The fetch endpoint gave a new address for the same video."""
    return update_leased(connection, job, worker, video_url=url)


def verified(connection: Connection, job: Job, worker: str, size: int, sha256: str) -> bool:
    """The `.part` is whole. Written before the rename, so that after a crash the renamed file is recognised as ours."""
    return update_leased(connection, job, worker, bytes=size, sha256=sha256)


def postponed(connection: Connection, job: Job, worker: str, reason: str, next_at: datetime) -> bool:
    """This try failed: keep why, and try again at `next_at`. A paid video is never given up."""
    return update_leased(connection, job, worker, failures=Increment(1), error=reason, next_at=next_at, **NO_LEASE)


def delivered(
    connection: Connection,
    job: Job,
    worker: str,
    size: int,
    sha256: str,
    output_path: str,
    now: datetime,
    remark: str | None = None,
) -> bool:
    """The whole file is at `output_path`. `remark` is what a person should know about it."""
    return move(
        connection,
        job.id,
        State.DOWNLOADING,
        State.DONE,
        now,
        guard={"leased_by": worker},
        detail=f"{output_path}: {remark}" if remark else output_path,
        error=remark,
        bytes=size,
        sha256=sha256,
        output_path=output_path,
        delivered_at=now,
        next_at=None,
    )
