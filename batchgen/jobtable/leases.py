"""Runs and what they hold: a lease lasts while its run lives, and recovery gives back what a dead run held."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, insert, select, update

from batchgen.jobs import State
from batchgen.jobtable.guarded_update import Increment, guarded_update
from batchgen.jobtable.schema import Outcome, attempts, jobs, runs
from batchgen.jobtable.transition import FREE, move

LOST = "the run ended while the request may have been on the wire"


def begin_run(connection: Connection, run: str, batch_id: int, host: str, pid: int, now: datetime) -> None:
    """Write down that a run began."""
    connection.execute(insert(runs).values(id=run, batch_id=batch_id, host=host, pid=pid, started_at=now, seen_at=now))


def end_run(connection: Connection, run: str, exit_code: int, now: datetime) -> None:
    """Write down how a run ended, and give back what it still holds."""
    recover(connection, jobs.c.leased_by == run, now)
    connection.execute(update(runs).where(runs.c.id == run).values(ended_at=now, seen_at=now, exit_code=exit_code))


def renew(connection: Connection, run: str, now: datetime, until: datetime) -> None:
    """The run lives: everything it holds, it holds until `until`."""
    connection.execute(update(runs).where(runs.c.id == run).values(seen_at=now))
    connection.execute(update(jobs).where(jobs.c.leased_by == run).values(leased_until=until, next_at=until))


def holders(connection: Connection) -> dict[str, str]:
    """The runs that hold a job now, dead or alive, with the host of each."""
    leased = select(jobs.c.leased_by).where(jobs.c.leased_by.is_not(None)).distinct()
    return {row.id: row.host for row in connection.execute(select(runs.c.id, runs.c.host).where(runs.c.id.in_(leased)))}


def unended(connection: Connection, batch_id: int) -> dict[str, str]:
    """The runs of a batch that have not said that they ended, dead or alive, with the host of each."""
    asked = select(runs.c.id, runs.c.host).where(runs.c.batch_id == batch_id, runs.c.ended_at.is_(None))
    return {row.id: row.host for row in connection.execute(asked)}


def recover_dead(connection: Connection, dead: Collection[str], now: datetime) -> int:
    """Give back what dead runs held. Returns how many jobs. Only re-queues; executes nothing."""
    return recover(connection, jobs.c.leased_by.in_(dead), now) if dead else 0


def recover_expired(connection: Connection, batch_id: int, now: datetime) -> int:
    """Give back what was held by runs elsewhere that have not been heard of for a whole lease."""
    late = (jobs.c.batch_id == batch_id) & (jobs.c.state == State.SUBMITTING) & (jobs.c.next_at <= now)
    return recover(connection, late & (jobs.c.leased_until <= now), now)


def recover(connection: Connection, whose: ColumnElement[bool], now: datetime) -> int:
    """A request that may have left becomes unconfirmed; anything else can simply be taken up again."""
    wanted = select(jobs.c.id, jobs.c.state, jobs.c.attempt_id, jobs.c.leased_by).where(whose)
    held = list(connection.execute(wanted))
    for row in held:
        if row.state != State.SUBMITTING:
            same = {"id": row.id, "state": row.state, "leased_by": row.leased_by}
            guarded_update(connection, jobs, same, {"next_at": now, **FREE})
            continue
        moved = move(
            connection,
            row.id,
            State.SUBMITTING,
            State.UNCONFIRMED,
            now,
            guard={"attempt_id": row.attempt_id, "leased_by": row.leased_by},
            detail=LOST,
            attempts=Increment(1),
            next_at=now,
            error_class="unconfirmed",
            error=LOST,
        )
        if moved:
            sending = {"id": row.attempt_id, "outcome": Outcome.SENDING}
            guarded_update(connection, attempts, sending, {"outcome": Outcome.UNCONFIRMED, "error": LOST})
    return len(held)


def wake_waiting(connection: Connection, batch_id: int, now: datetime) -> None:
    """A new run looks at once at all that waited for a time, or for a person, in an earlier one.

    Pauses of the whole service are rows of their own and stay.
    """
    unheld = (jobs.c.batch_id == batch_id, jobs.c.leased_by.is_(None))
    waiting = jobs.c.state.in_([State.PENDING, State.DOWNLOADING, State.UNCONFIRMED])
    connection.execute(update(jobs).where(*unheld, waiting, jobs.c.next_at > now).values(next_at=now, failures=0))
    # One that works as planned keeps its plan. Its failures stay: "finished, without a video" counts them in a row.
    unplanned = (jobs.c.state == State.GENERATING, (jobs.c.deadline_at <= now) | (jobs.c.failures > 0))
    connection.execute(update(jobs).where(*unheld, *unplanned, jobs.c.next_at > now).values(next_at=now))
    held = (jobs.c.state == State.UNCONFIRMED, jobs.c.next_at.is_(None))
    connection.execute(update(jobs).where(*unheld, *held).values(next_at=now))
