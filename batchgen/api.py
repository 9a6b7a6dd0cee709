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
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypedDict, TypeVar, Unpack

from batchgen import clock
from batchgen.dry_run import Plan, PlanRequest, make_plan
from batchgen.ending import RunResult
from batchgen.errors import BatchgenError, ManifestInvalid, UsageError
from batchgen.files import liveness
from batchgen.files.local_files import FileDigests
from batchgen.files.outputs import OutputFolder
from batchgen.jobtable import batches, blockers, delivery, fingerprint, leases, pricelist, selection, statistics, sync
from batchgen.jobtable.batches import StoredBatch
from batchgen.jobtable.blockers import Blocker
from batchgen.jobtable.database import Database
from batchgen.jobtable.delivery import LostFiles
from batchgen.jobtable.selection import Selection
from batchgen.jobtable.statistics import BatchSummary, EndedRun, Event
from batchgen.jobtable.sync import Batch, OnChanged, SyncResult
from batchgen.jobtable.table_lock import PATIENCE_TRIES
from batchgen.limits.accounting import refresh_prices
from batchgen.limits.budget import Terms
from batchgen.manifest import Limits, Manifest, read
from batchgen.runner import Runner
from batchgen.services.account import Account, origin_of, read_account, read_public_account
from batchgen.services.base import Service
from batchgen.services.registry import DEFAULT, SIMULATOR, plugin
from batchgen.stage import RunSpec, wait_for

SIMULATED = "simulated"  # added to the name of a batch, and the folder of its videos
FOLLOW_SECONDS = 1.0  # between two reads of the events: a caller needs no more
INTERRUPT_SECONDS = 0.2  # between two checks for Ctrl-C, while another event loop waits for a run
JOB_LOG = logging.getLogger("batchgen.jobs")

T = TypeVar("T")


class RunOptions(TypedDict, total=False):
    """The options of `run`, `arun` and `plan`, as on the command line. None is the same as to leave one out."""

    db: str | Path | None
    """The job table: a file or an SQLAlchemy URL. Default: BATCHGEN_DB, else batchgen.db beside the manifest."""
    simulate: bool
    validate: bool
    changed: OnChanged | None
    """What to do with jobs that were edited after they were sent, or that were paid for before under another name."""
    only: Collection[str]
    """Shell patterns of ids."""
    where: str | None
    sample: int | None
    limit: int | None
    until: datetime | None
    submits_per_minute: float | Literal["auto"] | None
    in_flight: int | Literal["auto"] | None
    downloads: int | None
    max_cost: float | str | Decimal | None
    """USD. A float means what it shows: 0.1 is exactly 0.1."""
    verify: bool
    """Whether the delivered files are compared with their SHA-256 at the end; otherwise, with their sizes."""


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
    last_run: EndedRun | None


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run that is ready to begin."""

    database: Database
    spec: RunSpec
    runner: Runner
    last_event: int
    """The newest event in the table before the run."""
    elsewhere: list[Blocker]
    """The jobs that were sent to another address, for which the run does not ask."""
    warnings: tuple[str, ...] = ()
    """What may go wrong although the manifest is valid."""


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
        running = asyncio.create_task(opened.runner.run())
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
        return complete(plan_run(database, parsed, selection_of(options), until_of(options)))


def check(manifest: str | Path, *, validate: bool = True, online: bool = False) -> Check:
    """Validate a manifest, and with `online` fetch its remote images. Raises `ManifestInvalid` with all problems."""
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
    unended = read_now(leases.unended, batch.id)
    runs = len(unended) - len(liveness.dead(database.path, unended))
    folder = (manifest or Path(batch.manifest_path)).absolute().parent
    # A run at work may have been given another address than this command, and knows best where its jobs are.
    origin = None if runs else origin_in_use(batch)
    return BatchStatus(
        batch,
        read_now(statistics.batch_summary, batch.id, now),
        read_now(blockers.blockers, batch.id, now, None, origin),
        read_now(statistics.failures, batch.id),
        runs,
        read_now(delivery.lost_files, batch.id, folder, verify=verify, until=now + delivery.LOOK_FOR_FILES),
        read_now(delivery.remarks, batch.id),
        read_now(statistics.last_run, batch.id),
    )


# --- from options to a run -------------------------------------------------------------------------------------------


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


@asynccontextmanager
async def open_run(path: Path, options: RunOptions) -> AsyncIterator[OpenRun]:
    """Everything that a run needs. Raises `ManifestInvalid`, `AccountError`, `ManifestChanged`, `StorageError`."""
    with ExitStack() as stack:
        database, manifest = open_manifest(path, options, stack, patience=None)
        account = read_account(plugin(manifest.service).variables, manifest.folder)
        # A table is made only now: a wrong manifest or a missing key leaves nothing behind.
        database = database or stack.enter_context(
            Database(batches.table_location(options.get("db"), path), patience=None)
        )
        warnings = manifest.warnings
        spec = await prepare_run(database, manifest, options)
        last_event = await database.read(statistics.last_event)
        async with open_service(manifest, account, database) as service:
            elsewhere = await database.read(blockers.elsewhere, spec.synced.batch_id, service.origin)
            yield OpenRun(database, spec, Runner(database, service, spec), last_event, elsewhere, warnings)


def open_manifest(
    path: Path, options: RunOptions, stack: ExitStack, patience: int | None = PATIENCE_TRIES
) -> tuple[Database | None, Manifest]:
    """The job table, if there is one, and the manifest with the limits that the options name instead of its own."""
    refuse_wrong(options)
    location = batches.table_location(options.get("db"), path)
    database = stack.enter_context(Database(location, patience=patience)) if batches.table_exists(location) else None
    simulate, validate = options.get("simulate", False), options.get("validate", True)
    manifest = read_manifest(path, database, simulate=simulate, validate=validate)
    return database, replace(manifest, limits=limits_of(manifest.limits, options))


def read_manifest(path: Path, database: Database | None, *, simulate: bool, validate: bool) -> Manifest:
    """Read a manifest for the service that will run it. Raises `ManifestInvalid`.

    A job that `database` records as sent no longer needs its local images.
    """

    def sent_keys(batch: str, service: str) -> Collection[str]:
        name = simulated_name(batch) if simulate or service == SIMULATOR else batch
        return database.read_now(sync.sent_keys, name) if database else ()

    def learn_models() -> None:
        if database:
            database.read_now(pricelist.learn_models, DEFAULT)

    manifest = read(path, validate=validate, already_sent=sent_keys, learn_models=learn_models)
    if not simulate and manifest.service != SIMULATOR:
        return manifest
    # The same jobs, in a batch and a folder of their own: nothing real is touched.
    jobs = [replace(job, output=f"{SIMULATED}/{job.output}") for job in manifest.jobs]
    return replace(manifest, batch=simulated_name(manifest.batch), service=SIMULATOR, jobs=jobs)


def simulated_name(batch: str) -> str:
    """The name of a batch's simulation."""
    return f"{batch}-{SIMULATED}"


def refuse_wrong(options: RunOptions) -> None:
    """Raises `TypeError` for an option that does not exist (it may be a cap), `UsageError` for an impossible value."""
    if unknown := options.keys() - RunOptions.__annotations__.keys():
        raise TypeError(f"there is no option {' and '.join(sorted(unknown))}")
    if options.get("changed") not in (None, "refuse", "keep", "redo"):
        raise UsageError(f"changed: {options['changed']!r} is neither refuse, keep nor redo")
    for name, value in options.items():
        is_number = name in ("sample", "limit", "in_flight", "downloads") and value not in (None, "auto")
        if is_number and not (isinstance(value, int) and value > 0):
            raise UsageError(f"{name}: {value!r} is not a number of at least 1")


def until_of(options: RunOptions) -> datetime | None:
    """The time that the options name, in this machine's time zone unless it has one."""
    until = options.get("until")
    return until.astimezone() if until else None


def limits_of(manifest_limits: Limits, options: RunOptions) -> Limits:
    """The manifest's limits, with those of the options instead. Raises `UsageError` for an amount that is none."""
    names = ("submits_per_minute", "in_flight", "downloads", "max_cost")
    limits: dict[str, Any] = {name: value for name, value in options.items() if name in names and value is not None}
    if "max_cost" in limits:
        limits["max_cost"] = amount_of(limits["max_cost"])
    return replace(manifest_limits, **limits)


def amount_of(value: float | str | Decimal) -> Decimal:
    """An exact amount in USD, more than zero. Raises `UsageError`."""
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or amount <= 0:
        raise UsageError(f"max_cost: {value!r} is not an amount in USD, such as 50.00")
    return amount


def selection_of(options: RunOptions) -> Selection:
    """The jobs that the options select."""
    only = options.get("only", ())
    patterns = (only,) if isinstance(only, str) else tuple(only)
    return Selection(patterns, options.get("where"), options.get("sample"), options.get("limit"))


def batch_of(manifest: Manifest) -> Batch:
    """The identity of a manifest in the job table."""
    return Batch(manifest.batch, manifest.service, manifest.path.absolute(), manifest.sha256)


async def read_digests(database: Database, manifest: Manifest) -> FileDigests:
    """The digests of the manifest's local files. Only what has changed since it was sent is read."""
    recorded = await database.read(fingerprint.recorded_digests, manifest.batch)
    return await asyncio.to_thread(fingerprint.read_digests, manifest.folder, manifest.jobs, recorded)


async def prepare_run(database: Database, manifest: Manifest, options: RunOptions) -> RunSpec:
    """Write the manifest's jobs to the table, and select among them. Empties `manifest.jobs`.

    Raises `ManifestChanged` where jobs that were sent have been edited, `UsageError` for a wrong selection.
    """
    batch, jobs = batch_of(manifest), selection_of(options)
    OutputFolder(manifest.folder).judge_folders(job.output for job in manifest.jobs)
    on_changed = options.get("changed") or "refuse"
    digests = await read_digests(database, manifest)
    synced = await database.write(sync.sync_manifest, batch, manifest.jobs, clock.utcnow(), on_changed, digests)
    number, models = len(manifest.jobs), tuple(sorted({job.model for job in manifest.jobs}))
    manifest.jobs.clear()  # They are rows now; a run of many hours need not keep them in memory.
    # The condition comes from a person, so it is evaluated on a connection that cannot write.
    selected = await database.read(selection.select_jobs, synced.batch_id, jobs)
    terms = Terms(manifest.limits.max_cost, until_of(options), selected)
    verify = options.get("verify", False)
    return RunSpec(batch, number, synced, manifest.folder, manifest.limits, models, terms, jobs, on_changed, verify)


async def plan_run(database: Database, manifest: Manifest, jobs: Selection, until: datetime | None) -> Plan:
    """What a run would do, at the service's current prices where it can be reached (they are stored)."""
    models = sorted({job.model for job in manifest.jobs})
    public = read_public_account(plugin(manifest.service).variables, manifest.folder)
    async with open_service(manifest, public) as service:
        has_prices = await refresh_prices(database, service, clock.utcnow())
        medians = await service.typical_seconds(models) if has_prices else {}
    request = PlanRequest(
        *(batch_of(manifest), manifest.jobs, await read_digests(database, manifest), manifest.limits, jobs, until),
        *(medians, has_prices, service.features.keeps_results_for),
        warnings=manifest.warnings,
    )
    return await make_plan(database, request, clock.utcnow())


def open_service(
    manifest: Manifest, account: Account, database: Database | None = None
) -> AbstractAsyncContextManager[Service]:
    """Connect to the manifest's service; it is closed when the context is left.

    What the service keeps itself, as a simulator does, lies beside the job table, or in the manifest's folder where the
    table is not a file. Without `database` it keeps nothing.
    """
    state = None
    if database:
        table = database.path or manifest.folder / "batchgen.db"
        state = table.with_name(f"{table.name}.{manifest.service}")
    return plugin(manifest.service).open(account, state)


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
