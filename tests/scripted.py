"""A service that answers as it is told, and a stage to turn in front of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from batchgen import clock
from batchgen.jobtable.database import Database
from batchgen.limits.generation_times import GenerationTimes
from batchgen.manifest import Limits
from batchgen.services.base import (
    Accepted,
    FetchOutcome,
    Listing,
    LogPage,
    Submission,
    SubmitOutcome,
    Throttled,
    Unavailable,
    Working,
)
from batchgen.stage import RunContext, Stage
from tests.table import RUN, Table


@dataclass
class ScriptedService:
    """Answers each call with the next of its script; the last one answers all that follow."""

    submits: Sequence[SubmitOutcome] = ()
    fetches: Sequence[FetchOutcome] = (Working("queued"),)
    logs: Sequence[LogPage | Unavailable | Throttled] = (LogPage([]),)
    has_log: bool = True
    name: str = "aimlapi"
    base_url: str = "https://api.test"
    account: str = "0badcafe"
    submitted: list[Submission] = field(default_factory=list)
    fetched: list[tuple[str, str, str | None]] = field(default_factory=list)
    looked: list[tuple[datetime, datetime]] = field(default_factory=list)
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
            return Accepted(f"g-{number + 1}", None, 201)
        return self.submits[min(number, len(self.submits) - 1)]

    async def fetch(self, endpoint: str, generation_id: str, base_url: str | None = None) -> FetchOutcome:
        number = len(self.fetched)
        self.fetched.append((endpoint, generation_id, base_url))
        await self._wire()
        return self.fetches[min(number, len(self.fetches) - 1)]

    async def log(self, start: datetime, end: datetime) -> LogPage | Unavailable | Throttled:
        number = len(self.looked)
        self.looked.append((start, end))
        await self._wire()
        return self.logs[min(number, len(self.logs) - 1)]

    async def typical_seconds(self, models: Sequence[str]) -> Mapping[str, float]:
        return {}

    async def charges(self, start: datetime, end: datetime) -> Mapping[str, Decimal]:
        return {}

    async def balance(self) -> Decimal | None:
        return None

    async def catalogue(self, etag: str | None = None) -> Listing | None:
        return None

    async def close(self) -> None:
        pass


def context_of(table: Table, service: ScriptedService, limits: Limits | None = None, run: str = RUN) -> RunContext:
    database: Database = table.database
    folder: Path = table.folder
    return RunContext(database, service, table.batch_id, run, folder, limits or Limits(), GenerationTimes({}, {}))


async def turn(stage: Stage) -> datetime | None:
    """One tick, and all the work that it began. Returns when the stage next wants to be turned."""
    due = await stage.tick(clock.utcnow())
    await settle(stage)
    return due


async def settle(stage: Stage) -> None:
    while stage.tasks:
        await asyncio.wait(stage.tasks)
    if stage.failure:
        raise stage.failure
