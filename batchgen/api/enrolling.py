"""A manifest becomes rows of the job table, and what a run may send of them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Connection

from batchgen import clock
from batchgen.api.options import RunOptions, limits_of, selection_of, typed_json, until_of
from batchgen.context import RunSpec
from batchgen.errors import ManifestChanged, StorageError, os_reason
from batchgen.files import local_files
from batchgen.files.local_files import NO_INPUT, FileDigests
from batchgen.files.output_paths import is_url
from batchgen.jobtable import fingerprint, settings, sync, takeover
from batchgen.jobtable.batches import Batch
from batchgen.jobtable.database import Database
from batchgen.jobtable.repeats import RepeatSearch, compare
from batchgen.jobtable.rows import ids_of, keys_of
from batchgen.jobtable.selection import Selection, select_jobs, selected_of
from batchgen.jobtable.sync import OnChanged, SyncResult
from batchgen.limits.steering import EnrolledManifest
from batchgen.manifest.reader import Manifest


def batch_of(manifest: Manifest) -> Batch:
    return Batch(manifest.batch, manifest.service, manifest.path.absolute(), manifest.sha256)


async def read_digests(database: Database, manifest: Manifest) -> FileDigests:
    """The digests of the manifest's local files. Only what has changed since it was sent is read."""
    if not any(job.input_pointers for job in manifest.jobs):
        return FileDigests(manifest.folder)
    recorded = await database.read(fingerprint.recorded_digests, manifest.batch)
    return await asyncio.to_thread(fingerprint.read_digests, manifest.folder, manifest.jobs, recorded)


async def prepare_run(database: Database, manifest: Manifest, options: RunOptions) -> RunSpec:
    """Write the manifest's jobs to the table, and select among them. Empties `manifest.jobs`.

    Raises `ManifestChanged` where jobs that were sent have been edited, `UsageError` for a wrong selection.
    """
    batch, selection = batch_of(manifest), selection_of(options)
    on_changed = options.get("changed") or "refuse"
    digests = await read_digests(database, manifest)
    await store_inputs(manifest, digests)
    now, chosen = clock.utcnow(), None
    if on_changed == "redo" and not selection.is_everything:  # An edited job that is not sent now is not made again.
        chosen = await database.write(chosen_keys, batch, manifest, selection, now, digests)
    synced = await database.write(enroll, batch, manifest, selection, now, on_changed, digests, chosen)
    job_count, models = len(manifest.jobs), tuple(sorted({job.model for job in manifest.jobs}))
    manifest.jobs.clear()  # They are rows now; a run of many hours need not keep them in memory.
    # The condition comes from a person, so it is evaluated on a connection that cannot write.
    if chosen is None:
        selected = await database.read(select_jobs, synced.batch_id, selection, synced.gone_after)
    else:  # A new version of a job has another place in the order.
        selected = await database.read(selected_of, sorted(await database.read(ids_of, synced.batch_id, chosen)))
    return RunSpec(
        batch=batch,
        jobs=job_count,
        synced=synced,
        folder=manifest.folder,
        limits=limits_of(manifest.limits, options),
        models=models,
        until=until_of(options),
        selected=selected,
        selection=selection,
        on_changed=on_changed,
        typed=typed_json(options),
        waits_for_credits=options.get("wait_for_credits", False),
        verify=options.get("verify", False),
    )


def chosen_keys(
    connection: Connection, batch: Batch, manifest: Manifest, selection: Selection, now: datetime, digests: FileDigests
) -> Collection[str] | None:
    """The jobs of the manifest, as it is now, that a run with this selection may send, by their keys; None for all."""
    with connection.begin_nested() as savepoint:
        synced = sync.sync_manifest(connection, batch, manifest.jobs, now, digests=digests, is_trial=True)
        selected = select_jobs(connection, synced.batch_id, selection, synced.gone_after)
        keys = None if selected is None else keys_of(connection, selected.ids)
        savepoint.rollback()
    return keys


def enroll(
    connection: Connection,
    batch: Batch,
    manifest: Manifest,
    selection: Selection,
    now: datetime,
    on_changed: OnChanged,
    digests: FileDigests,
    chosen: Collection[str] | None = None,
) -> SyncResult:
    """Bring the job table up to date with a manifest, and keep what it says beyond its jobs for workers."""
    try:
        synced = sync.sync_manifest(connection, batch, manifest.jobs, now, on_changed, digests, chosen=chosen)
    except ManifestChanged as error:
        beside = repeats_beside(connection, batch, manifest, selection, now, digests)
        raise ManifestChanged(f"{error}{beside}") from None
    # By their keys, which stay when the batch moves to another table.
    edited = keys_of(connection, synced.edited_after)
    enrolled = EnrolledManifest(manifest.limits, keys_of(connection, synced.orphans), edited)
    settings.record_manifest(
        connection,
        batch_id=synced.batch_id,
        manifest=str(enrolled),
        now=now,
        by=settings.person(),
        has_changes=synced.has_changes,
    )
    return synced


def repeats_beside(
    connection: Connection, batch: Batch, manifest: Manifest, selection: Selection, now: datetime, digests: FileDigests
) -> str:
    """What a person who is asked about edited jobs should know of repeats, in a transaction that is rolled back: keep
    is said of both, and redo of the edited jobs alone."""
    synced = sync.sync_manifest(connection, batch, manifest.jobs, now, digests=digests, is_trial=True)
    selected = select_jobs(connection, synced.batch_id, selection, synced.gone_after)
    search = RepeatSearch(synced.batch_id, batch.service, manifest.folder, synced.orphans, selected=selected)
    matches = compare(connection, search).repeats
    keep = "\nkeep takes these over as well; after redo, you are asked about them."
    return f"\nBesides, {takeover.list_text(matches)}{keep}" if matches else ""


async def store_inputs(manifest: Manifest, digests: FileDigests) -> None:
    """Store the local files of jobs with outputs in an object store, for other machines. Raises `StorageError`."""
    names: dict[str, str] = {}
    for job in manifest.jobs:
        for name in fingerprint.local_names(job) if is_url(job.output) else ():
            sha256 = digests.of(name)
            if sha256 and sha256 != NO_INPUT:
                names[local_files.url_of(job.output, sha256)] = name
    try:
        await local_files.store(manifest.folder, names)
    except* OSError as errors:
        error = errors.exceptions[0]
        reason = os_reason(error)
        raise StorageError(f"the local files of jobs cannot be stored: {reason}. Nothing has been sent.") from None
