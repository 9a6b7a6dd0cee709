"""Fetching what was paid for and is not here: a run that sends nothing.

Failed and cancelled jobs go back to where their generation stands, once; then the stages of a run bring them, and the
jobs that were under way, to their end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import Connection, select

from batchgen import clock
from batchgen.context import RunSpec
from batchgen.errors import AccountError, BatchgenError, ExitCode, StorageError
from batchgen.jobs import State
from batchgen.jobtable import billing, commands, leases
from batchgen.jobtable.batches import StoredBatch
from batchgen.jobtable.database import Database
from batchgen.jobtable.schema import jobs
from batchgen.jobtable.selection import Selected
from batchgen.jobtable.statistics import STUCK_FAILURES
from batchgen.jobtable.sync import SyncResult
from batchgen.limits.steering import deadline_after
from batchgen.runner import Runner
from batchgen.runs.ending import Ending
from batchgen.services.base import Service

CHARGED_DETAIL = "the account was charged for it, so the same generation is asked for again"
"""The detail of the events by which jobs go back. A later reconciliation knows by it what was asked for already."""


class Collector(Runner):
    """A run that sends no create request. It ends when the jobs in `keys` are delivered, failed or stuck."""

    def __init__(self, database: Database, service: Service, spec: RunSpec, keys: Collection[str]) -> None:
        super().__init__(database, service, spec)
        self.keys = keys

    @asynccontextmanager
    async def background_questions(self) -> AsyncIterator[None]:
        """Ask nothing: all that a run asks in the background is about jobs that are to be sent."""
        self.context.has_prices.set()
        yield

    async def can_advance(self) -> bool:
        states = [state for state in self.context.advanceable_states() if state.is_active]
        return await self.database.read(is_any_collectable, states, self.context.batch_id, self.keys)


def is_any_collectable(connection: Connection, states: Collection[State], batch_id: int, keys: Collection[str]) -> bool:
    """Whether one of these jobs is in one of the states, and may still be collected now."""
    where = (jobs.c.batch_id == batch_id, jobs.c.state.in_(states), jobs.c.failures < STUCK_FAILURES)
    return any(key in keys for key in connection.execute(select(jobs.c.key).where(*where)).scalars())


def collection_error(ending: Ending) -> BatchgenError | None:
    """Why no more can be collected before a person has mended the disk, the store or the key; None where it can."""
    error = {ExitCode.STORAGE: StorageError, ExitCode.ACCOUNT: AccountError}.get(ending.exit_code)
    return error(ending.message) if error else None


async def collect(
    database: Database, service: Service, batch: StoredBatch, folder: Path, keys: Collection[str]
) -> tuple[list[str], BatchgenError | None]:
    """Ask for the generations of these jobs, and download what the service has. A run that is at work does that itself.

    A job that was asked for by an earlier reconciliation is not asked again. Returns the jobs that were asked for, and
    why no more can be collected before a person has mended the disk, the store or the key.
    """
    before = await database.read(billing.asked_before, batch.id, CHARGED_DETAIL)
    states = await database.read(commands.states_of, batch.id, keys)
    retriable = [key for key, state in states.items() if state.is_retriable and key not in before]
    now = clock.utcnow()
    deadline_at = await database.read(deadline_after, batch.id, now)
    moved = await database.write(commands.ask_again, batch.id, retriable, now, deadline_at, CHARGED_DETAIL)
    active = [key for key, state in states.items() if state.is_active]
    is_run_at_work = bool(await asyncio.to_thread(leases.live_runs, database, batch.id))
    await database.write(commands.poll_now, batch.id, active, now)  # they are charged, so they have ended
    stop = None
    if (moved or active) and not is_run_at_work:
        spec = RunSpec(batch=batch, synced=SyncResult(batch.id), folder=folder, selected=Selected([]))
        stop = collection_error(await Collector(database, service, spec, {*moved, *active}).run())
    return [*moved, *active], stop
