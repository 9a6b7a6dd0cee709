"""A dry run: what a run would send, what it would cost, and when it would be done.

The manifest is synced by the code that a run uses, the job table is read, and the sync is rolled back: nothing is kept.
The forecast is simulated after that transaction, so that a plan never keeps a run from writing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select

from batchgen.jobs import JobSpec, State
from batchgen.jobtable import ledger, pricelist, selection, submission, sync, timings
from batchgen.jobtable.database import Database
from batchgen.jobtable.ledger import Totals
from batchgen.jobtable.pricelist import PriceList
from batchgen.jobtable.schema import jobs
from batchgen.jobtable.selection import Selection
from batchgen.jobtable.submission import Candidate
from batchgen.jobtable.sync import Batch, SyncResult
from batchgen.jobtable.timings import Timing
from batchgen.limits import rate
from batchgen.limits.adaptive import LearnedLimits
from batchgen.limits.forecast import Forecast, Waiting, forecast
from batchgen.limits.generation_times import GenerationTimes, duration_of
from batchgen.manifest import AUTO, Limits

REMEMBERED = timedelta(days=30)  # what was found of an account
EVERYTHING = 1_000_000_000  # more jobs than there are


@dataclass(frozen=True, slots=True)
class Asked:
    """What a plan is asked about."""

    batch: Batch
    specs: Sequence[JobSpec]
    limits: Limits
    selection: Selection
    until: datetime | None
    measured: Mapping[str, float]
    """Median seconds by model, as the service tells them now."""


@dataclass(frozen=True, slots=True)
class Price:
    """The jobs of one model that would be sent. USD; `cost` is of those whose price is known."""

    model: str
    jobs: int
    unknown: int
    lowest: Decimal | None
    highest: Decimal | None
    cost: Decimal


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a run would do. USD; times are moments."""

    enrolled: SyncResult
    states: dict[State, int]
    waiting: int
    """Jobs that would be sent if there were no cap."""
    left_out: int
    prices: list[Price]
    listed_at: datetime | None
    sums: Totals
    cost: Decimal
    unknown: int
    """Jobs that would be sent and whose price nobody knows."""
    affordable: int
    affordable_cost: Decimal
    """Within the cap."""
    half_at: datetime
    late_at: datetime
    """When the last generation ends: in half of all cases, in nine of ten."""
    in_flight: int
    per_minute: float
    """The limits that the forecast was played through."""
    in_time: int | None
    """Of the affordable ones, those that would be sent because they would be done by `until`."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a plan needs of the job table, at one moment, as it would be once the manifest is synced."""

    enrolled: SyncResult
    states: dict[State, int]
    pending: list[Candidate]
    """The selected jobs that wait to be sent, in their order."""
    left_out: int
    generating: Sequence[Row[Any, Any, Any]]
    """Model, request and time of submission of each generation that the service is working on."""
    sums: Totals
    prices: PriceList
    timings: Mapping[tuple[str, str], Timing]
    learned: list[LearnedLimits]


async def foresee(database: Database, asked: Asked, now: datetime) -> Outlook:
    """Read the table in one write transaction, then work the plan out with no transaction open."""
    return work_out(await database.write(snapshot, asked, now), asked, now)


def snapshot(connection: Connection, asked: Asked, now: datetime) -> Snapshot:
    """Sync the manifest, read the table, and roll the sync back."""
    savepoint = connection.begin_nested()
    try:
        return read(connection, asked, now)
    finally:
        savepoint.rollback()


def read(connection: Connection, asked: Asked, now: datetime) -> Snapshot:
    service = asked.batch.service
    enrolled = sync.sync_manifest(connection, asked.batch, asked.specs, now, "keep")
    batch_id, mark = enrolled.batch_id, asked.selection.mark
    selection.select_jobs(connection, batch_id, asked.selection)
    counts = {State(state): number for state, number in connection.execute(STATES, {"batch": batch_id})}
    return Snapshot(
        enrolled=enrolled,
        states={state: counts.get(state, 0) for state in State},
        pending=submission.ready(connection, batch_id, now, EVERYTHING, mark),
        left_out=selection.left_out(connection, batch_id, mark),
        generating=connection.execute(GENERATING, {"of_service": service, "now": now}).all(),
        sums=ledger.totals(connection, batch_id),
        prices=pricelist.load(connection, service),
        timings=timings.load(connection, service),
        learned=list(rate.learned_by_model(connection, service, now - REMEMBERED).values()),
    )


def work_out(table: Snapshot, asked: Asked, now: datetime) -> Outlook:
    """The plan that follows from a snapshot: prices, the cap, and the forecast."""
    costs = [table.prices.estimate(job.model, job.endpoint, job.request) for job in table.pending]
    affordable, spent = within(costs, table.sums, asked.limits.max_cost)
    in_flight, per_minute = limits_of(table.learned, asked.limits)
    played = when(table, asked, affordable, in_flight, per_minute, now)
    return Outlook(
        enrolled=table.enrolled,
        states=table.states,
        waiting=len(table.pending),
        left_out=table.left_out,
        prices=by_model(table.pending, costs),
        listed_at=table.prices.listed_at,
        sums=table.sums,
        cost=sum((cost for cost in costs if cost is not None), Decimal(0)),
        unknown=costs.count(None),
        affordable=affordable,
        affordable_cost=spent,
        half_at=now + timedelta(seconds=played.p50),
        late_at=now + timedelta(seconds=played.p90),
        in_flight=in_flight,
        per_minute=per_minute,
        in_time=played.sent if asked.until else None,
    )


def within(costs: Sequence[Decimal | None], sums: Totals, cap: Decimal | None) -> tuple[int, Decimal]:
    """How many of the jobs, in their order, fit under the cap, and what they cost. Unknown prices count nothing."""
    spent = Decimal(0)
    for number, cost in enumerate(costs):
        if cap is not None and sums.committed + spent + (cost or 0) > cap:
            return number, spent
        spent += cost or 0
    return len(costs), spent


def by_model(pending: Sequence[Candidate], costs: Sequence[Decimal | None]) -> list[Price]:
    """What each model's jobs cost; the model with the most jobs first."""
    grouped: dict[str, list[Decimal | None]] = {}
    for each, cost in zip(pending, costs, strict=True):
        grouped.setdefault(each.model, []).append(cost)
    found = []
    for model, all_costs in grouped.items():
        known = [cost for cost in all_costs if cost is not None]
        lowest, highest = (min(known), max(known)) if known else (None, None)
        unknown = len(all_costs) - len(known)
        found.append(Price(model, len(all_costs), unknown, lowest, highest, sum(known, Decimal(0))))
    return sorted(found, key=lambda price: (-price.jobs, price.model))


def limits_of(learned: Sequence[LearnedLimits], limits: Limits) -> tuple[int, float]:
    """In flight and a minute: as configured, else as learned last, else as for a new account."""
    new = Limits()
    places = max((int(model.in_flight.window or 0) for model in learned), default=0)
    rates = max((model.rate.window or 0.0 for model in learned), default=0.0)
    in_flight = limits.in_flight if limits.in_flight != AUTO else places or new.in_flight
    per_minute = limits.submits_per_minute if limits.submits_per_minute != AUTO else rates or new.submits_per_minute
    return int(in_flight), float(per_minute)


def when(table: Snapshot, asked: Asked, affordable: int, in_flight: int, per_minute: float, now: datetime) -> Forecast:
    """Simulate the jobs that are to be sent, beside all that the service is working on already."""
    generation_times = GenerationTimes(asked.measured, table.timings)
    by_kind: dict[tuple[str, str], Waiting] = {}
    waiting = []
    for job in table.pending[:affordable]:
        kind = job.model, duration_of(job.request)
        if kind not in by_kind:
            longest = generation_times.p90(job.model, job.request).total_seconds()
            by_kind[kind] = Waiting(generation_times.times(*kind), longest)
        waiting.append(by_kind[kind])
    running = [
        (generation_times.times(row.model, duration_of(row.request)), max((now - row.submitted_at).total_seconds(), 0))
        for row in table.generating
    ]
    until = (asked.until - now).total_seconds() if asked.until else None
    return forecast(waiting, running, in_flight, per_minute, until)


STATES = select(jobs.c.state, func.count()).where(jobs.c.batch_id == bindparam("batch")).group_by(jobs.c.state)

GENERATING = select(jobs.c.model, jobs.c.request, jobs.c.submitted_at).where(
    jobs.c.service == bindparam("of_service"),
    jobs.c.state == State.GENERATING,
    jobs.c.deadline_at > bindparam("now"),
)
