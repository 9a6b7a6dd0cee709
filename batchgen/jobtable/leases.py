"""Runs and their leases: a lease lasts while its run lives, and recovery re-queues what a dead run held."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, insert, select, update

from batchgen.jobs import Outcome, State
from batchgen.jobtable.database import Database
from batchgen.jobtable.engine import HINTS
from batchgen.jobtable.kinds import Hold
from batchgen.jobtable.moves import refuse_moved
from batchgen.jobtable.run_lock import Neighbours, Owner, dead_runs
from batchgen.jobtable.schema import attempts, jobs, runs
from batchgen.jobtable.submission import move_to_unconfirmed
from batchgen.jobtable.transition import NO_LEASE, SENT_HERE, guarded_update

FAR_POLL = timedelta(minutes=10)
"""A new run does not wait as long for a poll: it costs nothing, and a clock that was set may have planned it."""
RUN_ENDED = "the run ended while the request may have been on the wire"
ON_WIRE = timedelta(minutes=10)
"""After its intent, for as long a create may be on the wire: it leaves within a lease of the intent, or not at all
(`scheduler.py`), and takes less than another one."""


def begin_run(
    connection: Connection,
    run_id: str,
    batch_id: int,
    owner: Owner,
    now: datetime,
    selection: str | None = None,
    limits: str | None = None,
) -> None:
    """Record that a run began, with its options as JSON. Raises `UsageError` for a batch that was moved."""
    refuse_moved(connection, batch_id)
    row = {"id": run_id, "batch_id": batch_id, "selection": selection, "limits": limits, **owner._asdict()}
    connection.execute(insert(runs).values(**row, started_at=now, seen_at=now))


def end_run(
    connection: Connection,
    run_id: str,
    exit_code: int,
    now: datetime,
    message: str | None = None,
    hold: Hold | None = None,
) -> None:
    """Record how a run ended, with the sentence that it printed and what held it back, and release its leases."""
    recover(connection, jobs.c.leased_by == run_id, now)
    ended = {"ended_at": now, "seen_at": now, "exit_code": exit_code, "message": message, "hold": hold}
    connection.execute(update(runs).where(runs.c.id == run_id).values(**ended))


def renew(connection: Connection, run_id: str, now: datetime, lease_ends: datetime) -> None:
    """Extend all leases of a living run to `lease_ends`."""
    connection.execute(update(runs).where(runs.c.id == run_id).values(seen_at=now))
    lease = {"leased_until": lease_ends, "next_at": lease_ends}
    connection.execute(update(jobs).where(jobs.c.leased_by == run_id).values(lease))


def record_standstill(connection: Connection, run_id: str, reason: str) -> None:
    """Record why a run at work submits nothing now; "" where it does. How it ends takes the place of this."""
    at_work = (runs.c.id == run_id, runs.c.ended_at.is_(None))
    connection.execute(update(runs).where(*at_work).values(message=reason or None))


def holders(connection: Connection) -> dict[str, Owner]:
    """The runs that hold a lease, dead or alive."""
    leased = select(jobs.c.leased_by).where(jobs.c.leased_by.is_not(None)).distinct()
    return {row[0]: Owner(*row[1:]) for row in connection.execute(SELECT_OWNERS.where(runs.c.id.in_(leased)))}


def unended(connection: Connection, batch_id: int | None = None) -> dict[str, Owner]:
    """The runs of a batch, or of all, that have not recorded their end, dead or alive."""
    statement = SELECT_OWNERS.where(runs.c.ended_at.is_(None))
    statement = statement if batch_id is None else statement.where(runs.c.batch_id == batch_id)
    return {row[0]: Owner(*row[1:]) for row in connection.execute(statement)}


def live_runs(database: Database, batch_id: int) -> list[str]:
    """The runs that are at work on a batch, as far as this machine can judge. It waits for the database."""
    owners = database.read_now(unended, batch_id)
    return sorted(owners.keys() - set(dead_runs(database, owners)))


async def release_dead(database: Database, neighbours: Neighbours, run_id: str, now: datetime) -> bool:
    """Release the leases of runs that are dead, as seen by the run `run_id`. Returns whether there was any."""
    owners = await database.read(holders)
    owners.pop(run_id, None)
    ended, lost = await asyncio.to_thread(neighbours.dead, owners)
    return bool(ended or lost) and bool(await database.write(recover_dead, ended, now, lost))


def recover_dead(connection: Connection, ended: Collection[str], now: datetime, lost: Collection[str] = ()) -> int:
    """Release the leases of dead runs. Returns how many. Recovery only re-queues; it executes nothing.

    Of `lost` runs nobody knows whether they live, cut off from the job table.
    """
    recovered = recover(connection, jobs.c.leased_by.in_(ended), now) if ended else 0
    if lost:
        recovered += recover(connection, jobs.c.leased_by.in_(lost), now, has_ended=False)
    return recovered


def recover_expired(connection: Connection, batch_id: int, now: datetime) -> int:
    """Release the leases on paid requests of runs that have not renewed them in time: stopped, or cut off.

    Other jobs whose lease has expired are due by themselves (`transition.py`).
    """
    expired = (jobs.c.batch_id == batch_id) & (jobs.c.state == State.SUBMITTING) & (jobs.c.next_at <= now)
    return recover(connection, expired & (jobs.c.leased_until <= now), now, has_ended=False)


def recover(connection: Connection, condition: ColumnElement[bool], now: datetime, *, has_ended: bool = True) -> int:
    """A request that may have been sent becomes unconfirmed; every other job is due at once.

    Of a run that `has_ended` no request is on the wire any more. Only then its attempts have a time of their end.
    """
    columns = (jobs.c.id, jobs.c.batch_id, jobs.c.state, jobs.c.attempt_id, jobs.c.leased_by)
    rows = connection.execute(select(*columns).where(condition)).all()
    for row in rows:
        if row.state != State.SUBMITTING:
            held = {"id": row.id, "state": row.state, "leased_by": row.leased_by}
            guarded_update(connection, jobs, held, {"next_at": now, **NO_LEASE})
            continue
        held = {"attempt_id": row.attempt_id, "leased_by": row.leased_by}
        if move_to_unconfirmed(connection, row, held, RUN_ENDED, now, now):
            sending = {"id": row.attempt_id, "outcome": Outcome.SENDING}
            ended = {"outcome": Outcome.UNCONFIRMED, "error": RUN_ENDED, "answered_at": now if has_ended else None}
            guarded_update(connection, attempts, sending, ended)
    if rows:
        wake_runs(connection)
    return len(rows)


def wake_runs(connection: Connection) -> None:
    """Have the other runs on this table look for work at once; only with PostgreSQL."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"NOTIFY {HINTS}")


def wake_waiting(connection: Connection, batch_id: int, now: datetime, origin: str = "") -> None:
    """At the start of a run, make due at once what waits since an earlier run for a time or for a person.

    What is held for a person stays held where the service at `origin` cannot be asked for it. Pauses of a whole service
    are rows of `limits` (`limits/rate.py`).
    """
    free = (jobs.c.batch_id == batch_id, jobs.c.leased_by.is_(None))
    retried = jobs.c.state.in_([State.DOWNLOADING, State.UNCONFIRMED])
    connection.execute(update(jobs).where(*free, retried, jobs.c.next_at > now).values(next_at=now, failures=0))
    # A generation that goes as planned keeps its next poll. Its failures stay: "finished, without a video" counts them.
    is_late = select(attempts.c.id).where(attempts.c.id == jobs.c.attempt_id, attempts.c.deadline_at <= now).exists()
    unplanned = (
        jobs.c.state == State.GENERATING,
        is_late | (jobs.c.failures > 0) | (jobs.c.next_at > now + FAR_POLL),
    )
    connection.execute(update(jobs).where(*free, *unplanned, jobs.c.next_at > now).values(next_at=now))
    held = (jobs.c.state == State.UNCONFIRMED, jobs.c.next_at.is_(None))
    connection.execute(update(jobs).where(*free, *held, SENT_HERE).values(next_at=now), {"this_origin": origin})
    wake_runs(connection)


SELECT_OWNERS = select(runs.c.id, runs.c.host, runs.c.pid, runs.c.holds_lock)
