"""pending → submitting → generating, failed, unconfirmed or back: around the one call that costs money."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, func, insert, select, update
from sqlalchemy.sql.elements import ColumnElement

from batchgen.jobs import Job, State
from batchgen.jobtable.transition import JOB_COLUMNS, move, record, to_job
from batchgen.schema import Outcome, attempts, jobs
from batchgen.service.base import Accepted, Blocked, NotSent, Rejected, Throttled, Unknown


@dataclass(frozen=True, slots=True)
class Intent:
    """A create request that is committed and may now leave."""

    job: Job
    attempt_id: int
    client_request_id: str


def in_flight(connection: Connection, service: str, now: datetime) -> int:
    """Generations that the service may be working on. Held and late ones do not count: they may never end."""
    counted = (
        (jobs.c.state == State.SUBMITTING)
        | ((jobs.c.state == State.UNCONFIRMED) & jobs.c.next_at.is_not(None))
        | ((jobs.c.state == State.GENERATING) & (jobs.c.deadline_at > now))
    )
    hot = jobs.c.state.in_([State.SUBMITTING, State.UNCONFIRMED, State.GENERATING])
    return connection.execute(select(func.count()).where(jobs.c.service == service, hot, counted)).scalar_one()


def intend(
    connection: Connection,
    batch_id: int,
    worker: str,
    now: datetime,
    until: datetime,
    room: int,
    base_url: str | None,
) -> list[Intent]:
    """Claim up to `room` pending jobs, with one attempt each. Nothing may be sent before this is durable."""
    ready = (
        select(jobs.c.id)
        .where(jobs.c.batch_id == batch_id, jobs.c.state == State.PENDING)
        .where(jobs.c.next_at.is_(None) | (jobs.c.next_at <= now))
        .order_by(jobs.c.priority.desc(), jobs.c.id)
        .limit(room)
        .with_for_update(skip_locked=True)
    )
    ids = list(connection.execute(ready).scalars())
    if not ids:
        return []
    names = {job_id: f"batchgen-{uuid4().hex}" for job_id in ids}
    # The index ux_attempts_one_open refuses this insert for a job that may already be paid for.
    connection.execute(
        insert(attempts),
        [
            {"job_id": job_id, "client_request_id": name, "sent_at": now, "outcome": Outcome.SENDING}
            for job_id, name in names.items()
        ],
    )
    own = select(func.max(attempts.c.id)).where(attempts.c.job_id == jobs.c.id).correlate(jobs).scalar_subquery()
    claim = (
        update(jobs)
        .where(jobs.c.id.in_(ids), jobs.c.state == State.PENDING)
        .values(
            state=State.SUBMITTING,
            attempt_id=own,
            base_url=base_url,
            leased_by=worker,
            leased_until=until,
            next_at=until,
        )
        .returning(*JOB_COLUMNS)
    )
    claimed = sorted((to_job(row) for row in connection.execute(claim)), key=lambda job: ids.index(job.id))
    for job in claimed:
        record(connection, job.id, now, State.PENDING, State.SUBMITTING, names[job.id])
    return [Intent(job, job.attempt_id or 0, names[job.id]) for job in claimed]


def any_pending(connection: Connection, batch_id: int) -> bool:
    """Whether anything of the batch waits to be sent."""
    asked = select(jobs.c.id).where(jobs.c.batch_id == batch_id, jobs.c.state == State.PENDING).limit(1)
    return connection.execute(asked).first() is not None


def settle(connection: Connection, intent: Intent, outcome: Outcome, now: datetime, **values: Any) -> bool:
    """Write an attempt's outcome into the ledger. False for one that was decided already, which stays so."""
    undecided = attempts.c.outcome.in_([Outcome.SENDING, Outcome.UNCONFIRMED])
    change = update(attempts).where(attempts.c.id == intent.attempt_id, undecided)
    return connection.execute(change.values(outcome=outcome, answered_at=now, **values)).rowcount == 1


def leave(connection: Connection, intent: Intent, to: State, now: datetime, *, counts: bool, **values: Any) -> bool:
    """Move the job on, if this attempt is still its attempt; `counts`: it is one of the job's attempts.

    The attempt, not the lease, is the fence: an answer that comes after a stall long enough for another run to have
    declared the job unconfirmed (which counted the attempt) is still the answer.
    """
    own: tuple[ColumnElement[bool]] = (jobs.c.attempt_id == intent.attempt_id,)
    number = jobs.c.attempts + (1 if counts else 0)
    return move(connection, intent.job.id, State.SUBMITTING, to, now, guard=own, attempts=number, **values) or move(
        connection, intent.job.id, State.UNCONFIRMED, to, now, guard=own, attempts=number - 1, **values
    )


def accepted(
    connection: Connection,
    intent: Intent,
    outcome: Accepted,
    now: datetime,
    deadline: datetime,
    next_at: datetime,
    inputs: str | None = None,
) -> bool:
    """The service has it: store the generation id, from which everything else can be had again.

    `inputs` is what the local files were when they were sent (see `batchgen.inputs`).
    """
    told = {
        "generation_id": outcome.generation_id,
        "http_status": outcome.http_status,
        "cost_usd": outcome.cost_usd,
    }
    if not settle(connection, intent, Outcome.ACCEPTED, now, **told):
        # All patience was over, and the order to send again given: the job is not this attempt's any more.
        given_up = (attempts.c.id == intent.attempt_id, attempts.c.outcome == Outcome.ABSENT)
        found = update(attempts).where(*given_up).values(outcome=Outcome.ACCEPTED, released_at=now, **told)
        connection.execute(found)
    return leave(
        connection,
        intent,
        State.GENERATING,
        now,
        counts=True,
        detail=outcome.generation_id,
        generation_id=outcome.generation_id,
        cost_usd=outcome.cost_usd,
        inputs=inputs,
        submitted_at=now,
        deadline_at=deadline,
        next_at=next_at,
    )


def rejected(
    connection: Connection, intent: Intent, outcome: Rejected, now: datetime, error_class: str = "rejected"
) -> bool:
    """Refused for good: the job failed, in the service's own words, and cost nothing."""
    settle(connection, intent, Outcome.REJECTED, now, http_status=outcome.http_status, error=outcome.reason)
    return leave(
        connection,
        intent,
        State.FAILED,
        now,
        counts=True,
        detail=outcome.reason,
        failed_at=now,
        next_at=None,
        error_class=error_class,
        error=outcome.reason,
    )


def returned(
    connection: Connection,
    intent: Intent,
    outcome: NotSent | Throttled | Blocked,
    now: datetime,
    next_at: datetime | None = None,
) -> bool:
    """Not accepted, and not the job's fault: back to pending, no attempt counted."""
    status = None if isinstance(outcome, NotSent) else outcome.http_status
    name = {NotSent: Outcome.NOT_SENT, Throttled: Outcome.THROTTLED, Blocked: Outcome.BLOCKED}[type(outcome)]
    settle(connection, intent, name, now, http_status=status, error=outcome.reason)
    return leave(
        connection,
        intent,
        State.PENDING,
        now,
        counts=False,
        detail=outcome.reason,
        attempt_id=None,
        next_at=next_at,
        strikes=jobs.c.strikes + 1 if isinstance(outcome, NotSent) else jobs.c.strikes,
    )


def unconfirmed(connection: Connection, intent: Intent, outcome: Unknown, now: datetime, next_at: datetime) -> bool:
    """It left and no readable answer came: it may be paid for, so only the service's log or a person decides."""
    settle(connection, intent, Outcome.UNCONFIRMED, now, http_status=outcome.http_status, error=outcome.reason)
    return move(
        connection,
        intent.job.id,
        State.SUBMITTING,
        State.UNCONFIRMED,
        now,
        guard=(jobs.c.attempt_id == intent.attempt_id,),
        detail=outcome.reason,
        attempts=jobs.c.attempts + 1,
        next_at=next_at,
        error_class="unconfirmed",
        error=outcome.reason,
    )
