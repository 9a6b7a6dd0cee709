"""`batchgen status --watch`: shows what runs do with a batch, as the run itself would, until none is at work."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from batchgen.cli.batches import commands_on
from batchgen.errors import UsageError
from batchgen.jobtable import leases, statistics
from batchgen.jobtable.batches import StoredBatch, chosen_batches, open_table
from batchgen.jobtable.database import Database
from batchgen.report.hints import advice
from batchgen.report.progress import Progress
from batchgen.report.terminal import print_lines

CHECK_SECONDS = 1.0  # between two checks whether a run is at work


def watch(manifest: Path | None, db: str | None, *, simulate: bool, as_json: bool) -> None:
    """Show the events of a batch until no run is at work on it, or Ctrl-C. Raises `UsageError`, `KeyboardInterrupt`."""
    with open_table(db, manifest) as database:
        candidates = chosen_batches(database, manifest, simulate=simulate)
        at_work = [batch for batch in candidates if leases.live_runs(database, batch.id)]
        if len(at_work) > 1:
            raise UsageError(
                f"--watch shows one batch, and runs are at work on {' and '.join(batch.name for batch in at_work)}."
                " Name a manifest whose batch is the only one, or add --simulate for the simulation"
            )
        if at_work:
            asyncio.run(show_events(database, at_work[0], manifest, as_json=as_json))
        else:
            names = " or ".join(batch.name for batch in candidates) or "any batch"
            print_lines(f"no run is at work on {names}: there is nothing to watch", err=True)


async def show_events(database: Database, batch: StoredBatch, manifest: Path | None, *, as_json: bool) -> None:
    standstill = ""
    progress = Progress(
        *(database, batch.id, batch.name, await database.read(statistics.last_event), commands_on(batch, manifest)),
        lambda: (standstill and f"no more submits for now: {standstill}", advice("")),
        as_json=as_json,
        stream=sys.stderr if as_json else sys.stdout,
    )
    async with progress.following() as task:
        while (alive := await asyncio.to_thread(leases.live_runs, database, batch.id)) and not task.done():
            standstill = await database.read(statistics.standstill, alive)
            await asyncio.wait([task], timeout=CHECK_SECONDS)
