"""What a person commands: retry failed and cancelled jobs, cancel unsent ones."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Row, select, update

from batchgen.jobs import State
from batchgen.jobtable.schema import attempts, jobs
from batchgen.jobtable.transition import move

CHUNK = 500
"""Keys in one statement: below the least number of parameters that any SQLite allows (999)."""

ATTEMPT_COLUMNS = (
    *("attempt_id", "generation_id", "remote_status", "video_url", "etag", "estimated_usd", "cost_usd"),
    *("input_digests", "submitted_at", "polled_at", "finished_at", "failed_at", "cancelled_at", "deadline_at"),
    "next_at",
)
"""The columns that describe a job's last attempt: empty again once the job is pending."""


def keys_in(connection: Connection, batch_id: int, states: Collection[State]) -> list[str]:
    """The keys of a batch's jobs in some states, in the manifest's order."""
    keys = select(jobs.c.key).where(jobs.c.batch_id == batch_id, jobs.c.state.in_(states)).order_by(jobs.c.id)
    return list(connection.execute(keys).scalars())


def states_of(connection: Connection, batch_id: int, keys: Collection[str]) -> dict[str, State]:
    """The state of each of these jobs; a key that is not in the batch is missing."""
    return {row.key: State(row.state) for row in rows_of(connection, batch_id, keys)}


def rows_of(connection: Connection, batch_id: int, keys: Collection[str]) -> list[Row[Any]]:
    """Id, key and state of these jobs, in the manifest's order. `keys` may be of any number."""
    of_batch = select(jobs.c.id, jobs.c.key, jobs.c.state).where(jobs.c.batch_id == batch_id)
    rows: list[Row[Any]] = []
    remaining = iter(dict.fromkeys(keys))
    while chunk := list(islice(remaining, CHUNK)):
        rows += connection.execute(of_batch.where(jobs.c.key.in_(chunk)))
    return sorted(rows, key=lambda row: row.id)


def retry(connection: Connection, batch_id: int, keys: Collection[str], now: datetime) -> list[str]:
    """Failed and cancelled jobs become pending. Their attempts stay in the ledger, released. Returns the keys moved."""
    retried = []
    for row in rows_of(connection, batch_id, keys):
        if row.state not in (State.FAILED, State.CANCELLED):
            continue
        unreleased = (attempts.c.job_id == row.id, attempts.c.released_at.is_(None))
        connection.execute(update(attempts).where(*unreleased).values(released_at=now))
        empty: dict[str, Any] = dict.fromkeys(ATTEMPT_COLUMNS)
        if move(connection, row.id, State(row.state), State.PENDING, now, detail="retry", **empty):
            retried.append(row.key)
    return retried


def cancel(connection: Connection, batch_id: int, keys: Collection[str], now: datetime) -> list[str]:
    """Pending jobs become cancelled; one that was sent may be paid for, and stays. Returns the keys moved."""
    reason = "cancelled by a person"
    new: dict[str, Any] = {"cancelled_at": now, "error_class": "person", "error": reason, "next_at": None}
    return [
        row.key
        for row in rows_of(connection, batch_id, keys)
        if row.state == State.PENDING
        and move(connection, row.id, State.PENDING, State.CANCELLED, now, detail=reason, **new)
    ]
