"""The paid request: pending → submitting with the intent, then generating, failed, unconfirmed, or back to pending.

The intent is committed before the request leaves (write-ahead): after a crash the table shows what may have been sent.
A job in this module is one that its run has claimed, with the attempt that carries the request.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select, text, update

from batchgen.jobs import UNDECIDED, ChargeSource, ErrorClass, Job, Outcome, State, TimingKind, timing_kind
from batchgen.jobtable import ledger, settings
from batchgen.jobtable.fingerprint import new_request_id
from batchgen.jobtable.joins import ATTEMPT_IS_OPEN, IN_BATCH, SENDING_ORDER
from batchgen.jobtable.moves import refuse_moved
from batchgen.jobtable.rows import load_jobs
from batchgen.jobtable.schema import attempts, jobs
from batchgen.jobtable.selection import Selected
from batchgen.jobtable.transition import INSERT_EVENT, AnyJob, change_state, guarded_update, update_leased
from batchgen.services.outcomes import Accepted, Blocked, NotSent, Rejected, Throttled, Unknown, failure_text


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pending job that may be claimed, and its estimated cost in USD where the price is known."""

    id: int
    model: str
    endpoint: str
    request: str
    clip_seconds: float | None
    fingerprint: str
    estimated_usd: Decimal | None = None
    deadline_at: datetime | None = None
    """Until when its generation may run. A request without an answer counts as in flight until then."""
    client_request_id: str = ""
    """That of an earlier request, which was sent from a job table that is lost; else ""."""

    @property
    def kind(self) -> TimingKind:
        return timing_kind(self.model, self.clip_seconds)


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends requests: a run, with the key of an account, to a service."""

    run_id: str
    service: str
    account: str
    origin: str = ""
    """Where the requests may be asked for afterwards, and nowhere else; "" is any address."""


def ready(
    connection: Connection, batch_id: int, capacity: int, selected: Selected | None = None, barred: Collection[str] = ()
) -> list[Candidate]:
    """At most `capacity` pending jobs, in the order in which they are sent.

    Only those that are `selected`, where a run may not send every job; none of a model in `barred`.
    """
    statement = READY.where(jobs.c.model.not_in(barred)) if barred else READY
    params = {"in_batch": batch_id, "capacity": capacity}
    if selected is None:
        return [Candidate(*row) for row in connection.execute(statement, params)]
    candidates: list[Candidate] = []
    for ids in selected.unsent(connection):
        rows = connection.execute(statement.where(jobs.c.id.in_(ids)), params)
        candidates += [Candidate(*row) for row in rows]
        if len(candidates) >= capacity:
            break
    return candidates[:capacity]


def any_pending(connection: Connection, batch_id: int, among: Collection[int] | None = None) -> bool:
    """Whether a job of the batch waits to be sent; with `among`, one of these few."""
    statement = ANY_PENDING if among is None else ANY_PENDING.where(jobs.c.id.in_(among))
    return connection.execute(statement, {"in_batch": batch_id}).first() is not None


def intend(
    connection: Connection,
    batch_id: int,
    sender: Sender,
    now: datetime,
    lease_ends: datetime,
    chosen: Sequence[Candidate],
) -> list[Job]:
    """Claim the `chosen` pending jobs, with one new attempt each: the intent to send a create request.

    Returns them in the order of `chosen`, in which they are sent. Nothing may be sent before this is durable. The
    estimates are reserved in the same transaction. Raises `UsageError` for a batch that was moved to another table,
    where its jobs are sent.
    """
    if not chosen:
        return []
    refuse_moved(connection, batch_id)
    # The index ux_attempts_one_open refuses this insert for a job that may already be paid for.
    new = [
        {
            "job_id": job.id,
            "of_job": job.id,
            "model": job.model,
            "client_request_id": job.client_request_id or new_request_id(job.fingerprint),
            "fingerprint": job.fingerprint,
            "estimated_usd": job.estimated_usd,
            "deadline_at": job.deadline_at or lease_ends,
            "intent_at": now,
            "outcome": Outcome.SENDING,
            "service": sender.service,
            "account": sender.account,
            "origin": sender.origin,
        }
        for job in chosen
    ]
    connection.execute(INSERT_ATTEMPT, new)
    ledger.reserve(connection, batch_id, [job.estimated_usd for job in chosen])
    ids = [job.id for job in chosen]
    connection.execute(CLAIM_PENDING, {"ids": ids, "run_id": sender.run_id, "lease_ends": lease_ends})
    by_id = {job.id: job for job in load_jobs(connection, ids)}
    claimed = [by_id[id_] for id_ in ids]
    moved = {"batch_id": batch_id, "at": now, "from_state": State.PENDING, "to_state": State.SUBMITTING}
    details = [{"job_id": job.id, "detail": job.attempt.client_request_id, **moved} for job in claimed]
    connection.execute(INSERT_EVENT, details)
    return claimed


def prepared(
    connection: Connection, job: Job, run_id: str, handle: Mapping[str, Any], now: datetime, lease_ends: datetime
) -> bool:
    """Store what the service needs to find this request again, before it is sent: its intent and its lease begin anew.

    False where another run has taken the job over.
    """
    attempt, lease = job.attempt, {"leased_until": lease_ends, "next_at": lease_ends}
    deadline_at = attempt.deadline_at + (now - attempt.intent_at)
    new = {"handle": json.dumps(handle), "intent_at": now, "deadline_at": deadline_at}
    sending = {"id": attempt.id, "outcome": Outcome.SENDING}
    return guarded_update(connection, attempts, sending, new) and update_leased(connection, job, run_id, **lease)


def decide(connection: Connection, job: Job, outcome: Outcome, now: datetime, **values: Any) -> bool:
    """Record the outcome of a job's attempt at `now`. False for one that was decided before: it stays as it is."""
    new = {"outcome": outcome, "answered_at": now, **values}
    entry = ledger.entry_of(job, Outcome.SENDING)  # saves a read, unless the attempt has become unconfirmed meanwhile
    return ledger.update_attempt(connection, job.attempt.id, UNDECIDED, new, entry) or ledger.update_attempt(
        connection, job.attempt.id, UNDECIDED, new
    )


def leave(connection: Connection, job: Job, to: State, now: datetime, **values: Any) -> bool:
    """Move the job on, if this attempt is still its attempt.

    The attempt, not the lease, is the fencing token (Kleppmann, "How to do distributed locking", 2016). After a stall,
    another run may have declared the job unconfirmed; the late answer is still the answer.
    """
    own = {"attempt_id": job.attempt.id}
    return any(change_state(connection, job, state, to, now, guard=own, **values) for state in AWAITING_ANSWER)


def accepted(
    connection: Connection,
    job: Job,
    outcome: Accepted,
    now: datetime,
    deadline: datetime,
    next_at: datetime,
    input_digests: str | None = None,
) -> bool:
    """The service accepted it: store the generation id and the handle, by which everything else can be fetched again.

    `input_digests` records the local files as they were sent (see `files/local_files.py`).
    """
    if ledger.is_owned_elsewhere(connection, job.attempt.id, outcome.generation_id):
        reason = f"the service answers with the generation {outcome.generation_id}, which belongs to another request"
        return unconfirmed(connection, job, Unknown(reason, outcome.http_status), now, now)
    answer: dict[str, Any] = {
        "generation_id": outcome.generation_id,
        "handle": json.dumps(dict(outcome.handle)),
        "http_status": outcome.http_status,
        "input_digests": input_digests,
        "polled_at": now,
        "deadline_at": deadline,
    }
    if outcome.cost_usd is not None:
        answer |= {"cost_usd": outcome.cost_usd, "charge_source": ChargeSource.ANSWER}
    if not decide(connection, job, Outcome.ACCEPTED, now, **answer):
        # The attempt was given up and its job may be sent again: the ledger keeps this generation, as released.
        late = {"outcome": Outcome.ACCEPTED, "released_at": now, **answer}
        ledger.update_attempt(connection, job.attempt.id, (Outcome.ABSENT,), late)
    return leave(connection, job, State.GENERATING, now, detail=outcome.generation_id, next_at=next_at)


def has_accepted(connection: Connection, service: str, origin: str) -> bool:
    """Whether the service at this origin has ever accepted a request."""
    accepted_there = {"service": service, "origin": origin, "outcome": Outcome.ACCEPTED}
    return connection.execute(select(attempts.c.id).filter_by(**accepted_there).limit(1)).first() is not None


def rejected(connection: Connection, job: Job, outcome: Rejected, now: datetime) -> bool:
    """Refused for good: the job failed, in the service's own words, and cost nothing."""
    failure: dict[str, Any] = {"error_class": outcome.kind, "error": failure_text(outcome)}
    decide(connection, job, Outcome.REJECTED, now, http_status=outcome.http_status, **failure)
    return leave(connection, job, State.FAILED, now, detail=failure["error"], **failure)


def returned(connection: Connection, job: Job, outcome: NotSent | Throttled | Blocked, now: datetime) -> bool:
    """Not accepted, and not the job's fault: back to pending."""
    status = None if isinstance(outcome, NotSent) else outcome.http_status
    name = {NotSent: Outcome.NOT_SENT, Throttled: Outcome.THROTTLED, Blocked: Outcome.BLOCKED}[type(outcome)]
    decide(connection, job, name, now, http_status=status, error=outcome.reason)
    return leave(connection, job, State.PENDING, now, detail=outcome.reason, attempt_id=None)


def outdated(connection: Connection, job: Job, fingerprint: str, now: datetime) -> bool:
    """A local file has changed since the claim: nothing was sent, and the job is claimed again as what it is now."""
    reason = "a local file has changed since the job was claimed"
    decide(connection, job, Outcome.NOT_SENT, now, error=reason)
    settings.compare_again(connection, job.batch_id, now)
    return leave(connection, job, State.PENDING, now, detail=reason, attempt_id=None, fingerprint=fingerprint)


def unconfirmed(connection: Connection, job: Job, outcome: Unknown, now: datetime, next_at: datetime) -> bool:
    """It was sent and no readable answer came: it may be paid for, so only the service's memory or a person decides."""
    decide(connection, job, Outcome.UNCONFIRMED, now, http_status=outcome.http_status, error=outcome.reason)
    return move_to_unconfirmed(connection, job, {"attempt_id": job.attempt.id}, outcome.reason, now, next_at)


def move_to_unconfirmed(
    connection: Connection, job: AnyJob, guard: dict[str, Any], reason: str, now: datetime, next_at: datetime
) -> bool:
    new: dict[str, Any] = {"next_at": next_at, "error_class": ErrorClass.UNCONFIRMED, "error": reason}
    return change_state(connection, job, State.SUBMITTING, State.UNCONFIRMED, now, guard=guard, detail=reason, **new)


AWAITING_ANSWER = (State.SUBMITTING, State.UNCONFIRMED)
"""The states of a job whose create request is sent and not answered."""

ANY_PENDING = select(jobs.c.id).where(IN_BATCH, jobs.c.state == State.PENDING).limit(1)

READY = (
    select(jobs.c.id, jobs.c.model, jobs.c.endpoint, jobs.c.request, jobs.c.clip_seconds, jobs.c.fingerprint)
    .where(IN_BATCH, jobs.c.state == State.PENDING)
    .order_by(*SENDING_ORDER)
    .limit(bindparam("capacity"))
)

_earlier = attempts.alias("earlier")
_number = select(func.coalesce(func.max(_earlier.c.number), 0) + 1).where(_earlier.c.job_id == bindparam("of_job"))
INSERT_ATTEMPT = insert(attempts).values(number=_number.scalar_subquery())

OPEN_ATTEMPT = select(attempts.c.id).where(attempts.c.job_id == jobs.c.id, text(ATTEMPT_IS_OPEN)).correlate(jobs)
"""The one attempt of a job that may be paid, which the index ux_attempts_one_open finds."""
CLAIM_PENDING = (
    update(jobs)
    .where(jobs.c.id.in_(bindparam("ids", expanding=True)), jobs.c.state == State.PENDING)
    .values(
        state=State.SUBMITTING,
        attempt_id=OPEN_ATTEMPT.scalar_subquery(),
        leased_by=bindparam("run_id"),
        leased_until=bindparam("lease_ends"),
        next_at=bindparam("lease_ends"),
    )
)
