"""pending → submitting → generating, failed, unconfirmed or back: around the one call that costs money."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, bindparam, func, insert, select, text, update

from batchgen.jobs import Job, State
from batchgen.jobtable import ledger
from batchgen.jobtable.guarded_update import Increment
from batchgen.jobtable.ledger import Entry
from batchgen.jobtable.prepared import Prepared
from batchgen.jobtable.schema import Outcome, attempts, jobs, one_of
from batchgen.jobtable.transition import APPEND, JOB_COLUMNS, move, to_job
from batchgen.services.base import Accepted, Blocked, NotSent, Rejected, Throttled, Unknown


@dataclass(frozen=True, slots=True)
class Intent:
    """A create request that is committed and may now leave."""

    job: Job
    attempt_id: int
    client_request_id: str
    entry: Entry
    """The attempt in the ledger."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pending job that may be claimed, and the USD that it is expected to cost if anybody knows."""

    id: int
    model: str
    endpoint: str
    request: str
    estimated_usd: Decimal | None = None


def ready(
    connection: Connection,
    batch_id: int,
    now: datetime,
    capacity: int,
    selection: str | None = None,
    barred: Collection[str] = (),
) -> list[Candidate]:
    """The first `room` pending jobs in their order; of a selection, if it is named; of no `barred` model."""
    asked = READY if selection is None else READY_SELECTED
    if barred:
        asked = asked.where(jobs.c.model.not_in(barred))
    given = {"batch": batch_id, "now": now, "room": capacity}
    return [Candidate(*row) for row in connection.execute(asked, given | ({"of": selection} if selection else {}))]


def in_flight(connection: Connection, service: str, now: datetime) -> int:
    """Generations that the service may be working on. Held and late ones do not count: they may never end."""
    ((number,),) = FLYING.rows(connection, {"of": service, "now": now})
    return int(number)


def any_pending(connection: Connection, batch_id: int) -> bool:
    """Whether anything of the batch waits to be sent."""
    return connection.execute(ANY_PENDING, {"batch": batch_id}).first() is not None


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
    """Claim `chosen` pending jobs, or else the first `room` of them, with one attempt each.

    Nothing may be sent before this is durable; what it may cost is reserved in the same transaction.
    """
    if chosen is None:
        chosen = ready(connection, batch_id, now, capacity)
    if not chosen:
        return []
    ids = [each.id for each in chosen]
    names = {job_id: f"batchgen-{uuid4().hex}" for job_id in ids}
    begun = {"sent_at": now, "outcome": Outcome.SENDING}
    # The index ux_attempts_one_open refuses this insert for a job that may already be paid for.
    connection.execute(
        BEGIN_ATTEMPT,
        [
            {"job_id": each.id, "client_request_id": names[each.id], "estimated_usd": each.estimated_usd, **begun}
            for each in chosen
        ],
    )
    ledger.reserve(connection, batch_id, [each.estimated_usd for each in chosen])
    held = {"to_base_url": base_url, "worker": worker, "until": until}
    claimed: dict[int, Job] = {}
    for estimate in {each.estimated_usd for each in chosen}:
        alike = [each.id for each in chosen if each.estimated_usd == estimate]
        rows = connection.execute(CLAIM, {"ids": alike, "estimate": estimate, **held})
        claimed |= {job.id: job for job in map(to_job, rows)}
    left = {"then": now, "left": State.PENDING, "to": State.SUBMITTING}
    APPEND.run_many(connection, [{"of": job_id, "told": names[job_id], **left} for job_id in ids])
    return [to_intent(claimed[each.id], names[each.id], batch_id, each.estimated_usd) for each in chosen]


def to_intent(job: Job, client_request_id: str, batch_id: int, estimated_usd: Decimal | None) -> Intent:
    entry = Entry(batch_id, job.service, job.model, Outcome.SENDING, estimated_usd)
    return Intent(job, job.attempt_id or 0, client_request_id, entry)


def decide(connection: Connection, attempt_id: int, outcome: Outcome, **values: Any) -> bool:
    """Write an attempt's outcome into the ledger. False for one that was decided already, which stays so."""
    undecided = {"id": attempt_id, "outcome": [Outcome.SENDING, Outcome.UNCONFIRMED]}
    return ledger.record_charge(connection, undecided, {"outcome": outcome, **values})


def settle(connection: Connection, intent: Intent, outcome: Outcome, now: datetime, **values: Any) -> bool:
    """The outcome of an attempt that was answered, or whose answer was lost, at `now`."""
    told = {"outcome": outcome, "answered_at": now, **values}
    # One that another run has declared unconfirmed meanwhile is found on the longer way.
    sending = {"id": intent.attempt_id, "outcome": Outcome.SENDING}
    return ledger.record_charge(connection, sending, told, intent.entry) or decide(
        connection, intent.attempt_id, **told
    )


def leave(connection: Connection, intent: Intent, to: State, now: datetime, *, counts: bool, **values: Any) -> bool:
    """Move the job on, if this attempt is still its attempt; `counts`: it is one of the job's attempts.

    The attempt, not the lease, is the fence: an answer that comes after a stall long enough for another run to have
    declared the job unconfirmed (which counted the attempt) is still the answer.
    """
    own, job_id = {"attempt_id": intent.attempt_id}, intent.job.id
    number = int(counts)
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
    """The service has it: store the generation id, from which everything else can be had again.

    `input_digests` is what the local files were when they were sent (see `batchgen.input_digests`).
    """
    told = {
        "generation_id": outcome.generation_id,
        "http_status": outcome.http_status,
        "cost_usd": outcome.cost_usd,
    }
    if not settle(connection, intent, Outcome.ACCEPTED, now, **told):
        # All patience was over, and the order to send again given: the job is not this attempt's any more.
        given_up = {"id": intent.attempt_id, "outcome": Outcome.ABSENT}
        ledger.record_charge(connection, given_up, {"outcome": Outcome.ACCEPTED, "released_at": now, **told})
    return leave(
        connection,
        intent,
        State.GENERATING,
        now,
        counts=True,
        detail=outcome.generation_id,
        generation_id=outcome.generation_id,
        cost_usd=outcome.cost_usd,
        input_digests=input_digests,
        submitted_at=now,
        polled_at=now,
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
        failures=Increment(isinstance(outcome, NotSent)),
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
        guard={"attempt_id": intent.attempt_id},
        detail=outcome.reason,
        attempts=Increment(1),
        next_at=next_at,
        error_class="unconfirmed",
        error=outcome.reason,
    )


FLYING_WHERE = (
    jobs.c.service == bindparam("of"),
    # The words of the partial index, for the planner to find it.
    text(one_of("state", (State.SUBMITTING, State.UNCONFIRMED, State.GENERATING))),
    (jobs.c.state == State.SUBMITTING)
    | ((jobs.c.state == State.UNCONFIRMED) & jobs.c.next_at.is_not(None))
    | ((jobs.c.state == State.GENERATING) & (jobs.c.deadline_at > bindparam("now", type_=jobs.c.deadline_at.type))),
)
FLYING = Prepared(select(func.count()).where(*FLYING_WHERE))

ANY_PENDING = select(jobs.c.id).where(jobs.c.batch_id == bindparam("batch"), jobs.c.state == State.PENDING).limit(1)

_may_be_sent = (
    (jobs.c.batch_id == bindparam("batch"))
    & (jobs.c.state == State.PENDING)
    & (jobs.c.next_at.is_(None) | (jobs.c.next_at <= bindparam("now", type_=jobs.c.next_at.type)))
)
READY = (
    select(jobs.c.id, jobs.c.model, jobs.c.endpoint, jobs.c.request)
    .where(_may_be_sent)
    .order_by(jobs.c.priority.desc(), jobs.c.id)
    .limit(bindparam("room"))
)
READY_SELECTED = READY.where(jobs.c.selection == bindparam("of"))

BEGIN_ATTEMPT = insert(attempts)

CLAIM = (
    update(jobs)
    .where(jobs.c.id.in_(bindparam("ids", expanding=True)), jobs.c.state == State.PENDING)
    .values(
        state=State.SUBMITTING,
        attempt_id=select(func.max(attempts.c.id))
        .where(attempts.c.job_id == jobs.c.id)
        .correlate(jobs)
        .scalar_subquery(),
        base_url=bindparam("to_base_url"),
        estimated_usd=bindparam("estimate", type_=jobs.c.estimated_usd.type),
        leased_by=bindparam("worker"),
        leased_until=bindparam("until"),
        next_at=bindparam("until"),
    )
    .returning(*JOB_COLUMNS)
)
