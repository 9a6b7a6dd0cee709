"""The paid request: pending → submitting with the intent, then generating, failed, unconfirmed, or back to pending.

The intent is committed before the request leaves (write-ahead): after a crash the table shows what may have been sent.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, bindparam, func, insert, select, text, update

from batchgen.jobs import Job, Outcome, State
from batchgen.jobtable import ledger
from batchgen.jobtable.ledger import Entry
from batchgen.jobtable.schema import ATTEMPT_IS_OPEN, STATE_IS_IN_FLIGHT, attempts, jobs
from batchgen.jobtable.transition import INSERT_EVENT, JOB_COLUMNS, Increment, move, to_job
from batchgen.services.base import Accepted, Blocked, NotSent, Rejected, Throttled, Unknown

UNDECIDED = tuple(outcome for outcome in Outcome if outcome.is_undecided)


@dataclass(frozen=True, slots=True)
class Intent:
    """A create request that is committed and may now be sent."""

    job: Job
    attempt_id: int
    client_request_id: str
    entry: Entry
    """The attempt in the ledger."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pending job that may be claimed, and its estimated cost in USD where the price is known."""

    id: int
    model: str
    endpoint: str
    request: str
    estimated_usd: Decimal | None = None
    deadline_at: datetime | None = None
    """Until when its generation may run: until then it counts as in flight, if it is not known to be accepted."""


def ready(
    connection: Connection,
    batch_id: int,
    now: datetime,
    capacity: int,
    selection: str | None = None,
    barred: Collection[str] = (),
) -> list[Candidate]:
    """The first `capacity` pending jobs by priority, then in the manifest's order.

    Only those with the mark `selection`, where it is set; none of a model in `barred`.
    """
    statement = READY if selection is None else READY_SELECTED
    if barred:
        statement = statement.where(jobs.c.model.not_in(barred))
    params = {"in_batch": batch_id, "now": now, "capacity": capacity}
    selected = {} if selection is None else {"with_mark": selection}
    return [Candidate(*row) for row in connection.execute(statement, params | selected)]


def in_flight(connection: Connection, service: str, now: datetime) -> int:
    """Generations that the service may be working on. Those past their deadline do not count: they may never end."""
    return connection.execute(COUNT_IN_FLIGHT, {"of": service, "now": now}).scalar_one()


def any_pending(connection: Connection, batch_id: int) -> bool:
    """Whether a job of the batch waits to be sent."""
    return connection.execute(ANY_PENDING, {"in_batch": batch_id}).first() is not None


def intend(
    connection: Connection,
    batch_id: int,
    worker: str,
    now: datetime,
    until: datetime,
    capacity: int,
    base_url: str | None,
    chosen: Sequence[Candidate] | None = None,
) -> list[Intent]:
    """Claim the `chosen` pending jobs, or the first `capacity` of them, with one new attempt each.

    Nothing may be sent before this is durable. The estimates are reserved in the same transaction.
    """
    if chosen is None:
        chosen = ready(connection, batch_id, now, capacity)
    if not chosen:
        return []
    names = {job.id: f"batchgen-{uuid4().hex}" for job in chosen}
    # The index ux_attempts_one_open refuses this insert for a job that may already be paid for.
    new = {"sent_at": now, "outcome": Outcome.SENDING}
    connection.execute(
        INSERT_ATTEMPT,
        [
            {"job_id": job.id, "client_request_id": names[job.id], "estimated_usd": job.estimated_usd, **new}
            for job in chosen
        ],
    )
    ledger.reserve(connection, batch_id, [job.estimated_usd for job in chosen])
    lease = {"worker": worker, "until": until, "at_base_url": base_url}
    claimed: dict[int, Job] = {}
    for deadline in {job.deadline_at for job in chosen}:
        ids = [job.id for job in chosen if job.deadline_at == deadline]
        rows = connection.execute(CLAIM_PENDING, {"ids": ids, "deadline": deadline or until, **lease})
        claimed |= {job.id: job for job in map(to_job, rows)}
    moved = {"at": now, "from_state": State.PENDING, "to_state": State.SUBMITTING}
    connection.execute(INSERT_EVENT, [{"job_id": job.id, "detail": names[job.id], **moved} for job in chosen])
    return [to_intent(claimed[job.id], names[job.id], batch_id, job.estimated_usd) for job in chosen]


def to_intent(job: Job, client_request_id: str, batch_id: int, estimated_usd: Decimal | None) -> Intent:
    entry = Entry(batch_id, job.service, job.model, Outcome.SENDING, estimated_usd)
    return Intent(job, job.attempt_id or 0, client_request_id, entry)


def decide(
    connection: Connection, attempt_id: int, outcome: Outcome, now: datetime, entry: Entry | None = None, **values: Any
) -> bool:
    """Record the outcome of an attempt at `now`. False for an attempt that was decided before: it stays as it is.

    `entry` is the attempt as the caller knows it, which saves a read unless another run has changed it.
    """
    new = {"outcome": outcome, "answered_at": now, **values}
    if entry and ledger.update_attempt(connection, attempt_id, UNDECIDED, new, entry):
        return True
    return ledger.update_attempt(connection, attempt_id, UNDECIDED, new)


def settle(connection: Connection, intent: Intent, outcome: Outcome, now: datetime, **values: Any) -> bool:
    """Record the outcome of an intent's attempt."""
    return decide(connection, intent.attempt_id, outcome, now, intent.entry, **values)


def leave(connection: Connection, intent: Intent, to: State, now: datetime, *, counts: bool, **values: Any) -> bool:
    """Move the job on, if this attempt is still its attempt. `counts`: it becomes one of the job's attempts.

    The attempt, not the lease, is the fencing token (Kleppmann, "How to do distributed locking", 2016). After a stall,
    another run may have declared the job unconfirmed and counted the attempt; the late answer is still the answer.
    """
    own, job_id, number = {"attempt_id": intent.attempt_id}, intent.job.id, int(counts)
    return move(connection, job_id, State.SUBMITTING, to, now, guard=own, attempts=Increment(number), **values) or move(
        connection, job_id, State.UNCONFIRMED, to, now, guard=own, attempts=Increment(number - 1), **values
    )


def accepted(
    connection: Connection,
    intent: Intent,
    outcome: Accepted,
    now: datetime,
    deadline: datetime,
    next_at: datetime,
    input_digests: str | None = None,
) -> bool:
    """The service accepted it: store the generation id, by which everything else can be fetched again.

    `input_digests` records the local files as they were sent (see `files/local_files.py`).
    """
    generation = {"generation_id": outcome.generation_id, "cost_usd": outcome.cost_usd}
    answer = {**generation, "http_status": outcome.http_status}
    if not settle(connection, intent, Outcome.ACCEPTED, now, **answer):
        # The attempt was given up and its job may be sent again: the ledger keeps this generation, as released.
        late = {"outcome": Outcome.ACCEPTED, "released_at": now, **answer}
        ledger.update_attempt(connection, intent.attempt_id, (Outcome.ABSENT,), late)
    times = {"submitted_at": now, "polled_at": now, "deadline_at": deadline, "next_at": next_at}
    new: dict[str, Any] = {**generation, **times, "input_digests": input_digests}
    return leave(connection, intent, State.GENERATING, now, counts=True, detail=outcome.generation_id, **new)


def rejected(
    connection: Connection, intent: Intent, outcome: Rejected, now: datetime, error_class: str = "rejected"
) -> bool:
    """Refused for good: the job failed, in the service's own words, and cost nothing."""
    reason = outcome.reason
    settle(connection, intent, Outcome.REJECTED, now, http_status=outcome.http_status, error=reason)
    failure: dict[str, Any] = {"failed_at": now, "next_at": None, "error_class": error_class, "error": reason}
    return leave(connection, intent, State.FAILED, now, counts=True, detail=reason, **failure)


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
    failures = Increment(isinstance(outcome, NotSent))
    waiting: dict[str, Any] = {"attempt_id": None, "next_at": next_at, "failures": failures}
    return leave(connection, intent, State.PENDING, now, counts=False, detail=outcome.reason, **waiting)


def unconfirmed(connection: Connection, intent: Intent, outcome: Unknown, now: datetime, next_at: datetime) -> bool:
    """It was sent and no readable answer came: it may be paid for, so only the service's log or a person decides."""
    settle(connection, intent, Outcome.UNCONFIRMED, now, http_status=outcome.http_status, error=outcome.reason)
    return move_to_unconfirmed(
        connection, intent.job.id, {"attempt_id": intent.attempt_id}, outcome.reason, now, next_at
    )


def move_to_unconfirmed(
    connection: Connection, job_id: int, guard: dict[str, Any], reason: str, now: datetime, next_at: datetime
) -> bool:
    """submitting → unconfirmed, which counts the attempt."""
    new: dict[str, Any] = {"attempts": Increment(1), "next_at": next_at, "error_class": "unconfirmed", "error": reason}
    return move(connection, job_id, State.SUBMITTING, State.UNCONFIRMED, now, guard=guard, detail=reason, **new)


FLYING_WHERE = (
    jobs.c.service == bindparam("of"),
    text(STATE_IS_IN_FLIGHT),  # the condition of the partial index ix_jobs_in_flight
    (jobs.c.state == State.SUBMITTING) | (jobs.c.deadline_at > bindparam("now", type_=jobs.c.deadline_at.type)),
)
COUNT_IN_FLIGHT = select(func.count()).where(*FLYING_WHERE)

ANY_PENDING = select(jobs.c.id).where(jobs.c.batch_id == bindparam("in_batch"), jobs.c.state == State.PENDING).limit(1)

MAY_BE_SENT = (
    (jobs.c.batch_id == bindparam("in_batch"))
    & (jobs.c.state == State.PENDING)
    & (jobs.c.next_at.is_(None) | (jobs.c.next_at <= bindparam("now", type_=jobs.c.next_at.type)))
)
READY = (
    select(jobs.c.id, jobs.c.model, jobs.c.endpoint, jobs.c.request)
    .where(MAY_BE_SENT)
    .order_by(jobs.c.priority.desc(), jobs.c.id)
    .limit(bindparam("capacity"))
)
READY_SELECTED = READY.where(jobs.c.selection == bindparam("with_mark"))

INSERT_ATTEMPT = insert(attempts)

OPEN_ATTEMPT = select(attempts).where(attempts.c.job_id == jobs.c.id, text(ATTEMPT_IS_OPEN)).correlate(jobs)
"""The one attempt of a job that may be paid, which the index ux_attempts_one_open finds."""
CLAIM_PENDING = (
    update(jobs)
    .where(jobs.c.id.in_(bindparam("ids", expanding=True)), jobs.c.state == State.PENDING)
    .values(
        state=State.SUBMITTING,
        attempt_id=OPEN_ATTEMPT.with_only_columns(attempts.c.id).scalar_subquery(),
        estimated_usd=OPEN_ATTEMPT.with_only_columns(attempts.c.estimated_usd).scalar_subquery(),
        base_url=bindparam("at_base_url"),
        deadline_at=bindparam("deadline", type_=jobs.c.deadline_at.type),
        leased_by=bindparam("worker"),
        leased_until=bindparam("until"),
        next_at=bindparam("until"),
    )
    .returning(*JOB_COLUMNS)
)
