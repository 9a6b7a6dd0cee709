"""How a batch stands: read-only queries for the display, for `status`, and for the runner's decision to end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

from sqlalchemy import ColumnElement, Connection, bindparam, func, select

from batchgen.jobs import State
from batchgen.jobtable import in_flight, ledger
from batchgen.jobtable.in_flight import InFlight
from batchgen.jobtable.schema import LimitKind, attempts, batches, events, jobs, limits, outputs
from batchgen.jobtable.transition import SENT_HERE, next_due

EVENTS_AT_ONCE = 500
"""Events read in one query: bounds its memory and its time."""
OF_LATE = timedelta(hours=1)
"""Learned limits are shown for this long after their last use."""
ASKED_FOR = (State.GENERATING, State.UNCONFIRMED)
"""The states in which a job advances by what the service says about it."""
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
    bytes: int
    """Of the delivered videos."""

    @property
    def total(self) -> int:
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class Blocker:
    """What some jobs of a batch wait for, and until when (None: unknown)."""

    reason: str
    until: datetime | None
    jobs: int
    collect_by: datetime | None = None
    """When the service may delete the first of the files that wait to be downloaded."""
    origin: str | None = None
    """Where they were sent, if that is not the service in use."""


@dataclass(frozen=True, slots=True)
class JobResult:
    """How one job stands. Money in USD."""

    id: str
    state: State
    path: Path | None
    """Its first file, once that is delivered."""
    error: str | None
    cost_usd: Decimal | None
    """Of its last attempt, where it is known."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a batch's history."""

    id: int
    at: datetime
    key: str
    from_state: State | None
    to_state: State
    detail: str | None


def any_open(
    connection: Connection, batch_id: int, advanceable: Sequence[State], now: datetime, origin: str = ""
) -> bool:
    """Whether this run, whose service is at `origin`, can still bring a job forward.

    It cannot where a job is held for a person, waits for a time after which a later run will take it up, or was sent to
    another origin.
    """
    for state in advanceable:
        where = [jobs.c.batch_id == batch_id, jobs.c.state == state]
        due = jobs.c.leased_by.is_not(None) | (jobs.c.next_at <= now)
        if state == State.UNCONFIRMED:
            where.append(jobs.c.next_at.is_not(None))
        if state in ASKED_FOR:
            where.append(SENT_HERE)
        if state == State.GENERATING:
            where.append((now < PLANNED_UNTIL) | due)
        if state == State.DOWNLOADING:
            where.append((jobs.c.failures < STUCK_FAILURES) | due)
        params = {"this_origin": origin} if state in ASKED_FOR else {}
        if connection.execute(select(jobs.c.id).where(*where).limit(1), params).first():
            return True
    return False


def batch_summary(connection: Connection, batch_id: int, now: datetime) -> BatchSummary:
    """A batch's jobs by state, and what they have cost.

    It counts index entries: about 0.1 s for a million jobs, so a display asks once a second at most.
    """
    counts = {State(state): number for state, number in connection.execute(COUNTS, {"in_batch": batch_id})}
    return BatchSummary(
        counts={state: counts.get(state, 0) for state in State},
        held=count(connection, batch_id, State.UNCONFIRMED, jobs.c.next_at.is_(None)),
        late=connection.execute(COUNT_LATE, {"in_batch": batch_id, "now": now}).scalar_one(),
        stuck=count(connection, batch_id, State.DOWNLOADING, jobs.c.failures >= STUCK_FAILURES),
        cost_usd=ledger.totals(connection, batch_id).spent,
        bytes=connection.execute(DELIVERED_BYTES, {"in_batch": batch_id}).scalar_one(),
    )


def count(connection: Connection, batch_id: int, state: State, condition: ColumnElement[bool]) -> int:
    of_state = (jobs.c.batch_id == batch_id, jobs.c.state == state)
    return connection.execute(select(func.count()).select_from(jobs).where(*of_state, condition)).scalar_one()


def elsewhere(connection: Connection, batch_id: int, origin: str) -> list[Blocker]:
    """The jobs that the service at `origin` is not asked for, because they were sent to another one."""
    return explain_elsewhere(sent_elsewhere(connection, batch_id, origin))


def explain_elsewhere(sent: Mapping[tuple[State, str], int]) -> list[Blocker]:
    """What `sent_elsewhere` returns, in words, one for each origin."""
    numbers: Counter[str] = Counter()
    for (_, other), number in sent.items():
        numbers[other] += number
    return [
        Blocker(
            f"the service at {other}, where {'it was' if number == 1 else 'they were'} sent: a run that is set to that"
            " address, with its key, goes on",
            None,
            number,
            origin=other,
        )
        for other, number in sorted(numbers.items())
    ]


def sent_elsewhere(connection: Connection, batch_id: int, origin: str) -> dict[tuple[State, str], int]:
    """How many jobs that no person holds wait for other origins, by state and origin."""
    rows = connection.execute(SENT_ELSEWHERE, {"in_batch": batch_id, "this_origin": origin})
    return {(State(state), other): number for state, other, number in rows}


def blockers(
    connection: Connection,
    batch_id: int,
    now: datetime,
    summary: BatchSummary | None = None,
    origin: str | None = None,
) -> list[Blocker]:
    """What a batch waits for, most urgent first. `summary` saves counting again.

    With `origin`, that of the service in use, it says which jobs were sent to another one.
    """
    summary = summary or batch_summary(connection, batch_id, now)
    blocked = [
        Blocker(f"a pause to end: {row.reason}", row.paused_until, summary.counts[State.PENDING])
        for row in connection.execute(select(limits).where(limits.c.paused_until > now))
    ]
    waiting_for = {
        State.DOWNLOADING: "downloads",
        State.GENERATING: "generations at the service",
        State.UNCONFIRMED: "the service to tell whether a request was accepted",
        State.PENDING: f"a free place within the limits{learned_limits(connection, batch_id, now)}",
    }
    absent = Counter[State]()
    if origin is not None:
        sent = sent_elsewhere(connection, batch_id, origin)
        for (state, _), number in sent.items():
            absent[state] += number
        blocked += explain_elsewhere(sent)
    for state, reason in waiting_for.items():
        number = summary.counts[state] - absent[state] - (summary.held if state == State.UNCONFIRMED else 0)
        if number:
            collect_by = None
            if state == State.DOWNLOADING:
                collect_by = connection.execute(COLLECT_BY, {"in_batch": batch_id}).scalar()
            blocked.append(Blocker(reason, next_due(connection, batch_id, state), number, collect_by))
    if summary.held:
        blocked.append(Blocker("a person (batchgen resolve)", None, summary.held))
    return blocked


def learned_limits(connection: Connection, batch_id: int, now: datetime) -> str:
    """The limits in force, in words, where a run has learned them of late; else nothing."""
    service = connection.execute(select(batches.c.service).where(batches.c.id == batch_id)).scalar_one()
    recent = select(limits).where(limits.c.service == service, limits.c.account != "", limits.c.used_at > now - OF_LATE)
    rows = {(row.model, row.kind): row for row in connection.execute(recent)}
    if not rows:
        return ""
    counts = in_flight.in_flight_by_model(connection, service, now)
    texts = {}
    for model in {model: None for model, _ in rows}:
        count = counts.get(model, InFlight())
        window, rate = rows.get((model, LimitKind.IN_FLIGHT)), rows.get((model, LimitKind.SUBMITS))
        most = f" of {int(window.window)}" if window and window.threshold else ""
        per_minute = f", {round(rate.window, 1):g} submits a minute" if rate and rate.threshold else ""
        texts[model] = f"in flight {count.total}{most}{per_minute}"
    limits_in_words = [f"{model}: {text}" if len(texts) > 1 else text for model, text in texts.items()]
    return f", which are learned from the service's answers ({'; '.join(limits_in_words)})"


def events_since(
    connection: Connection, batch_id: int, after: int, capacity: int = EVENTS_AT_ONCE
) -> tuple[list[Event], int]:
    """At most `capacity` of the batch's events after the id `after`, and the id of the last one read.

    Where the id stays the same, there are no more.
    """
    params = {"in_batch": batch_id, "after": after, "capacity": capacity}
    rows = [to_event(*row) for row in connection.execute(EVENTS, params)]
    return rows, rows[-1].id if rows else after


def to_event(number: int, at: datetime, key: str, from_state: str | None, to_state: str, detail: str | None) -> Event:
    return Event(number, at, key, State(from_state) if from_state else None, State(to_state), detail)


def last_event(connection: Connection) -> int:
    """The newest event's id; 0 in an empty table."""
    return int(connection.execute(select(func.coalesce(func.max(events.c.id), 0))).scalar_one())


def job_results(connection: Connection, batch_id: int, folder: Path) -> list[JobResult]:
    """Every job of a batch, in the manifest's order. Paths are those below `folder`."""
    return [
        JobResult(key, State(state), folder / path if path else None, error, cost)
        for key, state, error, cost, path in connection.execute(RESULTS, {"in_batch": batch_id})
    ]


def failures(connection: Connection, batch_id: int, capacity: int = 20) -> list[str]:
    """At most `capacity` failed jobs, the newest first, each with its error."""
    failed = select(jobs.c.key, jobs.c.error).where(jobs.c.batch_id == batch_id, jobs.c.failed_at.is_not(None))
    newest = failed.order_by(jobs.c.failed_at.desc()).limit(capacity)
    return [f"{row.key} failed: {row.error}" for row in connection.execute(newest)]


PLANNED_UNTIL = select(attempts.c.deadline_at).where(attempts.c.id == jobs.c.attempt_id).scalar_subquery()
COUNTS = select(jobs.c.state, func.count()).where(jobs.c.batch_id == bindparam("in_batch")).group_by(jobs.c.state)
COUNT_LATE = select(func.count()).where(
    jobs.c.batch_id == bindparam("in_batch"),
    jobs.c.state == State.GENERATING,
    bindparam("now", type_=attempts.c.deadline_at.type) >= PLANNED_UNTIL,
)
RESULTS = (
    select(jobs.c.key, jobs.c.state, jobs.c.error, attempts.c.cost_usd, outputs.c.path)
    .outerjoin_from(jobs, attempts, jobs.c.attempt_id == attempts.c.id)
    .outerjoin(outputs, (outputs.c.attempt_id == attempts.c.id) & (outputs.c.number == 1))
    .where(jobs.c.batch_id == bindparam("in_batch"))
    .order_by(jobs.c.id)
)
EVENTS = (
    select(events.c.id, events.c.at, jobs.c.key, events.c.from_state, events.c.to_state, events.c.detail)
    .join_from(events, jobs, events.c.job_id == jobs.c.id)
    .where(events.c.batch_id == bindparam("in_batch"), events.c.id > bindparam("after"))
    .order_by(events.c.id)
    .limit(bindparam("capacity"))
)
SENT_ELSEWHERE = (
    select(jobs.c.state, attempts.c.origin, func.count())
    .join_from(jobs, attempts, jobs.c.attempt_id == attempts.c.id)
    .where(
        jobs.c.batch_id == bindparam("in_batch"),
        jobs.c.state.in_(ASKED_FOR),
        (jobs.c.state == State.GENERATING) | jobs.c.next_at.is_not(None),
        attempts.c.origin.not_in(["", bindparam("this_origin")]),
    )
    .group_by(jobs.c.state, attempts.c.origin)
)
COLLECT_BY = (
    select(func.min(attempts.c.collect_by))
    .join_from(jobs, attempts, jobs.c.attempt_id == attempts.c.id)
    .where(jobs.c.batch_id == bindparam("in_batch"), jobs.c.state == State.DOWNLOADING)
)
DELIVERED_BYTES = select(batches.c.delivered_bytes).where(batches.c.id == bindparam("in_batch"))
