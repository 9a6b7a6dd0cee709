"""unconfirmed → generating, pending or failed: what the service's log, or a person, says about a lost answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, func, select

from batchgen.jobs import Outcome, State
from batchgen.jobtable import ledger
from batchgen.jobtable.schema import attempts, jobs
from batchgen.jobtable.submission import decide
from batchgen.jobtable.transition import LEASE_DUE, NO_LEASE, Increment, guarded_update, move


@dataclass(frozen=True, slots=True)
class UnconfirmedAttempt:
    """An attempt that may be paid for, with what identifies it in the service's log."""

    job_id: int
    key: str
    model: str
    attempt_id: int
    client_request_id: str
    sent_at: datetime
    failures: int
    reason: str | None


def claim_unconfirmed(
    connection: Connection, batch_id: int, worker: str, now: datetime, until: datetime, capacity: int
) -> list[UnconfirmedAttempt]:
    """Lease up to `capacity` unconfirmed jobs whose next search of the log is due."""
    due = {"in_batch": batch_id, "in_state": State.UNCONFIRMED, "now": now, "capacity": capacity}
    ids = connection.execute(LEASE_DUE.returning(jobs.c.id), {**due, "worker": worker, "until": until}).scalars().all()
    return [to_attempt(row) for row in connection.execute(UNCONFIRMED.where(jobs.c.id.in_(ids)))] if ids else []


def held_attempts(connection: Connection, batch_id: int) -> list[UnconfirmedAttempt]:
    """The unconfirmed attempts that are held for a person."""
    held = (jobs.c.batch_id == batch_id, jobs.c.state == State.UNCONFIRMED, jobs.c.next_at.is_(None))
    return [to_attempt(row) for row in connection.execute(UNCONFIRMED.where(*held))]


def to_attempt(row: Any) -> UnconfirmedAttempt:
    return UnconfirmedAttempt(**row._mapping)


def adopted(
    connection: Connection,
    attempt: UnconfirmedAttempt,
    generation_id: str,
    cost_usd: Decimal | None,
    submitted_at: datetime,
    now: datetime,
    deadline: datetime,
) -> bool:
    """It was accepted: the job continues with its generation id, as if the answer had come."""
    generation: dict[str, Any] = {"generation_id": generation_id, "cost_usd": cost_usd}
    decide(connection, attempt.attempt_id, Outcome.ACCEPTED, now, **generation)
    times = {"submitted_at": submitted_at, "deadline_at": deadline, "next_at": now}
    return leave(connection, attempt, State.GENERATING, f"adopted {generation_id}", now, **generation, **times)


def refuted(connection: Connection, attempt: UnconfirmedAttempt, reason: str, now: datetime) -> bool:
    """It was not accepted, or is taken not to have been: the job may be sent again."""
    decide(connection, attempt.attempt_id, Outcome.ABSENT, now)
    return leave(connection, attempt, State.PENDING, reason, now, attempt_id=None, next_at=None)


def failed(connection: Connection, attempt: UnconfirmedAttempt, reason: str, now: datetime) -> bool:
    """It was not accepted, like earlier attempts of the job: the job failed, and cost nothing."""
    decide(connection, attempt.attempt_id, Outcome.ABSENT, now)
    return fail(connection, attempt, reason, now, "rejected")


def abandoned(connection: Connection, attempt: UnconfirmedAttempt, reason: str, now: datetime) -> bool:
    """A person gives it up: failed, and not sent again unless retried.

    Its estimate stays reserved, because it may have been accepted; an unknown price then counts as nothing.
    """
    moved = fail(connection, attempt, reason, now, "unconfirmed")
    estimate = select(attempts.c.estimated_usd).where(attempts.c.id == attempt.attempt_id)
    if moved and connection.execute(estimate).scalar() is None:
        ledger.update_attempt(connection, attempt.attempt_id, tuple(Outcome), {"estimated_usd": Decimal(0)})
    return moved


def fail(connection: Connection, attempt: UnconfirmedAttempt, reason: str, now: datetime, error_class: str) -> bool:
    failure = {"failed_at": now, "next_at": None, "error_class": error_class, "error": reason}
    return leave(connection, attempt, State.FAILED, reason, now, **failure)


def leave(
    connection: Connection, attempt: UnconfirmedAttempt, to: State, detail: str, now: datetime, **values: Any
) -> bool:
    """Move the job on, if this attempt is still its attempt."""
    own = {"attempt_id": attempt.attempt_id}
    return move(connection, attempt.job_id, State.UNCONFIRMED, to, now, guard=own, detail=detail, **values)


def postponed(connection: Connection, attempt: UnconfirmedAttempt, next_at: datetime | None) -> bool:
    """Not in the log yet: search again at `next_at`, or (None) hold it for a person."""
    own = {"id": attempt.job_id, "state": State.UNCONFIRMED, "attempt_id": attempt.attempt_id}
    return guarded_update(connection, jobs, own, {"next_at": next_at, "failures": Increment(1), **NO_LEASE})


def failures_like(connection: Connection, attempt: UnconfirmedAttempt) -> int:
    """How many earlier attempts of the same job ended as this one did."""
    same = (attempts.c.outcome == Outcome.ABSENT, attempts.c.error == attempt.reason, attempts.c.released_at.is_(None))
    return connection.execute(select(func.count()).where(attempts.c.job_id == attempt.job_id, *same)).scalar_one()


def others_succeed(connection: Connection, attempt: UnconfirmedAttempt) -> bool:
    """Whether the service has accepted another job of the batch since this one was first sent."""
    batch_id = select(jobs.c.batch_id).where(jobs.c.id == attempt.job_id).scalar_subquery()
    first = select(func.min(attempts.c.id)).where(attempts.c.job_id == attempt.job_id).scalar_subquery()
    of_batch = select(jobs.c.id).where(jobs.c.id == attempts.c.job_id, jobs.c.batch_id == batch_id).exists()
    later = select(attempts.c.id).where(attempts.c.id > first, attempts.c.outcome == Outcome.ACCEPTED, of_batch)
    return connection.execute(later.order_by(attempts.c.id).limit(1)).first() is not None


UNCONFIRMED = (
    select(
        jobs.c.id.label("job_id"),
        jobs.c.key,
        jobs.c.model,
        attempts.c.id.label("attempt_id"),
        attempts.c.client_request_id,
        attempts.c.sent_at,
        jobs.c.failures,
        jobs.c.error.label("reason"),
    )
    .join_from(jobs, attempts, jobs.c.attempt_id == attempts.c.id)
    .order_by(jobs.c.id)
)
