"""The composition root: a manifest, its job table and its service, put together for a run or a plan.

The commands `run` and `plan` use it; the others read the manifest or the job table themselves.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
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
from batchgen.services.account import Account, read_account, read_public_account
from batchgen.services.base import Service
from batchgen.services.registry import SIMULATOR, plugin

SIMULATED = "simulated"  # added to the name of a batch, and the folder of its videos


def read_manifest(path: Path, database: Database | None, *, simulate: bool, validate: bool) -> Manifest:
    """Read a manifest for the service that will run it. Raises `ManifestInvalid`.

    A job that `database` records as sent no longer needs its local images.
    """

    def sent_keys(batch: str, service: str) -> Collection[str]:
        name = simulated_name(batch) if simulate or service == SIMULATOR else batch
        return database.read_now(sync.sent_keys, name) if database else ()

    manifest = read(path, validate=validate, already_sent=sent_keys)
    if not simulate and manifest.service != SIMULATOR:
        return manifest
    # The same jobs, in a batch and a folder of their own: nothing real is touched.
    jobs = [replace(job, output=f"{SIMULATED}/{job.output}") for job in manifest.jobs]
    return replace(manifest, batch=simulated_name(manifest.batch), service=SIMULATOR, jobs=jobs)


def simulated_name(batch: str) -> str:
    """The name of a batch's simulation."""
    return f"{batch}-{SIMULATED}"


def batch_of(manifest: Manifest) -> Batch:
    """The identity of a manifest in the job table."""
    return Batch(manifest.batch, manifest.service, manifest.path.absolute(), manifest.sha256)


async def prepare_run(
    database: Database, manifest: Manifest, on_changed: OnChanged, jobs: Selection, until: datetime | None
) -> RunSpec:
    """Write the manifest's jobs to the table, and select among them. Empties `manifest.jobs`.

    Raises `ManifestChanged` where jobs that were sent have been edited, `UsageError` for a wrong selection.
    """
    batch = batch_of(manifest)
    synced = await database.write(sync.sync_manifest, batch, manifest.jobs, clock.utcnow(), on_changed)
    number, models = len(manifest.jobs), tuple(sorted({job.model for job in manifest.jobs}))
    manifest.jobs.clear()  # They are rows now; a run of many hours need not keep them in memory.
    # The condition comes from a person, so it is evaluated on a connection that cannot write.
    selected = await database.read(selection.select_jobs, synced.batch_id, jobs)
    terms = Terms(manifest.limits.max_cost, until, selected)
    return RunSpec(batch, number, synced, manifest.folder, manifest.limits, models, terms, jobs)


async def plan_run(database: Database, manifest: Manifest, jobs: Selection, until: datetime | None) -> Plan:
    """What a run would do, at the service's current prices where it can be reached (they are stored)."""
    models = sorted({job.model for job in manifest.jobs})
    public = read_public_account(plugin(manifest.service).variables, manifest.folder)
    async with open_service(manifest, public) as service:
        has_prices = await refresh_prices(database, service, clock.utcnow())
        medians = await service.typical_seconds(models) if has_prices else {}
    request = PlanRequest(
        *(batch_of(manifest), manifest.jobs, manifest.limits, jobs, until),
        *(medians, has_prices, service.features.keeps_results_for),
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


def account_of(manifest: Manifest) -> Account:
    """The account that runs a manifest. Raises `AccountError`, `UsageError`."""
    return read_account(plugin(manifest.service).variables, manifest.folder)
