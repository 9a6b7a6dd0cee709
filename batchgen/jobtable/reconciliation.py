"""unconfirmed → generating, pending or failed: what became of a request whose answer was lost."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection, func, select

from batchgen.jobs import State
from batchgen.jobtable import ledger
from batchgen.jobtable.guarded_update import Increment, guarded_update
from batchgen.jobtable.schema import Outcome, attempts, jobs
from batchgen.jobtable.submission import decide
from batchgen.jobtable.transition import FREE, LEASE_DUE, move


@dataclass(frozen=True, slots=True)
class UnconfirmedAttempt:
    """An attempt that may be paid for, and what to look for in the service's log."""

    job_id: int
    key: str
    model: str
    attempt_id: int
    client_request_id: str
    sent_at: datetime
    failures: int
    reason: str | None


_columns = (
    jobs.c.id.label("job_id"),
    jobs.c.key,
    jobs.c.model,
    attempts.c.id.label("attempt_id"),
    attempts.c.client_request_id,
    attempts.c.sent_at,
    jobs.c.failures,
    jobs.c.error.label("reason"),
)
CLAIM_IDS = LEASE_DUE.returning(jobs.c.id)
_doubts = select(*_columns).join_from(jobs, attempts, jobs.c.attempt_id == attempts.c.id)


def claim_unconfirmed(
    connection: Connection, batch_id: int, worker: str, now: datetime, until: datetime, capacity: int
) -> list[UnconfirmedAttempt]:
    """Lease the unconfirmed jobs whose next look-up is due."""
    wanted = {"batch": batch_id, "wanted": State.UNCONFIRMED, "now": now, "room": capacity}
    ids = list(connection.execute(CLAIM_IDS, {**wanted, "worker": worker, "until": until}).scalars())
    if not ids:
        return []
    return [
        UnconfirmedAttempt(**row._mapping)
        for row in connection.execute(_doubts.where(jobs.c.id.in_(ids)).order_by(jobs.c.id))
    ]


def held_doubts(connection: Connection, batch_id: int) -> list[UnconfirmedAttempt]:
    """The unconfirmed jobs that wait for a person."""
    held = (jobs.c.batch_id == batch_id, jobs.c.state == State.UNCONFIRMED, jobs.c.next_at.is_(None))
    return [UnconfirmedAttempt(**row._mapping) for row in connection.execute(_doubts.where(*held).order_by(jobs.c.id))]


def adopted(
    connection: Connection,
    attempt: UnconfirmedAttempt,
    generation_id: str,
    cost_usd: Decimal | None,
    submitted_at: datetime,
    now: datetime,
    deadline: datetime,
) -> bool:
    """It was accepted: the job goes on with its generation id, as if the answer had come."""
    decide(
        connection,
        attempt.attempt_id,
        Outcome.ACCEPTED,
        generation_id=generation_id,
        cost_usd=cost_usd,
        answered_at=now,
    )
    return move(
        connection,
        attempt.job_id,
        State.UNCONFIRMED,
        State.GENERATING,
        now,
        guard={"attempt_id": attempt.attempt_id},
        detail=f"adopted {generation_id}",
        generation_id=generation_id,
        cost_usd=cost_usd,
        submitted_at=submitted_at,
        deadline_at=deadline,
        next_at=now,
    )


def refuted(connection: Connection, attempt: UnconfirmedAttempt, reason: str, now: datetime) -> bool:
    """It was not accepted, or is taken not to have been: the job may be sent again."""
    decide(connection, attempt.attempt_id, Outcome.ABSENT, answered_at=now)
    return move(
        connection,
        attempt.job_id,
        State.UNCONFIRMED,
        State.PENDING,
        now,
        guard={"attempt_id": attempt.attempt_id},
        detail=reason,
        attempt_id=None,
        next_at=None,
    )


def failures_like(connection: Connection, attempt: UnconfirmedAttempt) -> int:
    """How many earlier attempts of the same job ended as this one did."""
    like = (attempts.c.outcome == Outcome.ABSENT, attempts.c.error == attempt.reason, attempts.c.released_at.is_(None))
    asked = select(func.count()).where(attempts.c.job_id == attempt.job_id, *like)
    return connection.execute(asked).scalar_one()


def others_succeed(connection: Connection, attempt: UnconfirmedAttempt) -> bool:
    """Whether the service has accepted another job of the batch since this one was first sent."""
    batch_id = select(jobs.c.batch_id).where(jobs.c.id == attempt.job_id).scalar_subquery()
    first = select(func.min(attempts.c.id)).where(attempts.c.job_id == attempt.job_id).scalar_subquery()
    of_batch = select(jobs.c.id).where(jobs.c.id == attempts.c.job_id, jobs.c.batch_id == batch_id).exists()
    asked = select(attempts.c.id).where(attempts.c.id > first, attempts.c.outcome == Outcome.ACCEPTED, of_batch)
    return connection.execute(asked.order_by(attempts.c.id).limit(1)).first() is not None


def failed(connection: Connection, attempt: UnconfirmedAttempt, reason: str, now: datetime) -> bool:
    """It was not accepted, as often before: the job failed, and cost nothing."""
    decide(connection, attempt.attempt_id, Outcome.ABSENT, answered_at=now)
    return give_up(connection, attempt, reason, now, "rejected")


def abandoned(connection: Connection, attempt: UnconfirmedAttempt, reason: str, now: datetime) -> bool:
    """A person gives it up: failed, and not sent again unless retried.

    What it was expected to cost stays reserved, since it may have been accepted; an unknown price counts as nothing.
    """
    moved = give_up(connection, attempt, reason, now, "unconfirmed")
    asked = select(attempts.c.estimated_usd).where(attempts.c.id == attempt.attempt_id)
    if moved and connection.execute(asked).scalar() is None:
        ledger.record_charge(connection, {"id": attempt.attempt_id}, {"estimated_usd": Decimal(0)})
    return moved


def give_up(connection: Connection, attempt: UnconfirmedAttempt, reason: str, now: datetime, error_class: str) -> bool:
    return move(
        connection,
        attempt.job_id,
        State.UNCONFIRMED,
        State.FAILED,
        now,
        guard={"attempt_id": attempt.attempt_id},
        detail=reason,
        failed_at=now,
        next_at=None,
        error_class=error_class,
        error=reason,
    )


def looked(connection: Connection, attempt: UnconfirmedAttempt, next_at: datetime | None) -> bool:
    """Not found yet: look again at `next_at`, or (None) hold it for a person."""
    still = {"id": attempt.job_id, "state": State.UNCONFIRMED, "attempt_id": attempt.attempt_id}
    return guarded_update(connection, jobs, still, {"next_at": next_at, "failures": Increment(1), **FREE})
