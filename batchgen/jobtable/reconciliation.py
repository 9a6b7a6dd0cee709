"""unconfirmed → generating, pending or failed: what the service's memory, or a person, says about a lost answer."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, func, select, text, union

from batchgen.jobs import UNDECIDED, ChargeSource, ErrorClass, Job, Outcome, State
from batchgen.jobtable import ledger, pricelist, settings
from batchgen.jobtable.joins import ATTEMPT_IS_IN_FLIGHT, ATTEMPTS, CURRENT_ATTEMPTS
from batchgen.jobtable.rows import load_jobs
from batchgen.jobtable.schema import attempts, events, jobs
from batchgen.jobtable.submission import decide
from batchgen.jobtable.transition import NO_LEASE, Increment, change_state, guarded_update, record_event
from batchgen.services.base import SentAttempt
from batchgen.services.outcomes import Adopted

BY_PERSON = ", as a person says"
ACCEPTED_LATE = timedelta(hours=1)
"""How long after its intent a request may be accepted: within this time it may be taken for another one."""


def held_jobs(connection: Connection, batch_id: int) -> list[Job]:
    """The unconfirmed jobs that are held for a person."""
    held = (jobs.c.batch_id == batch_id, jobs.c.state == State.UNCONFIRMED, jobs.c.next_at.is_(None))
    return load_jobs(connection, list(connection.execute(select(jobs.c.id).where(*held)).scalars()))


def sent_attempt(job: Job) -> SentAttempt:
    attempt = job.attempt
    return SentAttempt(
        client_request_id=attempt.client_request_id,
        model=job.model,
        endpoint=job.endpoint,
        request=job.request,
        input_pointers=job.input_pointers,
        intent_at=attempt.intent_at,
        handle=attempt.handle,
    )


def rivals(connection: Connection, lost: Sequence[Job]) -> list[SentAttempt]:
    """The other attempts, of any batch, that a service which compares bodies must know to find the lost ones.

    Accepted ones own their generations: with the same request, or sent by the same batch shortly before or since. Other
    lost ones may have sent the same but for its files.
    """
    own = {job.attempt.id for job in lost}
    account = attempts.c.account.in_({job.attempt.account for job in lost})
    is_owner = attempts.c.generation_id.is_not(None)
    fingerprints = select(attempts.c.fingerprint).where(attempts.c.id.in_(own))
    since = min(job.attempt.intent_at for job in lost) - ACCEPTED_LATE
    batches = {job.batch_id for job in lost}
    also_lost = (
        attempts.c.service.in_({job.service for job in lost}),
        attempts.c.model.in_({job.model for job in lost}),
        attempts.c.outcome.in_(UNDECIDED),
        text(ATTEMPT_IS_IN_FLIGHT),
    )
    ids = union(
        select(attempts.c.id).where(attempts.c.fingerprint.in_(fingerprints), is_owner, account),
        select(attempts.c.id)
        .select_from(ATTEMPTS)
        .where(jobs.c.batch_id.in_(batches), is_owner, account, attempts.c.intent_at >= since),
        select(attempts.c.id).where(*also_lost, account),
    )
    columns = (attempts.c.client_request_id, jobs.c.model, jobs.c.endpoint, jobs.c.request, jobs.c.input_pointers)
    statement = (
        select(*columns, attempts.c.intent_at, attempts.c.generation_id)
        .select_from(ATTEMPTS)
        .where(attempts.c.id.in_(list(set(connection.execute(ids).scalars()) - own)))
    )
    rows = connection.execute(statement)
    return [SentAttempt(*row[:4], tuple(json.loads(row.input_pointers)), *row[5:]) for row in rows]


def adopted(
    connection: Connection, job: Job, finding: Adopted, now: datetime, deadline: datetime, by: str = ""
) -> bool:
    """It was accepted: the job continues with its generation, as if the answer had come. `by` says who knows it.

    False, and the job is held for a person, where another attempt has this generation.
    """
    if ledger.is_owned_elsewhere(connection, job.attempt.id, finding.generation_id):
        if not by:
            hold(connection, job, f"the generation {finding.generation_id} belongs to another request")
        return False
    answer: dict[str, Any] = {
        "generation_id": finding.generation_id,
        "handle": json.dumps({**job.attempt.handle, **finding.handle}),
        "answered_at": finding.accepted_at,
        "deadline_at": deadline,
    }
    if finding.cost_usd is not None:
        answer |= {"cost_usd": finding.cost_usd, "charge_source": ChargeSource.LOG}
    decide(connection, job, Outcome.ACCEPTED, now, **answer)
    return leave(connection, job, State.GENERATING, f"adopted {finding.generation_id}{by}", now, next_at=now)


def named_by_person(connection: Connection, batch_id: int, keys: Collection[str]) -> list[Job]:
    """Those of the jobs that continue with a generation which a person has typed, and of which nothing has come."""
    detail = "adopted " + attempts.c.generation_id + BY_PERSON
    is_by_person = select(events.c.id).where(events.c.job_id == jobs.c.id, events.c.detail == detail).exists()
    correctable = (State.GENERATING, State.FAILED, State.CANCELLED)
    chosen = (jobs.c.batch_id == batch_id, jobs.c.key.in_(keys), jobs.c.state.in_(correctable), is_by_person)
    ids = connection.execute(select(jobs.c.id).select_from(CURRENT_ATTEMPTS).where(*chosen)).scalars()
    return load_jobs(connection, list(ids))


def corrected(connection: Connection, job: Job, finding: Adopted, now: datetime, deadline: datetime) -> bool:
    """A person had named a wrong generation: the job continues with this one. False where another attempt has it."""
    if ledger.is_owned_elsewhere(connection, job.attempt.id, finding.generation_id):
        return False
    before = {"id": job.attempt.id, "outcome": Outcome.ACCEPTED, "generation_id": job.attempt.generation_id}
    handle = json.dumps({**job.attempt.handle, **finding.handle})
    values = {"generation_id": finding.generation_id, "handle": handle, "finished_at": None, "deadline_at": deadline}
    if not guarded_update(connection, attempts, before, values):
        return False
    detail, own = f"adopted {finding.generation_id}{BY_PERSON}", {"attempt_id": job.attempt.id}
    if job.state is not State.GENERATING:
        return change_state(connection, job, job.state, State.GENERATING, now, guard=own, detail=detail, next_at=now)
    record_event(connection, job, now, job.state, job.state, detail)
    due = {"next_at": now, "failures": 0, **NO_LEASE}
    return guarded_update(connection, jobs, {"id": job.id, "state": job.state, **own}, due)


def refuted(connection: Connection, job: Job, proof: str, now: datetime) -> bool:
    """It was not accepted, as the service proves: the job may be sent again."""
    decide(connection, job, Outcome.ABSENT, now)
    return leave(connection, job, State.PENDING, proof, now, attempt_id=None)


def resubmitted(connection: Connection, job: Job, reason: str, now: datetime) -> bool:
    """A person orders another attempt, although nobody knows whether the service accepted this one.

    Its estimate stays reserved, until a comparison with the account settles it; an unknown price counts as nothing.
    """
    moved = leave(connection, job, State.PENDING, reason, now, attempt_id=None)
    if moved:
        keep_reserved(connection, job, released_at=now)
    return moved


def resubmitted_by_person(connection: Connection, job: Job, now: datetime) -> bool:
    """A person orders another attempt of one job. It is compared with the service's log first, as after a retry."""
    moved = resubmitted(connection, job, "resubmitted by a person", now)
    if moved:
        settings.compare_again(connection, job.batch_id, now)
    return moved


def failed(connection: Connection, job: Job, reason: str, now: datetime) -> bool:
    """It was not accepted, like earlier attempts of the job: the job failed, and cost nothing."""
    decide(connection, job, Outcome.ABSENT, now)
    return fail(connection, job, reason, now, ErrorClass.INTERNAL)


def abandoned(connection: Connection, job: Job, reason: str, now: datetime) -> bool:
    """A person gives it up: failed, and not sent again unless retried.

    Its estimate stays reserved, because it may have been accepted; an unknown price then counts as nothing.
    """
    moved = fail(connection, job, reason, now, ErrorClass.UNCONFIRMED)
    if moved:
        keep_reserved(connection, job)
    return moved


def keep_reserved(connection: Connection, job: Job, **values: Any) -> None:
    """Let an attempt that nobody waits for any more keep its estimate in the totals: one that had none, what is known
    of its price by now."""
    estimate = job.attempt.estimated_usd
    if estimate is None:
        prices = pricelist.load(connection, job.service)
        estimate = prices.estimate(job.model, job.endpoint, job.request, job.clip_seconds) or Decimal(0)
    ledger.update_attempt(connection, job.attempt.id, tuple(Outcome), {"estimated_usd": estimate, **values})


def fail(connection: Connection, job: Job, reason: str, now: datetime, error_class: ErrorClass) -> bool:
    return leave(connection, job, State.FAILED, reason, now, error_class=error_class, error=reason)


def leave(connection: Connection, job: Job, to: State, detail: str, now: datetime, **values: Any) -> bool:
    """Move the job on, if this attempt is still its attempt."""
    own = {"attempt_id": job.attempt.id}
    return change_state(connection, job, State.UNCONFIRMED, to, now, guard=own, detail=detail, **values)


def postponed(connection: Connection, job: Job, next_at: datetime) -> bool:
    """The service does not know it yet: search again at `next_at`."""
    return update_own(connection, job, next_at=next_at)


def hold(connection: Connection, job: Job, reason: str = "") -> bool:
    """Leave it to a person. `reason` replaces the one for which it is unconfirmed."""
    return update_own(connection, job, next_at=None, **({"error": reason} if reason else {}))


def update_own(connection: Connection, job: Job, **values: Any) -> bool:
    own = {"id": job.id, "state": State.UNCONFIRMED, "attempt_id": job.attempt.id}
    return guarded_update(connection, jobs, own, {**values, "failures": Increment(1), **NO_LEASE})


def failures_like(connection: Connection, job: Job) -> int:
    """How many earlier attempts of the same job ended as this one did."""
    same = (attempts.c.outcome == Outcome.ABSENT, attempts.c.error == job.error, attempts.c.released_at.is_(None))
    return connection.execute(select(func.count()).where(attempts.c.job_id == job.id, *same)).scalar_one()


def others_succeed(connection: Connection, job: Job) -> bool:
    """Whether the service has accepted another job of the batch since this one was first sent."""
    first = select(func.min(attempts.c.id)).where(attempts.c.job_id == job.id).scalar_subquery()
    of_batch = select(jobs.c.id).where(jobs.c.id == attempts.c.job_id, jobs.c.batch_id == job.batch_id).exists()
    later = select(attempts.c.id).where(attempts.c.id > first, attempts.c.outcome == Outcome.ACCEPTED, of_batch)
    return connection.execute(later.order_by(attempts.c.id).limit(1)).first() is not None
