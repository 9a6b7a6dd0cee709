"""A dry run: what a run would send, what it would cost, and when it would be done.

The manifest is synced by the code that a run uses, the job table is read, and the sync is rolled back: nothing is kept.
The forecast is simulated after that transaction, so that a plan never keeps a run from writing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import compress
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select, text

from batchgen.files.local_files import FileDigests
from batchgen.jobs import JobSpec, Outcome, State, TimingKind, timing_kind
from batchgen.jobtable import pricelist, selection, statistics, submission, sync, timings
from batchgen.jobtable.batches import Batch
from batchgen.jobtable.database import Database
from batchgen.jobtable.joins import ATTEMPT_IS_IN_FLIGHT
from batchgen.jobtable.pricelist import PriceList
from batchgen.jobtable.repeats import Repeat, RepeatSearch, compare
from batchgen.jobtable.schema import attempts, jobs
from batchgen.jobtable.selection import Selection
from batchgen.jobtable.statistics import BatchSummary
from batchgen.jobtable.submission import Candidate
from batchgen.jobtable.sync import SyncResult
from batchgen.jobtable.timings import Timing
from batchgen.limits import rate
from batchgen.limits.adaptive import LearnedLimits
from batchgen.limits.admission import MOST_PER_MINUTE
from batchgen.limits.forecast import Forecast, forecast
from batchgen.limits.generation_times import GenerationTimes
from batchgen.manifest.limits import AUTO, Limits
from batchgen.services.base import Features

LEARNED_FOR = timedelta(days=30)  # older limits say little about what the account may do today
ALL_JOBS = 1_000_000_000  # more jobs than there are: a plan reads every pending job

PROMPTS = 3  # shown, so that a person reads them before paying
PROMPTS_SEARCHED = 1_000  # jobs whose prompts are compared: a batch may have one prompt alone


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """The manifest and the options that a plan is made for."""

    batch: Batch
    specs: Sequence[JobSpec]
    digests: FileDigests
    limits: Limits
    selection: Selection
    until: datetime | None
    medians: Mapping[str, float]
    """The service's median generation times: seconds by model."""
    features: Features
    has_live_prices: bool
    """Whether the stored price list was fetched from the service just now."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelCost:
    """The jobs of one model that would be sent, and what those with a known price cost."""

    model: str
    jobs: int
    unknown: int
    """How many have no known price."""
    lowest_usd: Decimal | None
    highest_usd: Decimal | None
    cost_usd: Decimal | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a plan needs of the job table, at one moment, as it would be once the manifest is synced."""

    synced: SyncResult
    summary: BatchSummary
    pending: list[Candidate]
    """The selected jobs that wait to be sent, in their order."""
    repeats: list[Repeat]
    """Pending jobs that were paid for before, or whose video is there: a run asks what becomes of them."""
    beside: list[str]
    """Pending jobs whose output is the clip of another job: they are delivered beside it, under another name."""
    prompts: Mapping[str, str]
    """The first different prompts among them as they would be sent, each by the first job that has it."""
    left_out: int
    """Pending jobs that are not selected."""
    generating: Sequence[Row[Any, Any, Any]]
    """Model, clip length and time of submission of each generation that the service is working on."""
    prices: PriceList
    timings: Mapping[TimingKind, Timing]
    learned: list[LearnedLimits]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would do. USD."""

    request: PlanRequest = field(repr=False)  # a cell of a notebook shows the rest: this has each job, and all prices
    table: Snapshot = field(repr=False)
    models: list[ModelCost]
    """The jobs that would be sent if there were no cap; the model with the most jobs first."""
    to_send: int
    unpriced: int
    """How many jobs to send have no known price."""
    by_charges: int
    """How many are expected to cost what was charged before, because the price list is lower or has no price."""
    cost: Decimal
    affordable: int
    """How many of the jobs to send fit under the cap."""
    affordable_cost: Decimal
    """What these cost."""
    in_flight: int
    """The generations at one time that the forecast assumes."""
    per_minute: float
    """The submits a minute that it assumes."""
    p50_at: datetime
    """When the last generation has ended in half of the simulated runs."""
    p90_at: datetime
    """When it has ended in nine of ten."""
    in_time: int
    """How many of the affordable jobs would be sent because they would be done by `until`."""
    in_time_cost: Decimal
    """What these cost."""

    @property
    def has_end(self) -> bool:
        """Whether anything is left that ends: a job that would be sent, or one at the service."""
        return bool(self.in_time or self.table.summary.counts[State.GENERATING])


async def make_plan(database: Database, request: PlanRequest, now: datetime) -> Plan:
    """Read the table in one write transaction, then compute the plan with no transaction open."""
    table = await database.write(read_snapshot, request, now)
    prices = table.prices
    quotes = [prices.quote(job.model, job.endpoint, job.request) for job in table.pending]
    costs = [
        prices.corrected(quote, job.model, job.clip_seconds) for quote, job in zip(quotes, table.pending, strict=True)
    ]
    affordable, affordable_cost = within_cap(costs, table.summary, request.limits.max_cost)
    in_flight, per_minute = assumed_limits(table.learned, request.limits)
    finish = forecast_finish(table, request, affordable, in_flight, per_minute, now)
    return Plan(
        request=request,
        table=table,
        models=costs_by_model(table.pending, costs),
        to_send=len(costs),
        unpriced=costs.count(None),
        by_charges=sum(cost != quote for cost, quote in zip(costs, quotes, strict=True)),
        cost=sum(filter(None, costs), Decimal(0)),
        affordable=affordable,
        affordable_cost=affordable_cost,
        in_flight=in_flight,
        per_minute=per_minute,
        p50_at=now + timedelta(seconds=finish.p50),
        p90_at=now + timedelta(seconds=finish.p90),
        in_time=finish.sent,
        in_time_cost=sum(filter(None, compress(costs, finish.chosen)), Decimal(0)),
    )


def read_snapshot(connection: Connection, request: PlanRequest, now: datetime) -> Snapshot:
    """Sync the manifest, read the table, and roll the sync back."""
    service = request.batch.service
    with connection.begin_nested() as savepoint:
        synced = sync.sync_manifest(
            connection, request.batch, request.specs, now, digests=request.digests, is_trial=True
        )
        batch_id = synced.batch_id
        selected = selection.select_jobs(connection, batch_id, request.selection, synced.gone_after)
        folder = request.batch.manifest.parent
        compared = compare(connection, RepeatSearch(batch_id, service, folder, synced.orphans, selected=selected))
        repeated = {repeat.job.id for repeat in compared.repeats}
        ready = submission.ready(connection, batch_id, ALL_JOBS, selected)
        pending = [job for job in ready if job.id not in repeated]
        snapshot = Snapshot(
            synced=synced,
            repeats=compared.repeats,
            beside=compared.beside,
            summary=statistics.batch_summary(connection, batch_id, now),
            pending=pending,
            prompts=first_prompts(connection, pending),
            left_out=selection.left_out(connection, batch_id, selected),
            generating=connection.execute(GENERATING, {"of_service": service, "now": now}).all(),
            prices=pricelist.load(connection, service),
            timings=timings.load(connection, service),
            learned=list(rate.learned_by_model(connection, service, now - LEARNED_FOR).values()),
        )
        savepoint.rollback()
    return snapshot


def first_prompts(connection: Connection, pending: Sequence[Candidate]) -> dict[str, str]:
    """The first `PROMPTS` different prompts, in the order in which their jobs would be sent."""
    first: dict[str, int] = {}
    for job in pending[:PROMPTS_SEARCHED]:
        prompt = json.loads(job.request).get("prompt")
        if isinstance(prompt, str):
            first.setdefault(prompt, job.id)
        if len(first) == PROMPTS:
            break
    rows = connection.execute(select(jobs.c.id, jobs.c.key).where(jobs.c.id.in_(first.values())))
    keys = {row.id: row.key for row in rows}
    return {keys[job_id]: prompt for prompt, job_id in first.items()}


def within_cap(costs: Sequence[Decimal | None], summary: BatchSummary, cap: Decimal | None) -> tuple[int, Decimal]:
    """How many of the jobs, in their order, fit under the cap, and what they cost. Unknown prices count nothing."""
    committed, spent = summary.cost_usd + summary.reserved_usd, Decimal(0)
    for number, cost in enumerate(costs):
        if cap is not None and committed + spent + (cost or 0) > cap:
            return number, spent
        spent += cost or 0
    return len(costs), spent


def costs_by_model(pending: Sequence[Candidate], costs: Sequence[Decimal | None]) -> list[ModelCost]:
    """What each model's jobs cost; the model with the most jobs first."""
    grouped: dict[str, list[Decimal | None]] = {}
    for job, cost in zip(pending, costs, strict=True):
        grouped.setdefault(job.model, []).append(cost)
    models = []
    for model, estimates in grouped.items():
        prices = [price for price in estimates if price is not None]
        lowest, highest = min(prices, default=None), max(prices, default=None)
        cost = sum(prices, Decimal(0)) if prices else None
        models.append(ModelCost(model, len(estimates), estimates.count(None), lowest, highest, cost))
    return sorted(models, key=lambda model: (-model.jobs, model.model))


def assumed_limits(learned: Sequence[LearnedLimits], limits: Limits) -> tuple[int, float]:
    """Generations in flight and submits a minute: as configured, else as learned last, else as for a new account.

    Where requests were accepted and none was refused, no rate is known, and a run sends as fast as it may.
    """
    new = Limits()
    window = max((int(model.in_flight.window or 0) for model in learned), default=0)
    learned_rate = max((model.rate.window or 0.0 for model in learned), default=0.0)
    in_flight = limits.in_flight if limits.in_flight != AUTO else window or new.in_flight
    submits = limits.submits_per_minute
    unknown = MOST_PER_MINUTE if window else new.submits_per_minute
    per_minute = submits if submits != AUTO else learned_rate or unknown
    return int(in_flight), float(per_minute)


def forecast_finish(
    table: Snapshot, request: PlanRequest, affordable: int, in_flight: int, per_minute: float, now: datetime
) -> Forecast:
    """Simulate the affordable jobs beside all that the service is working on already."""
    generation_times = GenerationTimes(request.medians, table.timings, request.features.speed)
    waiting = [generation_times.times(*job.kind) for job in table.pending[:affordable]]
    ages = (max((now - row.answered_at).total_seconds(), 0) for row in table.generating)
    kinds = (timing_kind(row.model, row.clip_seconds) for row in table.generating)
    running = [(generation_times.times(*kind), age) for kind, age in zip(kinds, ages, strict=True)]
    until = (request.until - now).total_seconds() if request.until else None
    return forecast(waiting, running, in_flight, per_minute, until)


GENERATING = (
    select(jobs.c.model, jobs.c.clip_seconds, attempts.c.answered_at)
    .join_from(attempts, jobs, jobs.c.attempt_id == attempts.c.id)
    .where(
        attempts.c.service == bindparam("of_service"),
        text(ATTEMPT_IS_IN_FLIGHT),
        attempts.c.outcome == Outcome.ACCEPTED,
        attempts.c.deadline_at > bindparam("now", type_=attempts.c.deadline_at.type),
    )
)
