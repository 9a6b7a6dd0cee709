"""What a comparison with the account's transactions reads of the job table: the attempts of a batch, page by page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, exists, func, select

from batchgen.jobs import Outcome
from batchgen.jobtable.fingerprint import DIGITS
from batchgen.jobtable.joins import ATTEMPTS, IS_DELIVERED
from batchgen.jobtable.schema import attempts, batches, events, jobs, outputs

ROWS = 2_000  # of attempts in memory at a time


def first_intent(
    connection: Connection, batch_id: int, account: str, origin: str, ended_since: datetime | None = None
) -> datetime | None:
    """When the batch's first request was sent with this account, to this address; of those that ended since then."""
    first = select(func.min(attempts.c.intent_at)).select_from(ATTEMPTS)
    first = first.where(jobs.c.batch_id == batch_id, is_of_account(account, origin))
    if ended_since is not None:
        first = first.where(attempts.c.finished_at >= ended_since)
    return connection.execute(first).scalar()


def attempts_of(
    connection: Connection, batch_id: int, account: str, origin: str, since: datetime | None = None
) -> Iterator[Sequence[Any]]:
    """The attempts of a batch (that were sent since then) with their jobs, some at a time."""
    delivered, undelivered = (
        exists().where(outputs.c.attempt_id == attempts.c.id, condition)
        for condition in (IS_DELIVERED, outputs.c.delivered_at.is_(None))
    )
    columns = (
        *(attempts.c.id, jobs.c.key, attempts.c.number, attempts.c.model, jobs.c.state, attempts.c.outcome),
        *(attempts.c.generation_id, attempts.c.client_request_id, attempts.c.intent_at),
        *(attempts.c.finished_at, attempts.c.deadline_at),
        *(attempts.c.cost_usd, attempts.c.charge_source, attempts.c.quoted_usd, attempts.c.estimated_usd),
        is_of_account(account, origin).label("is_of_account"),
        (delivered & ~undelivered).label("is_delivered"),
        (jobs.c.attempt_id == attempts.c.id).label("is_current"),
    )
    of_batch = select(*columns).select_from(ATTEMPTS).where(jobs.c.batch_id == batch_id).order_by(attempts.c.id)
    return pages(connection, of_batch if since is None else of_batch.where(attempts.c.intent_at >= since))


def other_generations(connection: Connection, batch_id: int, since: datetime) -> Iterator[Sequence[Any]]:
    """The generations of other batches of the table that were sent since then, each with its batch's name."""
    accepted = (attempts.c.outcome == Outcome.ACCEPTED, attempts.c.intent_at >= since, jobs.c.batch_id != batch_id)
    others = select(attempts.c.generation_id, batches.c.name).select_from(ATTEMPTS).join(batches).where(*accepted)
    return pages(connection, others)


def digits_of_jobs(connection: Connection, batch_id: int) -> Iterator[Sequence[Any]]:
    """The first digits of the fingerprints of a batch's jobs, with their keys and states."""
    digits = select(func.substr(jobs.c.fingerprint, 1, DIGITS), jobs.c.key, jobs.c.state)
    return pages(connection, digits.where(jobs.c.batch_id == batch_id))


def pages(connection: Connection, statement: Select[Any]) -> Iterator[Sequence[Any]]:
    return connection.execute(statement.execution_options(yield_per=ROWS)).partitions()


def asked_before(connection: Connection, batch_id: int, reason: str) -> set[str]:
    """The keys of the jobs that were moved for this reason before."""
    moved = select(jobs.c.key).join(events).where(events.c.batch_id == batch_id, events.c.detail == reason)
    return set(connection.execute(moved).scalars())


def is_of_account(account: str, origin: str) -> ColumnElement[bool]:
    """SQL: an attempt was sent with this account to this address, as far as it is known."""
    return (attempts.c.account == account) & attempts.c.origin.in_(["", origin])
