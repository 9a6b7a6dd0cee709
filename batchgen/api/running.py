"""`run`, `arun` and `plan`: from a manifest to the result of its run, or to a forecast of it."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import signal
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Unpack

from batchgen.api.event_loop import complete
from batchgen.api.opening import OpenRun, open_manifest, open_run, plan_run
from batchgen.api.options import RunOptions
from batchgen.dry_run import Plan
from batchgen.jobtable import statistics
from batchgen.jobtable.database import Database
from batchgen.jobtable.statistics import Event
from batchgen.jobtable.sync import SyncResult
from batchgen.runs.ending import RunResult
from batchgen.stage import wait_for

FOLLOW_SECONDS = 1.0  # between two reads of the events: a caller needs no more


@dataclass(frozen=True, slots=True)
class Synced:
    """The manifest is in the job table: the first event of a run."""

    batch: str
    jobs: int
    """How many the manifest has."""
    result: SyncResult


RunEvent = Synced | Event
"""What `on_event` is called with: first `Synced`, then an `Event` whenever a job changes its state."""


def run(
    manifest: str | Path, *, on_event: Callable[[RunEvent], object] | None = None, **options: Unpack[RunOptions]
) -> RunResult:
    """Submit a manifest's jobs, wait, and download the videos. The same call again goes on where this one stopped.

    Works in a notebook as well, where an event loop is running already. Ctrl-C ends the run in good order. A run that
    ends with undelivered jobs returns a result that is not `ok`.
    """
    return complete(arun(manifest, on_event=on_event, **options))


async def arun(
    manifest: str | Path, *, on_event: Callable[[RunEvent], object] | None = None, **options: Unpack[RunOptions]
) -> RunResult:
    """`run` in the caller's event loop. Cancelled, it ends in good order first, so that everything can be resumed."""
    if on_event is not None and (not callable(on_event) or inspect.iscoroutinefunction(on_event)):
        raise TypeError("on_event is called with each event, and its result is not awaited: it is no such function")
    async with open_run(Path(manifest), options) as opened:
        database, spec, ended = opened.database, opened.spec, asyncio.Event()
        running = asyncio.create_task(opened.run())
        running.add_done_callback(lambda _task: ended.set())
        try:
            show = on_event or (lambda _event: None)
            show(Synced(spec.batch.name, spec.jobs, spec.synced))
            await follow(opened, show, ended)
            ending = await asyncio.shield(running)
        except BaseException:
            while not running.done():
                opened.runner.stop(signal.SIGINT)  # cancelled again, it ends at once, as after a second Ctrl-C
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([running])
            raise
        jobs = await database.read(statistics.job_results, spec.synced.batch_id, spec.folder)
    return RunResult(ending.exit_code, ending.message, spec.batch.name, ending.batch_summary, jobs)


def plan(manifest: str | Path, **options: Unpack[RunOptions]) -> Plan:
    """What a run would send, what it would cost and when it would be done. Sends no job, and needs no key.

    Where there is no job table, or one that may only be read, an empty one or a copy is used for it and deleted.
    """
    with ExitStack() as stack:
        database, parsed = open_manifest(Path(manifest), options, stack)
        if database is None or not database.may_write:
            scratch = Path(stack.enter_context(TemporaryDirectory())) / "batchgen.db"
            if database:
                database.copy_to(scratch)
            database = stack.enter_context(Database(scratch))
        return complete(plan_run(database, parsed, options))


async def follow(opened: OpenRun, show: Callable[[Event], object], ended: asyncio.Event) -> None:
    """Show every event of a run, until `ended` is set and everything before it was shown."""
    database, batch_id, last = opened.database, opened.spec.synced.batch_id, opened.last_event
    is_last = False
    while not is_last:
        is_last = await wait_for(ended, FOLLOW_SECONDS)
        while events := await database.read(statistics.events_since, batch_id, last):
            last = events[-1].id
            for event in events:
                event.log()
                show(event)
