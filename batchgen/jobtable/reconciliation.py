"""unconfirmed → generating, pending or failed: what became of a request whose answer was lost."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection, func, select

from batchgen.jobs import State
from batchgen.jobtable import money
from batchgen.jobtable.change import Plus, change
from batchgen.jobtable.schema import Outcome, attempts, jobs
from batchgen.jobtable.submission import decide
from batchgen.jobtable.transition import FREE, LEASE_DUE, move


@dataclass(frozen=True, slots=True)
class Doubt:
    """An attempt that may be paid for, and what to look for in the service's log."""

    job_id: int
    key: str
    model: str
    attempt_id: int
    client_request_id: str
    sent_at: datetime
    strikes: int
    reason: str | None


_columns = (
    jobs.c.id.label("job_id"),
    jobs.c.key,
    jobs.c.model,
    attempts.c.id.label("attempt_id"),
    attempts.c.client_request_id,
    attempts.c.sent_at,
    jobs.c.strikes,
    jobs.c.error.label("reason"),
)
CLAIM_IDS = LEASE_DUE.returning(jobs.c.id)
_doubts = select(*_columns).join_from(jobs, attempts, jobs.c.attempt_id == attempts.c.id)


def claim_doubts(
    connection: Connection, batch_id: int, worker: str, now: datetime, until: datetime, room: int
) -> list[Doubt]:
    """Lease the unconfirmed jobs whose next look-up is due."""
    wanted = {"batch": batch_id, "wanted": State.UNCONFIRMED, "now": now, "room": room}
    ids = list(connection.execute(CLAIM_IDS, {**wanted, "worker": worker, "until": until}).scalars())
    if not ids:
        return []
    return [Doubt(**row._mapping) for row in connection.execute(_doubts.where(jobs.c.id.in_(ids)).order_by(jobs.c.id))]


def held_doubts(connection: Connection, batch_id: int) -> list[Doubt]:
    """The unconfirmed jobs that wait for a person."""
    held = (jobs.c.batch_id == batch_id, jobs.c.state == State.UNCONFIRMED, jobs.c.next_at.is_(None))
    return [Doubt(**row._mapping) for row in connection.execute(_doubts.where(*held).order_by(jobs.c.id))]


def adopted(
    connection: Connection,
    doubt: Doubt,
    generation_id: str,
    cost_usd: Decimal | None,
    submitted_at: datetime,
    now: datetime,
    deadline: datetime,
) -> bool:
    """It was accepted: the job goes on with its generation id, as if the answer had come."""
    decide(
        connection, doubt.attempt_id, Outcome.ACCEPTED, generation_id=generation_id, cost_usd=cost_usd, answered_at=now
    )
    return move(
        connection,
        doubt.job_id,
        State.UNCONFIRMED,
        State.GENERATING,
        now,
        guard={"attempt_id": doubt.attempt_id},
        detail=f"adopted {generation_id}",
        generation_id=generation_id,
        cost_usd=cost_usd,
        submitted_at=submitted_at,
        deadline_at=deadline,
        next_at=now,
    )


def refuted(connection: Connection, doubt: Doubt, reason: str, now: datetime) -> bool:
    """It was not accepted, or is taken not to have been: the job may be sent again."""
    decide(connection, doubt.attempt_id, Outcome.ABSENT, answered_at=now)
    return move(
        connection,
        doubt.job_id,
        State.UNCONFIRMED,
        State.PENDING,
        now,
        guard={"attempt_id": doubt.attempt_id},
        detail=reason,
        attempt_id=None,
        next_at=None,
    )


def failures_like(connection: Connection, doubt: Doubt) -> int:
    """How many earlier attempts of the same job ended as this one did."""
    like = (attempts.c.outcome == Outcome.ABSENT, attempts.c.error == doubt.reason, attempts.c.released_at.is_(None))
    asked = select(func.count()).where(attempts.c.job_id == doubt.job_id, *like)
    return connection.execute(asked).scalar_one()


def others_succeed(connection: Connection, doubt: Doubt) -> bool:
    """Whether the service has accepted another job of the batch since this one was first sent."""
    batch_id = select(jobs.c.batch_id).where(jobs.c.id == doubt.job_id).scalar_subquery()
    first = select(func.min(attempts.c.id)).where(attempts.c.job_id == doubt.job_id).scalar_subquery()
    of_batch = select(jobs.c.id).where(jobs.c.id == attempts.c.job_id, jobs.c.batch_id == batch_id).exists()
    asked = select(attempts.c.id).where(attempts.c.id > first, attempts.c.outcome == Outcome.ACCEPTED, of_batch)
    return connection.execute(asked.order_by(attempts.c.id).limit(1)).first() is not None


def failed(connection: Connection, doubt: Doubt, reason: str, now: datetime) -> bool:
    """It was not accepted, as often before: the job failed, and cost nothing."""
    decide(connection, doubt.attempt_id, Outcome.ABSENT, answered_at=now)
    return give_up(connection, doubt, reason, now, "rejected")


def abandoned(connection: Connection, doubt: Doubt, reason: str, now: datetime) -> bool:
    """A person gives it up: failed, and not sent again unless retried.

    What it was expected to cost stays reserved, since it may have been accepted; an unknown price counts as nothing.
    """
    moved = give_up(connection, doubt, reason, now, "unconfirmed")
    asked = select(attempts.c.estimated_usd).where(attempts.c.id == doubt.attempt_id)
    if moved and connection.execute(asked).scalar() is None:
        money.book(connection, {"id": doubt.attempt_id}, {"estimated_usd": Decimal(0)})
    return moved


def give_up(connection: Connection, doubt: Doubt, reason: str, now: datetime, error_class: str) -> bool:
    return move(
        connection,
        doubt.job_id,
        State.UNCONFIRMED,
        State.FAILED,
        now,
        guard={"attempt_id": doubt.attempt_id},
        detail=reason,
        failed_at=now,
        next_at=None,
        error_class=error_class,
        error=reason,
    )


def looked(connection: Connection, doubt: Doubt, next_at: datetime | None) -> bool:
    """Not found yet: look again at `next_at`, or (None) hold it for a person."""
    still = {"id": doubt.job_id, "state": State.UNCONFIRMED, "attempt_id": doubt.attempt_id}
    return change(connection, jobs, still, {"next_at": next_at, "strikes": Plus(1), **FREE})
