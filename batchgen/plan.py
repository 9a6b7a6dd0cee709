"""What a run would do: the manifest is enrolled in a transaction that is undone, and the table asked what it holds.

So a plan is made by the code that a run uses, for jobs that are in no table yet too; nothing of it is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import Connection, select

from batchgen.jobs import JobSpec, State
from batchgen.jobtable import money, pricelist, selection, submission, sync, timings
from batchgen.jobtable.money import Totals
from batchgen.jobtable.schema import jobs
from batchgen.jobtable.selection import Selection
from batchgen.jobtable.submission import Candidate
from batchgen.jobtable.sync import Batch, SyncResult
from batchgen.limits import rate
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


def foresee(connection: Connection, asked: Asked, now: datetime) -> Outlook:
    """Enrol, look, undo."""
    undone = connection.begin_nested()
    try:
        return look(connection, asked, now)
    finally:
        undone.rollback()


def look(connection: Connection, asked: Asked, now: datetime) -> Outlook:
    service = asked.batch.service
    enrolled = sync.sync_manifest(connection, asked.batch, asked.specs, now, "keep")
    batch_id, mark = enrolled.batch_id, asked.selection.mark
    selection.select_jobs(connection, batch_id, asked.selection)
    prices = pricelist.known(connection, service)
    pending = submission.ready(connection, batch_id, now, EVERYTHING, mark)
    costs = [prices.estimate(each.model, each.endpoint, each.request) for each in pending]
    sums = money.sums(connection, batch_id)
    affordable, spent = within(costs, sums, asked.limits.max_cost)
    generation_times = GenerationTimes(asked.measured, timings.known(connection, service))
    in_flight, per_minute = limits_of(connection, asked, now)
    played = when(connection, asked, pending[:affordable], generation_times, in_flight, per_minute, now)
    states = Counter(connection.execute(select(jobs.c.state).where(jobs.c.batch_id == batch_id)).scalars())
    return Outlook(
        enrolled=enrolled,
        states={state: states.get(state, 0) for state in State},
        waiting=len(pending),
        left_out=selection.left_out(connection, batch_id, mark),
        prices=by_model(pending, costs),
        listed_at=prices.listed_at,
        sums=sums,
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


def limits_of(connection: Connection, asked: Asked, now: datetime) -> tuple[int, float]:
    """In flight and a minute, as told; what is to be found is as it was found last, or as it is for a new account."""
    told, new = asked.limits, Limits()
    found = rate.known(connection, asked.batch.service, now - REMEMBERED).values()
    places = max((each.ceiling or each.proven for each in found), default=0)
    rates = max((each.per_minute for each in found if each.per_minute), default=0.0)
    in_flight = told.in_flight if told.in_flight != AUTO else places or new.in_flight
    per_minute = told.submits_per_minute if told.submits_per_minute != AUTO else rates or new.submits_per_minute
    return int(in_flight), float(per_minute)


def when(
    connection: Connection,
    asked: Asked,
    pending: Sequence[Candidate],
    generation_times: GenerationTimes,
    in_flight: int,
    per_minute: float,
    now: datetime,
) -> Forecast:
    """Play what is to be sent through the slots, beside all that the service is working on already."""
    known: dict[tuple[str, str], Waiting] = {}
    waiting = []
    for each in pending:
        which = each.model, duration_of(each.request)
        if which not in known:
            longest = generation_times.longest(each.model, each.request).total_seconds()
            known[which] = Waiting(generation_times.times(*which), longest)
        waiting.append(known[which])
    at_work = select(jobs.c.model, jobs.c.request, jobs.c.submitted_at).where(
        jobs.c.service == asked.batch.service, jobs.c.state == State.GENERATING, jobs.c.deadline_at > now
    )
    running = [
        (
            generation_times.times(row.model, duration_of(row.request)),
            max((now - row.submitted_at).total_seconds(), 0.0),
        )
        for row in connection.execute(at_work)
    ]
    until = (asked.until - now).total_seconds() if asked.until else None
    return forecast(waiting, running, in_flight, per_minute, until)
