"""From a manifest and options to a run that is ready to begin: its job table, its rows, its service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection

from batchgen import clock
from batchgen.api.checking import SIMULATED, simulated_name, stored_name
from batchgen.api.enrolling import batch_of, prepare_run, read_digests
from batchgen.api.options import RunOptions, hooks_of, limits_of, refuse_wrong, selection_of, until_of
from batchgen.context import RunSpec
from batchgen.dry_run import Plan, PlanRequest, make_plan
from batchgen.files.output_paths import simulated_output
from batchgen.hooks.run_hooks import RunHooks
from batchgen.jobtable import batches, pricelist, repeats, statistics, takeover
from batchgen.jobtable.database import Database
from batchgen.jobtable.repeats import RepeatSearch
from batchgen.jobtable.submission import Sender
from batchgen.jobtable.table_lock import PATIENCE_TRIES
from batchgen.jobtable.takeover import Adopter
from batchgen.limits import blockers
from batchgen.limits.accounting import refresh_prices
from batchgen.limits.blockers import Blocker
from batchgen.limits.steering import steering_of
from batchgen.manifest.reader import Manifest, read
from batchgen.runner import Runner
from batchgen.runs.ending import Ending
from batchgen.services.account import Account, read_account, read_public_account
from batchgen.services.base import Service
from batchgen.services.registry import DEFAULT, SIMULATOR, plugin


@dataclass(frozen=True, slots=True)
class OpenRun:
    database: Database
    spec: RunSpec
    runner: Runner
    last_event: int
    """The newest event in the table before the run."""
    elsewhere: list[Blocker]
    """The jobs that were sent to another address, for which the run does not ask."""
    warnings: tuple[str, ...]
    hooks: RunHooks

    async def run(self) -> Ending:
        """Run the batch to its end, with its hooks. Raises `ServiceUnreachable`, `StorageError`, `ManifestChanged`."""
        return await self.hooks.run(self.runner, self.last_event)


@asynccontextmanager
async def open_run(path: Path, options: RunOptions) -> AsyncIterator[OpenRun]:
    """Everything that a run needs. Raises `ManifestInvalid`, `AccountError`, `ManifestChanged`, `StorageError`."""
    location = batches.table_location(options.get("db"), path)
    with ExitStack() as stack:
        database, manifest = open_manifest(path, options, stack, patience=None)
        hooks = hooks_of(options, path)
        stack.callback(hooks.release)
        account = read_account(plugin(manifest.service).variables, manifest.folder)
        # A table is made only now: a wrong manifest or a missing key leaves nothing behind.
        database = database or stack.enter_context(Database(location, patience=None))
        spec = await prepare_run(database, manifest, options)
        warnings = (*manifest.warnings, *spec.synced.warnings)
        last_event = await database.read(statistics.last_event)
        async with connect(manifest.service, manifest.folder, account, database) as service:
            elsewhere, _ = await database.read(blockers.elsewhere, spec.synced.batch_id, service.origin)
            yield OpenRun(database, spec, Runner(database, service, spec), last_event, elsewhere, warnings, hooks)


async def enroll_only(path: Path, options: RunOptions) -> RunSpec:
    """Write a manifest's jobs into the table, and leave them to workers. Needs no key.

    What a person says of repeats is done for those that the table knows. Those that only the service's log has are for
    a worker. Raises `ManifestInvalid`, `ManifestChanged`, `StorageError`.
    """
    location = batches.table_location(options.get("db"), path)
    with ExitStack() as stack:
        database, manifest = open_manifest(path, options, stack, patience=None)
        database = database or stack.enter_context(Database(location, patience=None))
        spec = await prepare_run(database, manifest, options)
        if spec.on_changed != "refuse":
            await database.write(settle_known, spec, clock.utcnow())
        return spec


def settle_known(connection: Connection, spec: RunSpec, now: datetime) -> None:
    """Do with the repeats that the job table knows what a person said."""
    synced, service = spec.synced, spec.batch.service
    search = RepeatSearch(synced.batch_id, service, spec.folder, synced.orphans, selected=spec.selected)
    matches = repeats.compare(connection, search).repeats
    adopter = Adopter(Sender("", service, ""), plugin(service).handle_of, now, spec.limits.deadline_at(now))
    said = takeover.decision_on(matches, spec.on_changed, synced.redone)
    takeover.settle(connection, matches, spec.folder, adopter, said, synced.redone)


def open_manifest(
    path: Path, options: RunOptions, stack: ExitStack, patience: int | None = PATIENCE_TRIES
) -> tuple[Database | None, Manifest]:
    refuse_wrong(options)
    location = batches.table_location(options.get("db"), path)
    database = stack.enter_context(Database(location, patience=patience)) if batches.table_exists(location) else None
    simulate, validate = options.get("simulate") or False, options.get("validate") is not False
    return database, read_manifest(path, database, simulate=simulate, validate=validate)


def read_manifest(path: Path, database: Database | None, *, simulate: bool, validate: bool) -> Manifest:
    """Read a manifest for the service that will run it. Raises `ManifestInvalid`.

    A job that `database` records as sent no longer needs its local images.
    """

    def sent_keys(batch: str, service: str) -> Collection[str]:
        name = stored_name(batch, SIMULATOR if simulate else service)
        return database.read_now(batches.sent_keys, name) if database else ()

    def learn_models() -> None:
        if database:
            database.read_now(pricelist.learn_models, DEFAULT)

    manifest = read(path, validate=validate, already_sent=sent_keys, learn_models=learn_models)
    if not simulate and manifest.service != SIMULATOR:
        return manifest
    # The same jobs, in a batch and a folder of their own: nothing real is touched.
    jobs = [replace(job, output=simulated_output(job.output, SIMULATED)) for job in manifest.jobs]
    return replace(manifest, batch=simulated_name(manifest.batch), service=SIMULATOR, jobs=jobs)


async def plan_run(database: Database, manifest: Manifest, options: RunOptions) -> Plan:
    """What a run would do, at the service's current prices where it can be reached (they are stored)."""
    steering = await database.read(steering_of, manifest.batch)
    limits, selection = steering.limits(limits_of(manifest.limits, options)), selection_of(options)
    models = sorted({job.model for job in manifest.jobs})
    public = read_public_account(plugin(manifest.service).variables, manifest.folder)
    async with connect(manifest.service, manifest.folder, public, None) as service:
        has_prices = await refresh_prices(database, service, clock.utcnow())
        medians = await service.typical_seconds(models) if has_prices else {}
    request = PlanRequest(
        batch=batch_of(manifest),
        specs=manifest.jobs,
        digests=await read_digests(database, manifest),
        limits=limits,
        selection=selection,
        until=steering.until(until_of(options)),
        medians=medians,
        features=service.features,
        has_live_prices=has_prices,
        warnings=manifest.warnings,
    )
    return await make_plan(database, request, clock.utcnow())


def open_account(database: Database, service: str, folder: Path) -> AbstractAsyncContextManager[Service]:
    """Connect to the service of a batch with the account that its manifest's folder names. Raises `AccountError`."""
    return connect(service, folder, read_account(plugin(service).variables, folder), database)


def connect(
    service: str, folder: Path, account: Account, database: Database | None
) -> AbstractAsyncContextManager[Service]:
    """Connect to a service by its name. What it keeps itself lies beside the job table, if there is a `database`."""
    state = None
    if database:
        table = database.path or folder / "batchgen.db"
        state = table.with_name(f"{table.name}.{service}")
    return plugin(service).open(account, state)
