"""What a person commands: retry failed and cancelled jobs, cancel unsent ones."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Row, select, update

from batchgen.jobs import ErrorClass, State
from batchgen.jobtable.schema import attempts, jobs
from batchgen.jobtable.transition import move

CHUNK = 500
"""Keys in one statement: below the least number of parameters that any SQLite allows (999)."""


def keys_in(connection: Connection, batch_id: int, states: Collection[State]) -> list[str]:
    """The keys of a batch's jobs in some states, in the manifest's order."""
    keys = select(jobs.c.key).where(jobs.c.batch_id == batch_id, jobs.c.state.in_(states)).order_by(jobs.c.id)
    return list(connection.execute(keys).scalars())


def states_of(connection: Connection, batch_id: int, keys: Collection[str]) -> dict[str, State]:
    """The state of each of these jobs; a key that is not in the batch is missing."""
    return {row.key: State(row.state) for row in rows_of(connection, batch_id, keys)}


def rows_of(connection: Connection, batch_id: int, keys: Collection[str]) -> list[Row[Any]]:
    """Id, batch, key and state of these jobs, in the manifest's order. `keys` may be of any number."""
    of_batch = select(jobs.c.id, jobs.c.batch_id, jobs.c.key, jobs.c.state).where(jobs.c.batch_id == batch_id)
    rows: list[Row[Any]] = []
    remaining = iter(dict.fromkeys(keys))
    while chunk := list(islice(remaining, CHUNK)):
        rows += connection.execute(of_batch.where(jobs.c.key.in_(chunk)))
    return sorted(rows, key=lambda row: row.id)


def retry(connection: Connection, batch_id: int, keys: Collection[str], now: datetime) -> list[str]:
    """Failed and cancelled jobs become pending. Their attempts stay in the ledger, released. Returns the keys moved."""
    retried = []
    for row in rows_of(connection, batch_id, keys):
        state = State(row.state)
        if state.is_retriable and move(connection, row, state, State.PENDING, now, detail="retry", attempt_id=None):
            unreleased = (attempts.c.job_id == row.id, attempts.c.released_at.is_(None))
            connection.execute(update(attempts).where(*unreleased).values(released_at=now))
            retried.append(row.key)
    return retried


def cancel(connection: Connection, batch_id: int, keys: Collection[str], now: datetime) -> list[str]:
    """Unsent jobs become cancelled; one that was sent may be paid for, and stays. Returns the keys moved."""
    rows = rows_of(connection, batch_id, keys)
    return [row.key for row in rows if cancel_row(connection, row, ErrorClass.PERSON, "cancelled by a person", now)]


def cancel_row(connection: Connection, row: Any, error_class: ErrorClass, reason: str, now: datetime) -> bool:
    """Cancel one job, if it has not been sent."""
    state = State(row.state)
    new: dict[str, Any] = {"error_class": error_class, "error": reason}
    return state.is_cancellable and move(connection, row, state, State.CANCELLED, now, detail=reason, **new)
