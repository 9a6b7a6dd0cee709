"""`status`: how batches stand, read from the job table alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from batchgen import clock
from batchgen.errors import BatchgenError
from batchgen.jobtable import batches, commands, delivery, leases, measuring, moves, selection, statistics
from batchgen.jobtable.batches import StoredBatch
from batchgen.jobtable.database import Database
from batchgen.jobtable.delivery import LostFiles
from batchgen.jobtable.measuring import SuspectClips
from batchgen.jobtable.moves import Departure
from batchgen.jobtable.statistics import BatchSummary, StoredRun
from batchgen.limits import blockers
from batchgen.limits.blockers import Blocker, WaitKind
from batchgen.limits.steering import InForce, outdated_failures, read_in_force
from batchgen.services.account import origin_of, read_public_account
from batchgen.services.registry import plugin


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
    outdated: int
    """How many failed jobs the manifest does not ask for any more."""
    given_up: int
    """How many a person gave up, whose answer was lost."""
    standstill: str
    """Why the runs at work submit nothing for now; "" where one of them may."""
    last_run: StoredRun | None
    left_out: int
    """How many pending jobs the selection of the last run leaves out, where no run is at work."""
    move: Departure | None
    """The move that takes the batch to another job table; None where it runs here."""
    in_force: InForce
    """What governs the batch: a pause, limits, the cap; and where each value comes from."""


def status(
    manifest: str | Path | None = None, *, db: str | Path | None = None, simulate: bool = False, verify: bool = False
) -> list[BatchStatus]:
    """How the batches of a manifest, or all of the job table, stand; with `simulate`, only simulated ones.

    Whether delivered files are still there is judged by their sizes, with `verify` by their content.
    """
    path = Path(manifest) if manifest else None
    with batches.open_table(db, path) as database:
        stored = batches.chosen_batches(database, path, simulate=simulate)
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
    waiting = read_now(blockers.blockers, batch.id, now, origin, is_run_at_work=bool(runs))
    last_run = read_now(statistics.last_run, batch.id)
    if standstill := read_now(statistics.standstill, alive):
        waiting = [replace(wait, cause=standstill) if wait.kind is WaitKind.PLACE else wait for wait in waiting]
    selected = last_run.selection if last_run and not runs else None
    return BatchStatus(
        batch,
        read_now(statistics.batch_summary, batch.id, now),
        waiting,
        read_now(statistics.failures, batch.id),
        runs,
        read_now(delivery.lost_files, batch.id, folder, verify=verify, until=now + delivery.LOOK_FOR_FILES),
        read_now(delivery.remarks, batch.id),
        read_now(measuring.suspect_clips, batch.id),
        read_now(outdated_failures, batch.id),
        len(read_now(commands.given_up, batch.id)),
        standstill,
        last_run,
        read_now(selection.left_out_of, batch.id, selected),
        read_now(moves.departure_of, batch.id),
        read_now(read_in_force, batch.id, alive),
    )
