"""The one way a job changes state: an UPDATE guarded by what it leaves, with its event in the same transaction."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from batchgen.jobs import TRANSITIONS, Job, State
from batchgen.jobtable.guarded_update import guarded_update
from batchgen.jobtable.prepared import Prepared
from batchgen.jobtable.schema import events, jobs

FREE: dict[str, Any] = {"leased_by": None, "leased_until": None}
"""The columns of a job that nobody holds."""

JOB_FIELDS = tuple(Job.__dataclass_fields__)
JOB_COLUMNS = tuple(jobs.c[name] for name in JOB_FIELDS)
"""What a stage needs to know of a row, no more."""

NO_GUARD: Mapping[str, Any] = {}


def to_job(row: Iterable[Any]) -> Job:
    """A row selected by `JOB_COLUMNS`, as a value."""
    fields = dict(zip(JOB_FIELDS, row, strict=True))
    fields["state"] = State(fields["state"])
    fields["input_pointers"] = tuple(json.loads(fields["input_pointers"]))
    return Job(**fields)


def record(
    connection: Connection, job_id: int, at: datetime, left: State | None, to: State, detail: str | None = None
) -> None:
    """Append one event, in the transaction of the change that it tells of."""
    APPEND.run(connection, {"of": job_id, "then": at, "left": left, "to": to, "told": detail})


def move(
    connection: Connection,
    /,
    job_id: int,
    leaving: State,
    to: State,
    now: datetime,
    *,
    detail: str | None = None,
    guard: Mapping[str, Any] = NO_GUARD,
    **values: Any,
) -> bool:
    """Take a job from `leaving` to `to`; False if it is not there any more, or a column in `guard` has another value.

    The job ends up unleased, with no failures and no error, unless `values` say otherwise.
    """
    assert to in TRANSITIONS[leaving], f"{leaving} does not lead to {to}"
    settled = {"state": to, "failures": 0, "error_class": None, "error": None, **FREE, **values}
    moved = guarded_update(connection, jobs, {"id": job_id, "state": leaving, **guard}, settled)
    if moved:
        record(connection, job_id, now, leaving, to, detail)
    return moved


def update_leased(connection: Connection, job: Job, worker: str, **values: Any) -> bool:
    """Change columns of a job that `worker` holds, without moving it. False if it is no longer held."""
    return guarded_update(connection, jobs, {"id": job.id, "state": job.state, "leased_by": worker}, values)


def claim_due(
    connection: Connection, batch_id: int, state: State, worker: str, now: datetime, until: datetime, capacity: int
) -> list[Job]:
    """Lease up to `room` due jobs of a state to `worker`."""
    given = {"batch": batch_id, "wanted": state, "now": now, "room": capacity, "worker": worker, "until": until}
    return sorted((to_job(row) for row in CLAIM.rows(connection, given)), key=lambda job: job.id)


def next_due(connection: Connection, batch_id: int, state: State) -> datetime | None:
    """When the first job of a state is due or its lease ends; None where none waits for a time."""
    found = FIRST_DUE.row(connection, {"batch": batch_id, "wanted": state})
    return found[0] if found else None


APPEND = Prepared(
    insert(events).values(
        job_id=bindparam("of"),
        at=bindparam("then"),
        from_state=bindparam("left"),
        to_state=bindparam("to"),
        detail=bindparam("told"),
    )
)

DUE_IDS = (
    select(jobs.c.id)
    .where(
        jobs.c.batch_id == bindparam("batch"),
        jobs.c.state == bindparam("wanted"),
        jobs.c.next_at <= bindparam("now", type_=jobs.c.next_at.type),
    )
    .order_by(jobs.c.next_at)
    .limit(bindparam("room"))
    .with_for_update(skip_locked=True)
    .cte("due")
)
"""The jobs of a state whose time has come, longest due first. A leased job's `next_at` is the end of its lease."""

LEASE_DUE = (
    update(jobs)
    .where(jobs.c.id.in_(select(DUE_IDS.c.id)))
    .values(leased_by=bindparam("worker"), leased_until=bindparam("until"), next_at=bindparam("until"))
)
CLAIM = Prepared(LEASE_DUE.returning(*JOB_COLUMNS))

FIRST_DUE = Prepared(
    select(jobs.c.next_at)
    .where(
        jobs.c.batch_id == bindparam("batch"),
        jobs.c.state == bindparam("wanted"),
        jobs.c.next_at.is_not(None),
    )
    .order_by(jobs.c.next_at)
    .limit(1)
)
