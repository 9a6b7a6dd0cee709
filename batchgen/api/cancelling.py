"""Cancels generations at the service, where it can: for jobs that a person has cancelled in the table."""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from pathlib import Path

from batchgen import clock
from batchgen.api.opening import open_account
from batchgen.jobtable import commands
from batchgen.jobtable.batches import StoredBatch
from batchgen.jobtable.database import Database
from batchgen.services.base import Cancelling
from batchgen.services.outcomes import Cancelled
from batchgen.services.registry import SIMULATOR


async def cancel_at_service(database: Database, batch: StoredBatch, folder: Path, keys: Collection[str]) -> list[str]:
    """Ask the service to cancel the generations of these jobs of a batch. Returns those that it has cancelled.

    What it charges for that is recorded. Raises `AccountError`.
    """
    if batch.service == SIMULATOR:  # its address lasts for one run only
        return []
    jobs = await database.read(commands.at_service, batch.id, keys)
    cancelled: list[str] = []
    async with open_account(database, batch.service, folder) as service:
        if service.features.cancel is Cancelling.NONE:
            return []
        for job in jobs:
            attempt = job.attempt
            if attempt.origin not in ("", service.origin) or attempt.account != service.account:
                continue
            outcome = await service.cancel(attempt.handle)
            if isinstance(outcome, Cancelled):
                # Where a cancel is charged, what was named or estimated before stands until the service says otherwise.
                silent = Decimal(0) if service.features.cancel is Cancelling.FREE else None
                cost_usd, now = silent if outcome.cost_usd is None else outcome.cost_usd, clock.utcnow()
                await database.write(commands.ended_at_service, attempt.id, cost_usd, now)
                cancelled.append(job.key)
    return cancelled
