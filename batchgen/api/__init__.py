"""The Python API, and the composition root: a manifest → its job table → its service → a run → its result.

`batchgen.run("m.yaml", max_cost=50)` does what `batchgen run m.yaml --max-cost 50` does; the command line is a shell
over this module. Everything here raises the errors of `batchgen.errors`, and prints nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar, Unpack

from batchgen import clock
from batchgen.api.opening import OpenRun, enroll_only, open_account, open_manifest, open_run, plan_run
from batchgen.api.options import RunOptions
from batchgen.dry_run import Plan
from batchgen.ending import RunResult
from batchgen.errors import BatchgenError, ManifestInvalid
from batchgen.files import object_store
from batchgen.jobtable import batches, blockers, delivery, leases, measuring, moves, pricelist, statistics
from batchgen.jobtable.batches import StoredBatch
from batchgen.jobtable.blockers import Blocker
from batchgen.jobtable.database import Database
from batchgen.jobtable.delivery import LostFiles
from batchgen.jobtable.measuring import SuspectClips
from batchgen.jobtable.moves import Departure
from batchgen.jobtable.statistics import BatchSummary, Event, LastRun
from batchgen.jobtable.sync import SyncResult
from batchgen.limits.in_force import InForce, read_in_force
from batchgen.manifest import read
from batchgen.services.account import origin_of, read_public_account
from batchgen.services.registry import DEFAULT, plugin
from batchgen.stage import wait_for

FOLLOW_SECONDS = 1.0  # between two reads of the events: a caller needs no more
INTERRUPT_SECONDS = 0.2  # between two checks for Ctrl-C, while another event loop waits for a run
JOB_LOG = logging.getLogger("batchgen.jobs")

T = TypeVar("T")

__all__ = [
    "BatchStatus",
    "Check",
    "OpenRun",
    "RunEvent",
    "RunOptions",
    "Synced",
    "arun",
    "check",
    "enroll_only",
    "open_account",
    "open_run",
    "plan",
    "run",
    "status",
]


@dataclass(frozen=True, slots=True)
class Synced:
    """The manifest is in the job table: the first event of a run."""

    batch: str
    jobs: int
    """How many the manifest has."""
    result: SyncResult


RunEvent = Synced | Event
"""What `on_event` is called with: first `Synced`, then an `Event` whenever a job changes its state."""


@dataclass(frozen=True, slots=True)
class Check:
    """A valid manifest, how many of its jobs each model has, and what may go wrong all the same."""

    batch: str
    jobs: int
    models: Mapping[str, int]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BatchStatus:
    """How a batch stands, what it waits for, why jobs failed, and how many runs are at work on it."""

    batch: StoredBatch
    summary: BatchSummary
    blockers: list[Blocker]
    failures: list[str]
    runs: int
    lost: LostFiles
    """Delivered files that are not there any more."""
    remarks: list[str]
    """What a person should know about delivered files."""
    suspects: SuspectClips
    """Delivered clips that look wrong."""
    last_run: LastRun | None
    move: Departure | None
    """The move that takes the batch to another job table; None where it runs here."""
    in_force: InForce
    """What governs the batch: a pause, limits, the cap; and where each value comes from."""


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

    Where there is no job table, an empty one is used for it and deleted.
    """
    with ExitStack() as stack:
        database, parsed = open_manifest(Path(manifest), options, stack)
        if database is None:
            folder = stack.enter_context(TemporaryDirectory())
            database = stack.enter_context(Database(Path(folder) / "batchgen.db"))
        return complete(plan_run(database, parsed, options))


def check(manifest: str | Path, *, validate: bool = True, online: bool = False) -> Check:
    """Validate a manifest. Raises `ManifestInvalid` with all problems.

    With `online`, fetch its remote images, and try the object stores of its outputs, which may raise `StorageError`.
    """
    location = batches.table_location(None, Path(manifest))

    def learn_models() -> None:
        if batches.table_exists(location):
            with Database(location) as database:
                database.read_now(pricelist.learn_models, DEFAULT)

    valid = read(Path(manifest), validate=validate, learn_models=learn_models)
    if online:
        from batchgen.services.remote_images import problems

        service = read_public_account(plugin(valid.service).variables, valid.folder)
        if unreachable := complete(problems(valid, service.base_url)):
            raise ManifestInvalid(unreachable)
        complete(object_store.probe([job.output for job in valid.jobs]))
    return Check(valid.batch, len(valid.jobs), Counter(job.model for job in valid.jobs), valid.warnings)


def status(
    manifest: str | Path | None = None, *, db: str | Path | None = None, verify: bool = False
) -> list[BatchStatus]:
    """How the batches of a manifest stand; without one, all batches of the job table.

    Whether delivered files are still there is judged by their sizes, with `verify` by their content.
    """
    path = Path(manifest) if manifest else None
    with batches.open_table(db, path) as database:
        stored = batches.batches_of(database, path) if path else database.read_now(batches.stored_batches)
        return [status_of(database, batch, path, verify=verify) for batch in stored]


def origin_in_use(batch: StoredBatch) -> str | None:
    """The origin that a run of the batch would ask; None where that cannot be said."""
    try:
        service = plugin(batch.service)
        return origin_of(read_public_account(service.variables, Path(batch.manifest_path).parent).base_url)
    except (BatchgenError, ValueError):
        return None


def status_of(database: Database, batch: StoredBatch, manifest: Path | None, *, verify: bool) -> BatchStatus:
    now, read_now = clock.utcnow(), database.read_now
    alive = leases.live_runs(database, batch.id)
    runs = len(alive)
    folder = (manifest or Path(batch.manifest_path)).absolute().parent
    # A run at work may have been given another address than this command, and knows best where its jobs are.
    origin = None if runs else origin_in_use(batch)
    waiting = read_now(blockers.blockers, batch.id, now, None, origin)
    return BatchStatus(
        batch,
        read_now(statistics.batch_summary, batch.id, now),
        waiting if runs else [blocker.without_run for blocker in waiting],
        read_now(statistics.failures, batch.id),
        runs,
        read_now(delivery.lost_files, batch.id, folder, verify=verify, until=now + delivery.LOOK_FOR_FILES),
        read_now(delivery.remarks, batch.id),
        read_now(measuring.suspect_clips, batch.id),
        read_now(statistics.last_run, batch.id),
        read_now(moves.departure_of, batch.id),
        read_now(read_in_force, batch.id, alive),
    )


def complete(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, in a thread of its own where this one has a running event loop. Ctrl-C cancels it."""
    try:
        caller = asyncio.current_task()
    except RuntimeError:
        return asyncio.run(coroutine)
    tasks: list[asyncio.Task[Any]] = []

    async def main() -> T:
        tasks.extend(filter(None, [asyncio.current_task()]))
        return await coroutine

    with ThreadPoolExecutor(1, "batchgen-run") as thread:
        result = thread.submit(asyncio.run, main())
        try:
            while not result.done():
                wait([result], INTERRUPT_SECONDS)
                if caller and caller.cancelling():  # asyncio.run() handles Ctrl-C in this way
                    raise asyncio.CancelledError
            return result.result()
        except (KeyboardInterrupt, asyncio.CancelledError):
            for task in tasks:
                task.get_loop().call_soon_threadsafe(task.cancel)
            raise


async def follow(opened: OpenRun, show: Callable[[Event], object], ended: asyncio.Event) -> None:
    """Show every event of a run, until `ended` is set and everything before it was shown."""
    database, batch_id, last = opened.database, opened.spec.synced.batch_id, opened.last_event
    is_last = False
    while not is_last:
        is_last = await wait_for(ended, FOLLOW_SECONDS)
        while (page := await database.read(statistics.events_since, batch_id, last))[1] != last:
            events, last = page
            for event in events:
                log_event(event)
                show(event)


def log_event(event: Event) -> None:
    """Log that a job has changed its state, as `job.<state>` with the fields `job`, `from_state` and `detail`."""
    fields = {"job": event.key, "from_state": event.from_state, "detail": event.detail}
    JOB_LOG.info(f"job.{event.to_state}", extra=fields)
