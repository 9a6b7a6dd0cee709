"""A service that answers as it is told, and a stage to turn in front of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from freezegun.api import FrozenDateTimeFactory as Clock

from batchgen.clock import utcnow
from batchgen.context import RunContext, RunSpec
from batchgen.jobs import ChargeSource
from batchgen.jobtable.sync import SyncResult
from batchgen.limits.generation_times import GenerationTimes
from batchgen.manifest.limits import Limits
from batchgen.services.account import Variables
from batchgen.services.aimlapi import VARIABLES
from batchgen.services.base import Adoption, Features, History, SentAttempt, Service, Submission
from batchgen.services.outcomes import (
    Absent,
    Accepted,
    FetchOutcome,
    FindOutcome,
    SubmitOutcome,
    Throttled,
    Unavailable,
    Working,
)
from batchgen.stage import Stage
from tests.table import RUN, Table


@dataclass
class ScriptedService(Service):
    """Answers each call with the next of its script; the last one answers all that follow."""

    submits: Sequence[SubmitOutcome] = ()
    fetches: Sequence[FetchOutcome] = (Working("queued"),)
    findings: Sequence[FindOutcome | Mapping[str, FindOutcome] | Unavailable | Throttled | None] = ()
    """What the service's memory says about every attempt, or by id; None: it could not be searched to the end."""
    histories: Sequence[History | Unavailable | None] = (None,)
    """What the service's log shows, each time it is read; the last one answers all that follow."""
    features: Features = field(default_factory=lambda: Features(Adoption.EXACT_ID, charges=ChargeSource.LEDGER))
    variables: Variables = VARIABLES
    name: str = "aimlapi"
    base_url: str = "http://127.0.0.1:9"
    account: str = "0badcafe"
    submitted: list[Submission] = field(default_factory=list)
    fetched: list[Mapping[str, Any]] = field(default_factory=list)
    searched: list[Sequence[SentAttempt]] = field(default_factory=list)
    read_since: list[datetime] = field(default_factory=list)
    before: Callable[[], Any] = lambda: None
    """Called while a request is on the wire."""
    gate: asyncio.Event | None = None
    """Where it is set, answers wait for it."""

    async def _wire(self) -> None:
        self.before()
        if self.gate:
            await self.gate.wait()

    async def submit(self, submission: Submission) -> SubmitOutcome:
        number = len(self.submitted)
        self.submitted.append(submission)
        await self._wire()
        if not self.submits:
            return Accepted(f"g-{number + 1}", None, 201, {"id": f"g-{number + 1}"})
        return self.submits[min(number, len(self.submits) - 1)]

    async def fetch(self, handle: Mapping[str, Any]) -> FetchOutcome:
        number = len(self.fetched)
        self.fetched.append(handle)
        await self._wire()
        return self.fetches[min(number, len(self.fetches) - 1)]

    async def find(self, attempts: Sequence[SentAttempt]) -> Mapping[str, FindOutcome] | Unavailable | Throttled:
        number = len(self.searched)
        self.searched.append(attempts)
        asked_at = utcnow()
        await self._wire()
        answer = self.findings[min(number, len(self.findings) - 1)] if self.findings else Absent(asked_at)
        if isinstance(answer, Unavailable | Throttled | Mapping):
            return answer
        return {} if answer is None else {attempt.client_request_id: answer for attempt in attempts}

    async def history(
        self, since: datetime, _until: datetime | None = None
    ) -> History | Unavailable | Throttled | None:
        number = len(self.read_since)
        self.read_since.append(since)
        await self._wire()
        return self.histories[min(number, len(self.histories) - 1)]

    async def close(self) -> None:
        pass


def context_of(table: Table, service: ScriptedService, limits: Limits | None = None, run: str = RUN) -> RunContext:
    limits = limits or Limits()
    spec = RunSpec(batch=table.batch, synced=SyncResult(table.batch_id), folder=table.folder, limits=limits)
    context = RunContext(table.database, service, spec, run, limits, GenerationTimes({}, {}))
    context.has_prices.set()
    return context


def change_spec(context: RunContext, **values: Any) -> None:
    """As if the run had been begun with these values."""
    context.spec = replace(context.spec, **values)


async def turn(stage: Stage) -> datetime | None:
    """One tick, and all the work that it began. Returns when the stage next wants to be turned."""
    due = await stage.tick(utcnow())
    await settle(stage)
    return due


async def settle(stage: Stage) -> None:
    while stage.tasks:
        await asyncio.wait(stage.tasks)
    if stage.failure:
        raise stage.failure


async def turn_when_due(stage: Stage, table: Table, clock: Clock, times: int) -> None:
    """So many turns, each when the job is due."""
    for _ in range(times):
        due = table.row().next_at
        if due and due > utcnow():
            clock.move_to(due)
        table.now = max(table.now, utcnow())
        await turn(stage)
