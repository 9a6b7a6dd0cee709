"""How a batch stands: read-only questions to the table, for screens, `status` and the runner's decision to end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import ColumnElement, Connection, func, select

from batchgen.jobs import State
from batchgen.jobtable import in_flight, ledger
from batchgen.jobtable.in_flight import InFlight
from batchgen.jobtable.schema import batches, events, jobs, limits, tallies
from batchgen.jobtable.transition import next_due

EVENTS_AT_ONCE = 500  # events looked through at once
OF_LATE = timedelta(hours=1)
STUCK_FAILURES = 8
"""A download that failed so often in a row is left to a later run."""


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """A batch at one moment. Money in USD, sizes in bytes."""

    counts: dict[State, int]
    held: int
    late: int
    stuck: int
    cost_usd: Decimal
    bytes: int

    @property
    def total(self) -> int:
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class Blocker:
    """Something that a batch waits for, and until when (None: nobody knows)."""

    what: str
    until: datetime | None
    jobs: int


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a batch's history."""

    id: int
    at: datetime
    key: str
    from_state: State | None
    to_state: State
    detail: str | None


def any_open(connection: Connection, batch_id: int, advanceable: Sequence[State], now: datetime) -> bool:
    """Whether a run can still bring a job forward: not one held for a person, nor one that a later run will look at."""
    for state in advanceable:
        where = [jobs.c.batch_id == batch_id, jobs.c.state == state]
        soon = jobs.c.leased_by.is_not(None) | (jobs.c.next_at <= now)
        if state == State.UNCONFIRMED:
            where.append(jobs.c.next_at.is_not(None))
        elif state == State.GENERATING:
            where.append((jobs.c.deadline_at > now) | soon)
        elif state == State.DOWNLOADING:
            where.append((jobs.c.failures < STUCK_FAILURES) | soon)
        if connection.execute(select(jobs.c.id).where(*where).limit(1)).first():
            return True
    return False


def count(connection: Connection, batch_id: int, *where: ColumnElement[bool]) -> int:
    asked = select(func.count()).select_from(jobs).where(jobs.c.batch_id == batch_id, *where)
    return connection.execute(asked).scalar_one()


def batch_summary(connection: Connection, batch_id: int, now: datetime) -> BatchSummary:
    """A batch's jobs by state, and what they have cost. Nothing here reads more rows than are under way."""
    kept = select(tallies.c.state, tallies.c.jobs, tallies.c.bytes).where(tallies.c.batch_id == batch_id)
    found = {State(row.state): row for row in connection.execute(kept)}
    return BatchSummary(
        counts={state: found[state].jobs if state in found else 0 for state in State},
        held=count(connection, batch_id, jobs.c.state == State.UNCONFIRMED, jobs.c.next_at.is_(None)),
        late=count(connection, batch_id, jobs.c.state == State.GENERATING, jobs.c.deadline_at <= now),
        stuck=count(connection, batch_id, jobs.c.state == State.DOWNLOADING, jobs.c.failures >= STUCK_FAILURES),
        cost_usd=ledger.totals(connection, batch_id).spent,
        bytes=found[State.DONE].bytes if State.DONE in found else 0,
    )


def blockers(connection: Connection, batch_id: int, now: datetime) -> list[Blocker]:
    """What a batch waits for, most urgent first."""
    state = batch_summary(connection, batch_id, now)
    found = [
        Blocker(f"a pause to end: {row.reason}", row.paused_until, state.counts[State.PENDING])
        for row in connection.execute(select(limits).where(limits.c.paused_until > now))
    ]
    named = {
        State.DOWNLOADING: "downloads",
        State.GENERATING: "generations at the service",
        State.UNCONFIRMED: "the service's log to tell whether a request was accepted",
        State.PENDING: f"a free place within the limits{found_limits(connection, batch_id, now)}",
    }
    for waiting, what in named.items():
        number = state.counts[waiting] - (state.held if waiting == State.UNCONFIRMED else 0)
        if number:
            found.append(Blocker(what, next_due(connection, batch_id, waiting), number))
    if state.held:
        found.append(Blocker("a person (batchgen resolve)", None, state.held))
    return found


def found_limits(connection: Connection, batch_id: int, now: datetime) -> str:
    """The limits in force, in words, where a run found them itself of late; else nothing."""
    service = connection.execute(select(batches.c.service).where(batches.c.id == batch_id)).scalar_one()
    head = f"submits to {service} by "
    of_late = select(limits).where(limits.c.name.startswith(head), limits.c.used_at > now - OF_LATE)
    if not (rows := list(connection.execute(of_late))):
        return ""
    flying = in_flight.in_flight_by_model(connection, service, now)
    told = {}
    for row in rows:
        model = row.name.partition(": ")[2]
        here = flying.get(model, InFlight())
        most = f" of {row.ceiling}" if row.ceiling else ""
        rate = f", {round(row.per_minute, 1):g} submits a minute" if row.per_minute else ""
        told[model] = f"in flight {here.accepted + here.on_wire}{most}{rate}"
    named = [f"{model}: {words}" if len(told) > 1 else words for model, words in told.items()]
    return f", which are found as it goes ({'; '.join(named)})"


def events_since(
    connection: Connection, batch_id: int, after: int, capacity: int = EVENTS_AT_ONCE
) -> tuple[list[Event], int]:
    """The batch's history since an event, oldest first, from the next `room` events; and up to which that is all.

    The events of other batches are passed over once, not again at every look. Nothing is left when the number stays.
    """
    following = select(events.c.id).where(events.c.id > after).order_by(events.c.id).offset(capacity - 1).limit(1)
    upto = connection.execute(following).scalar() or last_event(connection)
    # A column of its own rather than a join, which begins with all jobs of the batch in any database that likes.
    key = select(jobs.c.key).where(jobs.c.id == events.c.job_id, jobs.c.batch_id == batch_id).scalar_subquery()
    columns = (events.c.id, events.c.at, key.label("key"), events.c.from_state, events.c.to_state, events.c.detail)
    asked = select(*columns).where(events.c.id > after, events.c.id <= upto).order_by(events.c.id)
    found = [
        Event(
            row.id, row.at, row.key, State(row.from_state) if row.from_state else None, State(row.to_state), row.detail
        )
        for row in connection.execute(asked)
        if row.key is not None
    ]
    return found, upto


def last_event(connection: Connection) -> int:
    """The newest event's id; 0 in an empty table."""
    return int(connection.execute(select(func.coalesce(func.max(events.c.id), 0))).scalar_one())


def failures(connection: Connection, batch_id: int, capacity: int = 20) -> list[str]:
    """Failed jobs and why, the newest first, at most `room` lines."""
    asked = (
        select(jobs.c.key, jobs.c.error)
        .where(jobs.c.batch_id == batch_id, jobs.c.failed_at.is_not(None))
        .order_by(jobs.c.failed_at.desc())
        .limit(capacity)
    )
    return [f"{row.key} failed: {row.error}" for row in connection.execute(asked)]
