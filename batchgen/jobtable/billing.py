"""What a comparison with the account's transactions reads of the job table: the attempts of a batch, page by page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, bindparam, exists, func, select

from batchgen.jobs import Outcome
from batchgen.jobtable.fingerprint import DIGITS
from batchgen.jobtable.joins import ATTEMPTS, IN_BATCH
from batchgen.jobtable.schema import attempts, batches, events, jobs, outputs

ROWS = 2_000  # of attempts in memory at a time


def first_intent(
    connection: Connection, batch_id: int, account: str, origin: str, ended_since: datetime | None = None
) -> datetime | None:
    """When the batch's first request was sent with this account, to this address; of those that ended since then."""
    first = select(func.min(attempts.c.intent_at)).select_from(ATTEMPTS).where(IN_BATCH, IS_JUDGED)
    if ended_since is not None:
        first = first.where(attempts.c.finished_at >= ended_since)
    return connection.execute(first, scope(batch_id, account, origin)).scalar()


def attempts_of(
    connection: Connection, batch_id: int, account: str, origin: str, since: datetime | None = None
) -> Iterator[Sequence[Any]]:
    """The attempts of a batch (that were sent since then) with their jobs, some at a time."""
    statement = SELECT_ATTEMPTS if since is None else SELECT_ATTEMPTS.where(attempts.c.intent_at >= since)
    return pages(connection, statement, scope(batch_id, account, origin))


def other_generations(connection: Connection, batch_id: int, since: datetime) -> Iterator[Sequence[Any]]:
    """The generations of other batches of the table that were sent since then, each with its batch's name."""
    accepted = (attempts.c.outcome == Outcome.ACCEPTED, attempts.c.intent_at >= since, ~IN_BATCH)
    others = select(attempts.c.generation_id, batches.c.name).select_from(ATTEMPTS).join(batches).where(*accepted)
    return pages(connection, others, {"in_batch": batch_id})


def digits_of_jobs(connection: Connection, batch_id: int) -> Iterator[Sequence[Any]]:
    """The first digits of the fingerprints of a batch's jobs, with their keys and states."""
    digits = select(func.substr(jobs.c.fingerprint, 1, DIGITS), jobs.c.key, jobs.c.state).where(IN_BATCH)
    return pages(connection, digits, {"in_batch": batch_id})


def pages(connection: Connection, statement: Select[Any], params: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
    return connection.execute(statement.execution_options(yield_per=ROWS), params).partitions()


def asked_before(connection: Connection, batch_id: int, reason: str) -> set[str]:
    """The keys of the jobs that were moved for this reason before."""
    moved = select(jobs.c.key).join(events).where(events.c.batch_id == batch_id, events.c.detail == reason)
    return set(connection.execute(moved).scalars())


def scope(batch_id: int, account: str, origin: str) -> dict[str, Any]:
    return {"in_batch": batch_id, "this_account": account, "this_origin": origin}


IS_JUDGED = (attempts.c.account == bindparam("this_account")) & attempts.c.origin.in_(["", bindparam("this_origin")])
_undelivered = exists().where(outputs.c.attempt_id == attempts.c.id, outputs.c.delivered_at.is_(None))
_delivered = exists().where(outputs.c.attempt_id == attempts.c.id, outputs.c.delivered_at.is_not(None))
SELECT_ATTEMPTS = (
    select(
        *(attempts.c.id, jobs.c.key, attempts.c.number, attempts.c.model, jobs.c.state, attempts.c.outcome),
        *(attempts.c.generation_id, attempts.c.client_request_id, attempts.c.intent_at),
        *(attempts.c.finished_at, attempts.c.deadline_at),
        *(attempts.c.cost_usd, attempts.c.charge_source, attempts.c.quoted_usd, attempts.c.estimated_usd),
        IS_JUDGED.label("is_judged"),
        (_delivered & ~_undelivered).label("is_delivered"),
        (jobs.c.attempt_id == attempts.c.id).label("is_current"),
    )
    .select_from(ATTEMPTS)
    .where(IN_BATCH)
    .order_by(attempts.c.id)
)
