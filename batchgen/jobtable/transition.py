"""The one way a job changes state: an UPDATE guarded by what it leaves, with its event in the same transaction."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, insert, select, update
from sqlalchemy.sql.elements import ColumnElement

from batchgen.jobs import TRANSITIONS, Job, State
from batchgen.schema import events, jobs

FREE: dict[str, Any] = {"leased_by": None, "leased_until": None}
"""The columns of a job that nobody holds."""

JOB_COLUMNS = tuple(jobs.c[name] for name in Job.__dataclass_fields__)
"""What a stage needs to know of a row, no more."""


def to_job(row: Row[Any]) -> Job:
    """A row selected by `JOB_COLUMNS`, as a value."""
    fields = dict(row._mapping)
    fields["state"] = State(fields["state"])
    fields["files"] = tuple(json.loads(fields["files"]))
    return Job(**fields)


def record(
    connection: Connection, job_id: int, at: datetime, left: State | None, to: State, detail: str | None = None
) -> None:
    """Append one event, in the transaction of the change that it tells of."""
    event = {"job_id": job_id, "at": at, "from_state": left, "to_state": to, "detail": detail}
    connection.execute(insert(events), event)


def move(
    connection: Connection,
    /,
    job_id: int,
    leaving: State,
    to: State,
    now: datetime,
    *,
    detail: str | None = None,
    guard: Iterable[ColumnElement[bool]] = (),
    **values: Any,
) -> bool:
    """Take a job from `leaving` to `to`; False if it is not there any more or a `guard` no longer holds.

    The job ends up unleased, with no strikes and no error, unless `values` say otherwise.
    """
    assert to in TRANSITIONS[leaving], f"{leaving} does not lead to {to}"
    settled: dict[str, Any] = {"strikes": 0, "error_class": None, "error": None, **FREE, **values}
    change = update(jobs).where(jobs.c.id == job_id, jobs.c.state == leaving, *guard).values(state=to, **settled)
    moved = connection.execute(change).rowcount == 1
    if moved:
        record(connection, job_id, now, leaving, to, detail)
    return moved


def touch(connection: Connection, job: Job, worker: str, **values: Any) -> bool:
    """Change columns of a job that `worker` holds, without moving it. False if it is no longer held."""
    held = (jobs.c.id == job.id, jobs.c.state == job.state, jobs.c.leased_by == worker)
    return connection.execute(update(jobs).where(*held).values(**values)).rowcount == 1


def held_by(worker: str) -> tuple[ColumnElement[bool]]:
    """The guard of a transition that only the holder of the lease may make."""
    return (jobs.c.leased_by == worker,)


def due_ids(batch_id: int, state: State, now: datetime, room: int) -> Select[Any]:
    """The jobs of a state whose time has come, longest due first. A leased job's `next_at` is the end of its lease."""
    return (
        select(jobs.c.id)
        .where(jobs.c.batch_id == batch_id, jobs.c.state == state, jobs.c.next_at <= now)
        .order_by(jobs.c.next_at)
        .limit(room)
        .with_for_update(skip_locked=True)
    )


def claim_due(
    connection: Connection, batch_id: int, state: State, worker: str, now: datetime, until: datetime, room: int
) -> list[Job]:
    """Lease up to `room` due jobs of a state to `worker`."""
    due = due_ids(batch_id, state, now, room).cte("due")
    claim = (
        update(jobs)
        .where(jobs.c.id.in_(select(due.c.id)))
        .values(leased_by=bindparam("worker"), leased_until=bindparam("until"), next_at=bindparam("until"))
        .returning(*JOB_COLUMNS)
    )
    rows = connection.execute(claim, {"worker": worker, "until": until})
    return sorted((to_job(row) for row in rows), key=lambda job: job.id)


def next_due(connection: Connection, batch_id: int, state: State) -> datetime | None:
    """When the first job of a state is due or its lease ends; None where none waits for a time."""
    first = (
        select(jobs.c.next_at)
        .where(jobs.c.batch_id == batch_id, jobs.c.state == state, jobs.c.next_at.is_not(None))
        .order_by(jobs.c.next_at)
        .limit(1)
    )
    return connection.execute(first).scalar()
