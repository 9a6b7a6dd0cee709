"""How a batch stands: read-only queries for the display, for `status`, and for the runner's decision to end."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, bindparam, func, select

from batchgen.catalogue.amounts import amount_text
from batchgen.files.output_paths import is_url
from batchgen.jobs import ErrorClass, State
from batchgen.jobtable import ledger
from batchgen.jobtable.joins import CURRENT_OR_NONE, IN_BATCH
from batchgen.jobtable.kinds import Hold
from batchgen.jobtable.rows import may_be_charged
from batchgen.jobtable.schema import attempts, batches, events, jobs, outputs, runs
from batchgen.jobtable.transition import SENT_HERE

JOB_LOG = logging.getLogger("batchgen.jobs")
EVENTS_AT_ONCE = 500
"""Events read in one query: bounds its memory and its time."""
ASKED_FOR = (State.GENERATING, State.UNCONFIRMED)
"""The states in which a job advances by what the service says about it."""
SOON = timedelta(seconds=10)
"""So long a run waits for the next poll of a generation that is late."""
PATHS_READ = 100
"""Of delivered files: their common folder is that of all, or is said not to be."""
STUCK_FAILURES = 8
"""Failures in a row after which a download is left to a later run: with the backoff, some minutes."""


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """A batch at one moment. Money in USD, sizes in bytes."""

    counts: dict[State, int]
    held: int
    """Unconfirmed jobs that wait for a person."""
    late: int
    """Generations past their deadline."""
    stuck: int
    """Downloads that this run leaves to a later one."""
    cost_usd: Decimal
    reserved_usd: Decimal
    """For requests whose charge is not known yet."""
    unpriced: int
    """Requests whose charge is not known, and for which nothing is reserved: their price is not known either."""
    bytes: int
    """Of the delivered videos."""

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def waiting(self) -> int:
        """The jobs that a run goes on with: those that have not ended, without those that are held for a person."""
        return sum(number for state, number in self.counts.items() if not state.is_terminal) - self.held


@dataclass(frozen=True, slots=True)
class StoredRun:
    """How the last run went; `message` is the sentence that it printed, where it has ended."""

    ended_at: datetime | None
    """None where it is at work, or was killed."""
    exit_code: int | None
    message: str | None
    hold: Hold | None
    """What kept the next job from being sent, where it ended for that."""
    limits: str | None
    """The limits that were typed as its options, as JSON."""
    selection: str | None
    """Its options that select jobs, as JSON."""


@dataclass(frozen=True, slots=True)
class JobResult:
    """How one job stands. Money in USD."""

    id: str
    state: State
    path: Path | None
    """Its first file, once that is delivered to a folder."""
    error: str | None
    cost_usd: Decimal | None
    """Of its last attempt, where it is known."""
    url: str | None = None
    """Its first file, once that is delivered to an object store."""


@dataclass(frozen=True, slots=True)
class Event:
    id: int
    at: datetime
    key: str
    from_state: State | None
    to_state: State
    detail: str | None

    def log(self) -> None:
        """Log the change of state, as `job.<state>` with the fields `job`, `from_state` and `detail`."""
        fields = {"job": self.key, "from_state": self.from_state, "detail": self.detail}
        JOB_LOG.info(f"job.{self.to_state}", extra=fields)


def any_open(
    connection: Connection, batch_id: int, advanceable: Sequence[State], now: datetime, origin: str = ""
) -> bool:
    """Whether this run, whose service is at `origin`, can still bring a job forward.

    Not a job that is held for a person, was sent to another origin, or waits for a later run.
    """
    params = {"in_batch": batch_id, "now": now, "soon": now + SOON, "this_origin": origin}
    return any(connection.execute(first_open(state), params).first() for state in advanceable)


@cache
def first_open(state: State) -> Select[tuple[int]]:
    """The query of `any_open` for a state. It is built once, so that it is compiled once."""
    now, soon = (bindparam(name, type_=jobs.c.next_at.type) for name in ("now", "soon"))
    where = [IN_BATCH, jobs.c.state == state]
    due = jobs.c.leased_by.is_not(None) | (jobs.c.next_at <= now)
    if state == State.UNCONFIRMED:
        where.append(jobs.c.next_at.is_not(None))
    if state in ASKED_FOR:
        where.append(SENT_HERE)
    if state == State.GENERATING:
        where.append((now < PLANNED_UNTIL) | due | (jobs.c.next_at <= soon))
    if state == State.DOWNLOADING:
        where.append((jobs.c.failures < STUCK_FAILURES) | due)
    return select(jobs.c.id).where(*where).limit(1)


def count_active(connection: Connection, batch_id: int) -> int:
    return int(connection.execute(COUNT_ACTIVE, {"in_batch": batch_id}).scalar_one())


def batch_summary(connection: Connection, batch_id: int, now: datetime) -> BatchSummary:
    """A batch's jobs by state, and what they have cost.

    It counts index entries: about 0.1 s for a million jobs, so a display asks once a second at most.
    """
    counts: dict[State, int] = dict(connection.execute(COUNTS, {"in_batch": batch_id}).all())
    totals = ledger.totals(connection, batch_id)
    return BatchSummary(
        counts={state: counts.get(state, 0) for state in State},
        held=count(connection, batch_id, State.UNCONFIRMED, jobs.c.next_at.is_(None)),
        late=count(connection, batch_id, State.GENERATING, now >= PLANNED_UNTIL),
        stuck=count(connection, batch_id, State.DOWNLOADING, jobs.c.failures >= STUCK_FAILURES),
        cost_usd=totals.spent,
        reserved_usd=totals.reserved,
        unpriced=totals.unpriced,
        bytes=connection.execute(select(batches.c.delivered_bytes).where(batches.c.id == batch_id)).scalar_one(),
    )


def count(connection: Connection, batch_id: int, state: State, *conditions: ColumnElement[bool]) -> int:
    of_state = (jobs.c.batch_id == batch_id, jobs.c.state == state)
    return connection.execute(select(func.count()).select_from(jobs).where(*of_state, *conditions)).scalar_one()


def events_since(connection: Connection, batch_id: int, after: int, capacity: int = EVENTS_AT_ONCE) -> list[Event]:
    """At most `capacity` of the batch's events after the id `after`, the oldest first. None: there are no more."""
    params = {"in_batch": batch_id, "after": after, "capacity": capacity}
    return [Event(*row) for row in connection.execute(EVENTS, params)]


def last_event(connection: Connection) -> int:
    """The newest event's id; 0 in an empty table."""
    return int(connection.execute(select(func.coalesce(func.max(events.c.id), 0))).scalar_one())


def job_results(connection: Connection, batch_id: int, folder: Path) -> list[JobResult]:
    """Every job of a batch, in the manifest's order. Paths are those below `folder`."""
    results = (
        select(jobs.c.key, jobs.c.state, jobs.c.error, attempts.c.cost_usd, outputs.c.path)
        .select_from(CURRENT_OR_NONE)
        .outerjoin(outputs, (outputs.c.attempt_id == attempts.c.id) & (outputs.c.number == 1))
        .where(jobs.c.batch_id == batch_id)
        .order_by(jobs.c.id)
    )
    return [
        JobResult(key, state, None, error, cost, url=path)
        if path and is_url(path)
        else JobResult(key, state, folder / path if path else None, error, cost)
        for key, state, error, cost, path in connection.execute(results)
    ]


def last_run(connection: Connection, batch_id: int) -> StoredRun | None:
    of_batch = select(*(runs.c[name] for name in StoredRun.__dataclass_fields__)).where(runs.c.batch_id == batch_id)
    row = connection.execute(of_batch.order_by(runs.c.started_at.desc()).limit(1)).first()
    return StoredRun(*row) if row else None


def standstill(connection: Connection, alive: Sequence[str]) -> str:
    """Why these runs at work submit nothing now, as the newest says; "" where one of them may submit."""
    at_work = select(runs.c.message).where(runs.c.id.in_(alive), runs.c.ended_at.is_(None))
    reasons = connection.execute(at_work.order_by(runs.c.started_at.desc())).scalars().all()
    return reasons[0] or "" if reasons and all(reasons) else ""


def failures(connection: Connection, batch_id: int, capacity: int = 20) -> list[str]:
    """At most `capacity` failed jobs, the newest first, each with its error and what it may have cost."""
    columns = (jobs.c.key, jobs.c.error, jobs.c.error_class, attempts.c.outcome, attempts.c.cost_usd)
    failed = select(*columns).select_from(CURRENT_OR_NONE)
    of_batch = failed.where(jobs.c.batch_id == batch_id, jobs.c.failed_at.is_not(None))
    newest = of_batch.order_by(jobs.c.failed_at.desc()).limit(capacity)
    return [f"{row.key} failed: {row.error}{charge_of(row)}" for row in connection.execute(newest)]


def failed_by_class(connection: Connection, batch_id: int) -> dict[str, int]:
    """How many jobs failed, by the class of the error, the most frequent one first."""
    failed = select(jobs.c.error_class, func.count()).where(jobs.c.batch_id == batch_id, jobs.c.state == State.FAILED)
    rows = connection.execute(failed.group_by(jobs.c.error_class)).all()
    return {kind or ErrorClass.UNKNOWN: number for kind, number in sorted(rows, key=lambda row: -row[1])}


def delivered_paths(connection: Connection, batch_id: int) -> list[str]:
    """Some paths of delivered files, relative to the manifest's folder: enough to say where they are."""
    delivered = select(jobs.c.output_path).where(jobs.c.batch_id == batch_id, jobs.c.state == State.DONE)
    return list(connection.execute(delivered.limit(PATHS_READ)).scalars())


def charge_of(row: Any) -> str:
    """What a failed attempt cost, in words; nothing for one that certainly cost nothing."""
    if not may_be_charged(row):
        return ""
    if not row.cost_usd:
        return " (charged, unless the service says otherwise)"
    return f" (charged {amount_text(row.cost_usd)} USD)"


PLANNED_UNTIL = select(attempts.c.deadline_at).where(attempts.c.id == jobs.c.attempt_id).scalar_subquery()
COUNTS = select(jobs.c.state, func.count()).where(IN_BATCH).group_by(jobs.c.state)
COUNT_ACTIVE = select(func.count()).where(IN_BATCH, jobs.c.state.in_([state for state in State if state.is_active]))
EVENTS = (
    select(events.c.id, events.c.at, jobs.c.key, events.c.from_state, events.c.to_state, events.c.detail)
    .join_from(events, jobs)
    .where(events.c.batch_id == bindparam("in_batch"), events.c.id > bindparam("after"))
    .order_by(events.c.id)
    .limit(bindparam("capacity"))
)
