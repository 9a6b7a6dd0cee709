"""The composition root: a manifest, its job table and its service, put together for a run or a plan.

The commands `run` and `plan` use it; the others read the manifest or the job table themselves.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from batchgen import clock
from batchgen.jobtable import selection, sync
from batchgen.jobtable.database import Database
from batchgen.jobtable.selection import Selection
from batchgen.jobtable.sync import Batch, OnChanged
from batchgen.limits.accounting import refresh_prices
from batchgen.limits.budget import Terms
from batchgen.manifest import Manifest, read
from batchgen.plan import Plan, PlanRequest, make_plan
from batchgen.runner import RunSpec
from batchgen.services.base import Service
from batchgen.services.settings import Settings, read_base_url

SIMULATED = "simulated"  # added to the name of a batch, and the folder of its videos
SIMULATED_SPEED = 120.0  # times real speed: a clip of 3 to 4 minutes takes 2 seconds


def read_manifest(path: Path, database: Database | None, *, simulate: bool, validate: bool) -> Manifest:
    """Read a manifest for the service that will run it. Raises `ManifestInvalid`.

    A job that `database` records as sent no longer needs its local images.
    """

    def sent_keys(batch: str) -> Collection[str]:
        name = f"{batch}-{SIMULATED}" if simulate else batch
        return database.read_now(sync.sent_keys, name) if database else ()

    manifest = read(path, validate=validate, already_sent=sent_keys)
    if not simulate or manifest.service == "simulator":
        return manifest
    # The same jobs, in a batch and a folder of their own: nothing real is touched.
    jobs = [replace(job, output=f"{SIMULATED}/{job.output}") for job in manifest.jobs]
    return replace(manifest, batch=f"{manifest.batch}-{SIMULATED}", service="simulator", jobs=jobs)


def batch_of(manifest: Manifest) -> Batch:
    """The identity of a manifest in the job table."""
    return Batch(manifest.batch, manifest.service, manifest.path.absolute(), manifest.sha256)


async def prepare_run(
    database: Database, manifest: Manifest, on_changed: OnChanged, jobs: Selection, until: datetime | None
) -> RunSpec:
    """Write the manifest's jobs to the table and mark the selected ones. Empties `manifest.jobs`.

    Raises `ManifestChanged` where jobs that were sent have been edited, `UsageError` for a wrong selection.
    """
    batch = batch_of(manifest)
    synced = await database.write(sync.sync_manifest, batch, manifest.jobs, clock.utcnow(), on_changed)
    number, models = len(manifest.jobs), tuple(sorted({job.model for job in manifest.jobs}))
    manifest.jobs.clear()  # They are rows now; a run of many hours need not keep them in memory.
    if jobs.mark:
        # The condition comes from a person, so it is evaluated on a connection that cannot write.
        selected = await database.read(selection.find, synced.batch_id, jobs)
        await database.write(selection.mark, jobs, selected)
    terms = Terms(manifest.limits.max_cost, until, jobs.mark)
    return RunSpec(batch, number, synced, manifest.folder, manifest.limits, models, terms)


async def plan_run(database: Database, manifest: Manifest, jobs: Selection, until: datetime | None) -> Plan:
    """What a run would do, at the service's current prices where it can be reached (they are stored)."""
    models = sorted({job.model for job in manifest.jobs})
    async with open_public_service(manifest) as service:
        has_prices = await refresh_prices(database, service, clock.utcnow())
        medians = await service.typical_seconds(models) if has_prices else {}
    request = PlanRequest(batch_of(manifest), manifest.jobs, manifest.limits, jobs, until, medians, has_prices)
    return await make_plan(database, request, clock.utcnow())


def open_service(database: Database, settings: Settings | None, folder: Path) -> AbstractAsyncContextManager[Service]:
    """Connect to the service with `settings`; without them, start a simulator, which stops when the context is left.

    The simulator's ledger lies beside the job table, or in `folder` where the table is not a file.
    """
    if settings is not None:
        return connect(settings.base_url, settings.key)
    table = database.path or folder / "batchgen.db"
    return start_simulator(table.with_name(f"{table.name}.simulator"))


def open_public_service(manifest: Manifest) -> AbstractAsyncContextManager[Service]:
    """The service for requests that need no key. A simulator for it keeps nothing."""
    return start_simulator() if manifest.service == "simulator" else connect(read_base_url(manifest.folder))


@asynccontextmanager
async def connect(base_url: str, key: str = "", name: str = "aimlapi") -> AsyncIterator[Service]:
    """The service at an address; its connections are closed at the end."""
    from batchgen.services.aimlapi import AimlApi

    service = AimlApi(base_url, key, name=name)
    try:
        yield service
    finally:
        await service.close()


@asynccontextmanager
async def start_simulator(ledger: Path | None = None) -> AsyncIterator[Service]:
    """The simulator, started here and stopped at the end. Its ledger is a file, or in memory without one."""
    from batchgen.simulator import Simulation, serve

    async with (
        serve(Simulation(ledger=ledger, speed=SIMULATED_SPEED)) as base_url,
        connect(base_url, "simulated", "simulator") as service,
    ):
        yield service
