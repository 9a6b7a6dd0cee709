"""What a comparison with the account's transactions reads of the job table: the attempts of a batch, page by page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, exists, func, select

from batchgen.jobs import Outcome
from batchgen.jobtable.fingerprint import DIGITS
from batchgen.jobtable.schema import attempts, batches, events, jobs, outputs

ROWS = 2_000  # of attempts in memory at a time


def first_intent(
    connection: Connection, batch_id: int, account: str, origin: str, ended_since: datetime | None = None
) -> datetime | None:
    """When the batch's first request was sent with this account, to this address; of those that ended since then."""
    if ended_since is None:
        return connection.execute(FIRST_INTENT, scope(batch_id, account, origin)).scalar()
    ended = FIRST_INTENT.where(attempts.c.finished_at >= ended_since)
    return connection.execute(ended, scope(batch_id, account, origin)).scalar()


def attempts_of(
    connection: Connection, batch_id: int, account: str, origin: str, since: datetime | None = None
) -> Iterator[Sequence[Any]]:
    """The attempts of a batch (that were sent since then) with their jobs, some at a time."""
    statement = ATTEMPTS if since is None else ATTEMPTS.where(attempts.c.intent_at >= since)
    statement = statement.execution_options(yield_per=ROWS)
    return connection.execute(statement, scope(batch_id, account, origin)).partitions()


def other_generations(connection: Connection, batch_id: int, since: datetime) -> Iterator[Sequence[Any]]:
    """The generations of other batches of the table that were sent since then, each with its batch's name."""
    statement = OTHERS.execution_options(yield_per=ROWS)
    return connection.execute(statement, {"in_batch": batch_id, "since": since}).partitions()


def digits_of_jobs(connection: Connection, batch_id: int) -> Iterator[Sequence[Any]]:
    """The first digits of the fingerprints of a batch's jobs, with their keys and states."""
    statement = DIGITS_OF_JOBS.execution_options(yield_per=ROWS)
    return connection.execute(statement, {"in_batch": batch_id}).partitions()


def asked_before(connection: Connection, batch_id: int, reason: str) -> set[str]:
    """The keys of the jobs that were moved for this reason before."""
    return set(connection.execute(MOVED_FOR, {"in_batch": batch_id, "reason": reason}).scalars())


def scope(batch_id: int, account: str, origin: str) -> dict[str, Any]:
    return {"in_batch": batch_id, "this_account": account, "this_origin": origin}


IS_JUDGED = attempts.c.account.in_(["", bindparam("this_account")]) & attempts.c.origin.in_(
    ["", bindparam("this_origin")]
)
FIRST_INTENT = (
    select(func.min(attempts.c.intent_at))
    .join(jobs, attempts.c.job_id == jobs.c.id)
    .where(jobs.c.batch_id == bindparam("in_batch"), IS_JUDGED)
)
_undelivered = exists().where(outputs.c.attempt_id == attempts.c.id, outputs.c.delivered_at.is_(None))
_delivered = exists().where(outputs.c.attempt_id == attempts.c.id, outputs.c.delivered_at.is_not(None))
ATTEMPTS = (
    select(
        *(attempts.c.id, jobs.c.key, attempts.c.number, attempts.c.model, jobs.c.state, attempts.c.outcome),
        *(attempts.c.generation_id, attempts.c.client_request_id, attempts.c.intent_at),
        *(attempts.c.finished_at, attempts.c.deadline_at),
        *(attempts.c.cost_usd, attempts.c.charge_source, attempts.c.quoted_usd, attempts.c.estimated_usd),
        IS_JUDGED.label("is_judged"),
        (_delivered & ~_undelivered).label("is_delivered"),
        (jobs.c.attempt_id == attempts.c.id).label("is_current"),
    )
    .join(jobs, attempts.c.job_id == jobs.c.id)
    .where(jobs.c.batch_id == bindparam("in_batch"))
    .order_by(attempts.c.id)
)
OTHERS = (
    select(attempts.c.generation_id, batches.c.name)
    .join(jobs, attempts.c.job_id == jobs.c.id)
    .join(batches, jobs.c.batch_id == batches.c.id)
    .where(
        attempts.c.outcome == Outcome.ACCEPTED,
        jobs.c.batch_id != bindparam("in_batch"),
        attempts.c.intent_at >= bindparam("since", type_=attempts.c.intent_at.type),
    )
)
DIGITS_OF_JOBS = select(func.substr(jobs.c.fingerprint, 1, DIGITS), jobs.c.key, jobs.c.state).where(
    jobs.c.batch_id == bindparam("in_batch")
)
MOVED_FOR = (
    select(jobs.c.key)
    .join(events, events.c.job_id == jobs.c.id)
    .where(events.c.batch_id == bindparam("in_batch"), events.c.detail == bindparam("reason"))
    .distinct()
)
