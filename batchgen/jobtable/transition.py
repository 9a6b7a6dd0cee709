"""The one way a job changes state: an UPDATE guarded by the state it leaves, with its event in the same transaction.

Optimistic concurrency: a guard (state, and lease or attempt) stands in the WHERE clause. Where it matches no row,
another run has changed the row first, and the caller learns it from False.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple, Protocol

from sqlalchemy import BindParameter, Connection, Select, Table, Update, bindparam, insert, select, update

from batchgen.jobs import ENDED_AT, TRANSITIONS, Job, State
from batchgen.jobtable.joins import IN_BATCH
from batchgen.jobtable.rows import load_jobs
from batchgen.jobtable.schema import attempts, events, jobs

LAST_EVENT = "last_event"
"""The key of the newest event in `Connection.info`: `writer.py` knows by it a server that has lost what it stored."""
NO_LEASE: dict[str, Any] = {"leased_by": None, "leased_until": None}
"""The values of the lease columns of a job that no run holds."""


class AnyJob(Protocol):
    """A job, or what stands for one: the row id of the job and of its batch."""

    @property
    def id(self) -> int: ...
    @property
    def batch_id(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Claim:
    """What a run takes at one time: at most `capacity` due jobs of a batch, under leases of one end."""

    batch_id: int
    run_id: str
    now: datetime
    lease_ends: datetime
    capacity: int

    def params(self, state: State) -> dict[str, Any]:
        """The parameters of a statement that `lease` makes."""
        due = {"in_batch": self.batch_id, "in_state": state, "now": self.now, "capacity": self.capacity}
        return {**due, "run_id": self.run_id, "lease_ends": self.lease_ends}


class Increment(NamedTuple):
    """A value of `guarded_update` that is added to the column instead of replacing it."""

    amount: int | Decimal


def guarded_update(connection: Connection, table: Table, guard: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    """Set `values` in the one row whose columns equal `guard`. False where there is none."""
    increments = tuple(name for name, value in values.items() if isinstance(value, Increment))
    params = {f"is_{name}": value for name, value in guard.items()}
    params |= {f"set_{name}": values[name].amount if name in increments else values[name] for name in values}
    return connection.execute(guarded_statement(table, (*guard,), (*values,), increments), params).rowcount == 1


@cache
def guarded_statement(
    table: Table, guard: tuple[str, ...], values: tuple[str, ...], increments: tuple[str, ...]
) -> Update:
    """The UPDATE for these columns. It is built once, so that SQLAlchemy compiles it once."""

    def parameter(prefix: str, name: str) -> BindParameter[Any]:
        return bindparam(f"{prefix}_{name}", type_=table.c[name].type)

    changes = {name: parameter("set", name) for name in values}
    sums = {name: table.c[name] + changes[name] for name in increments}
    return update(table).where(*(table.c[name] == parameter("is", name) for name in guard)).values({**changes, **sums})


def record_event(connection: Connection, job: AnyJob, at: datetime, left: State, to: State, detail: str | None) -> None:
    """Append one event, in the transaction of the change that it records."""
    ids = {"batch_id": job.batch_id, "job_id": job.id}
    row = {**ids, "at": at, "from_state": left, "to_state": to, "detail": detail}
    (connection.info[LAST_EVENT],) = connection.execute(INSERT_EVENT, row).inserted_primary_key or (None,)


def change_state(
    connection: Connection,
    /,
    job: AnyJob,
    leaving: State,
    to: State,
    now: datetime,
    *,
    detail: str | None = None,
    guard: Mapping[str, Any] | None = None,
    **values: Any,
) -> bool:
    """Take a job from `leaving` to `to`. False if it has left that state already, or a column of `guard` differs.

    The job ends without a lease, without failures, without an error and without a next time, unless `values` say
    otherwise. The time at which it ended is set and cleared here.
    """
    assert to in TRANSITIONS[leaving], f"{leaving} does not lead to {to}"
    new = {"state": to, "failures": 0, "error_class": None, "error": None, "next_at": None, **NO_LEASE}
    new |= {ENDED_AT[state]: at for state, at in ((leaving, None), (to, now)) if state in ENDED_AT}
    moved = guarded_update(connection, jobs, {"id": job.id, "state": leaving, **(guard or {})}, {**new, **values})
    if moved:
        record_event(connection, job, now, leaving, to, detail)
    return moved


def update_leased(connection: Connection, job: Job, run_id: str, **values: Any) -> bool:
    """Change columns of a job that the run `run_id` leases, without moving it. False if the lease was lost."""
    return guarded_update(connection, jobs, {"id": job.id, "state": job.state, "leased_by": run_id}, values)


def claim_due(connection: Connection, claim: Claim, state: State, origin: str = "") -> list[Job]:
    """Lease due jobs of a state that were sent to `origin`, the longest due first.

    A job that was sent to a service whose address does not last is always among them.
    """
    rows = connection.execute(LEASE_DUE_HERE, {**claim.params(state), "this_origin": origin})
    return load_jobs(connection, list(rows.scalars()))


def next_due(connection: Connection, batch_id: int, state: State, origin: str | None = None) -> datetime | None:
    """When the first job of a state is due or its lease ends; None where no job waits for a time.

    With `origin`, of the jobs that were sent there.
    """
    params = {"in_batch": batch_id, "in_state": state}
    if origin is None:
        return connection.execute(FIRST_DUE, params).scalar()
    return connection.execute(FIRST_DUE_HERE, {**params, "this_origin": origin}).scalar()


INSERT_EVENT = insert(events)

SENT_HERE = (
    select(attempts.c.id)
    .where(attempts.c.id == jobs.c.attempt_id, attempts.c.origin.in_(["", bindparam("this_origin")]))
    .correlate(jobs)
    .exists()
)
"""The job's request was sent to this run's origin, or to a service whose address does not last. Only such a job may be
asked for: the key goes to no other address, and another service does not know the job."""

IN_BATCH_AND_STATE = IN_BATCH & (jobs.c.state == bindparam("in_state"))

DUE = (
    select(jobs.c.id)
    .where(IN_BATCH_AND_STATE, jobs.c.next_at <= bindparam("now", type_=jobs.c.next_at.type))
    .limit(bindparam("capacity"))
    .with_for_update(skip_locked=True, of=jobs)
)
"""The due jobs of a state. `next_at` of a leased job is the end of its lease, so that an expired lease is due by
itself."""


def lease(due: Select[tuple[int]]) -> Update:
    """The statement that leases the jobs of `due`."""
    values: dict[str, Any] = {name: bindparam("lease_ends") for name in ("leased_until", "next_at")}
    claimed = update(jobs).where(jobs.c.id.in_(select(due.cte("due").c.id)))
    return claimed.values(leased_by=bindparam("run_id"), **values).returning(jobs.c.id)


LEASE_DUE_HERE = lease(DUE.where(SENT_HERE).order_by(jobs.c.next_at))

FIRST_DUE = (
    select(jobs.c.next_at).where(IN_BATCH_AND_STATE, jobs.c.next_at.is_not(None)).order_by(jobs.c.next_at).limit(1)
)
FIRST_DUE_HERE = FIRST_DUE.where(SENT_HERE)
