"""What a person may order: try failed jobs again, cancel unsent ones."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Row, select, update

from batchgen.jobs import State
from batchgen.jobtable.schema import attempts, jobs
from batchgen.jobtable.transition import move

CHUNK = 500  # keys in one statement


def keys_in(connection: Connection, batch_id: int, states: Collection[State]) -> list[str]:
    """The keys of a batch's jobs in some states, in the manifest's order."""
    asked = select(jobs.c.key).where(jobs.c.batch_id == batch_id, jobs.c.state.in_(states)).order_by(jobs.c.id)
    return list(connection.execute(asked).scalars())


def states_of(connection: Connection, batch_id: int, keys: Collection[str]) -> dict[str, State]:
    """Where each of these jobs stands; a key that is not in the batch is missing."""
    return {row.key: State(row.state) for row in named(connection, batch_id, keys)}


def named(connection: Connection, batch_id: int, keys: Collection[str]) -> list[Row[Any]]:
    """Id, key and state of these jobs, in the manifest's order; there may be more of them than one statement takes."""
    asked = select(jobs.c.id, jobs.c.key, jobs.c.state).where(jobs.c.batch_id == batch_id)
    found: list[Row[Any]] = []
    waiting = iter(dict.fromkeys(keys))
    while piece := list(islice(waiting, CHUNK)):
        found += connection.execute(asked.where(jobs.c.key.in_(piece)))
    return sorted(found, key=lambda row: row.id)


def retry(connection: Connection, batch_id: int, keys: Collection[str], now: datetime) -> list[str]:
    """Failed and cancelled jobs become pending. Their attempts stay in the ledger, released. Returns the keys moved."""
    retried = []
    for row in named(connection, batch_id, keys):
        if row.state not in (State.FAILED, State.CANCELLED):
            continue
        unreleased = (attempts.c.job_id == row.id, attempts.c.released_at.is_(None))
        connection.execute(update(attempts).where(*unreleased).values(released_at=now))
        fresh: dict[str, Any] = dict.fromkeys(
            (
                "attempt_id",
                "generation_id",
                "remote_status",
                "video_url",
                "etag",
                "estimated_usd",
                "cost_usd",
                "input_digests",
                "submitted_at",
                "polled_at",
                "finished_at",
                "failed_at",
                "cancelled_at",
                "deadline_at",
                "next_at",
            )
        )
        if move(connection, row.id, State(row.state), State.PENDING, now, detail="retry", **fresh):
            retried.append(row.key)
    return retried


def cancel(connection: Connection, batch_id: int, keys: Collection[str], now: datetime) -> list[str]:
    """Pending jobs become cancelled; one that was sent is paid for, and stays. Returns the keys moved."""
    pending = [row for row in named(connection, batch_id, keys) if row.state == State.PENDING]
    ended: dict[str, Any] = {
        "cancelled_at": now,
        "error_class": "person",
        "error": "cancelled by a person",
        "next_at": None,
    }
    return [
        row.key
        for row in pending
        if move(connection, row.id, State.PENDING, State.CANCELLED, now, detail="cancelled by a person", **ended)
    ]
