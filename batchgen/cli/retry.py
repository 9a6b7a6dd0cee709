"""The command `batchgen retry`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import click

from batchgen import clock
from batchgen.catalogue.wording import plural
from batchgen.cli import options
from batchgen.cli.batches import job_keys, open_batch
from batchgen.cli.steering import goes_on_line, notify_runs, show_jobs
from batchgen.errors import StorageError, UsageError
from batchgen.jobs import State
from batchgen.jobtable import commands, delivery
from batchgen.jobtable.database import Database
from batchgen.jobtable.kinds import SettingName
from batchgen.limits.steering import deadline_after, orphans_of
from batchgen.report.formats import shortened
from batchgen.report.settings import runs_line

LEFT_ALONE = (
    "the manifest, as it was last run, does not ask for this. A run without --changed keep goes by the manifest; or"
    " cancel the job"
)
"""Why failed jobs stay as they are, and what a person does about them."""


@options.jobs_of_batch
@click.option(
    "--download",
    is_flag=True,
    help="Only fetch what is paid for: again, where a delivered file was lost. Never sends a new request.",
)
@click.option("--new", is_flag=True, help="Pay for a new generation, although the last one may have been charged.")
def command(
    manifest: Path, ids: tuple[str, ...], db: str | None, simulate: bool, as_json: bool, download: bool, new: bool
) -> None:
    """Runs at work take the retried jobs up within two seconds. Otherwise, `batchgen run` goes on with them.

    A generation that may have been charged is asked for again first, for nothing. A job that was certainly not charged
    is submitted again. Without IDS: every failed job, with --download also every delivered one whose file is lost. A
    job that was cancelled, or given up by `resolve`, is retried only if its id is typed, or a shell pattern that fits
    it, in quotes: 'hero-*'.
    """
    if download and new:
        raise UsageError("--download fetches what is paid for, --new pays again: choose one")
    with open_batch(db, manifest, simulate, steers=True) as (database, batch):
        given_up = [] if ids else database.read_now(commands.given_up, batch.id)
        keys, lost = choose_jobs(database, batch.id, manifest, ids, given_up, download=download)
        jobs = change_rows(database, batch.id, keys, lost, download=download, new=new)
        moved = {key for changed in jobs.values() for key in changed}
        runs = notify_runs(database, batch.id, SettingName.RETRIED, len(moved))
    rest = [key for key in keys if key not in moved]
    left = LEFT_ALONE if rest and not download else "there is nothing to retry"
    hint, following = runs_line(runs) if moved else left, "status" if runs else "run"
    lines = lines_of(jobs, rest, given_up, free_only=download, are_named=bool(ids))
    notes = [goes_on_line(runs)]
    if jobs["asked_again"]:
        notes.append("Where the service has nothing any more: --new pays for a new generation.")
    show_jobs(jobs, *lines, hint=hint, next_command=following, notes=notes, as_json=as_json)


def choose_jobs(
    database: Database, batch_id: int, manifest: Path, ids: Sequence[str], given_up: Collection[str], *, download: bool
) -> tuple[list[str], dict[str, list[int]]]:
    """The jobs to retry, without those `given_up`, and the numbers of their lost files.

    Raises `UsageError`, `StorageError`.
    """
    retriable = {state for state in State if state.is_retriable}
    allowed = {*retriable, State.DONE}
    by_pattern = allowed if download else retriable
    states = job_keys(
        database, batch_id, ids, default={State.FAILED}, by_pattern=by_pattern, allowed=allowed, verb="retried"
    )
    lost = find_lost(database, batch_id, manifest, states, ids) if ids or download else {}
    chosen = [key for key, state in states.items() if key in lost or state is not State.DONE]
    return [key for key in chosen if key not in given_up], lost


def change_rows(
    database: Database,
    batch_id: int,
    keys: Sequence[str],
    lost: Mapping[str, Sequence[int]],
    *,
    download: bool,
    new: bool,
) -> dict[str, list[str]]:
    """Let the jobs go on: with `new` by a new generation, else for nothing where that may be.

    Returns the ids by what happens: pending again, its generation asked for again, its lost files fetched again.
    """
    now, orphans = clock.utcnow(), database.read_now(orphans_of, batch_id)
    resumed: list[str] = []
    if new:
        pending = database.write_now(commands.retry, batch_id, keys, now, orphans)
    else:
        deadline_at = database.read_now(deadline_after, batch_id, now)
        resumed, pending = database.write_now(
            commands.retry_for_nothing, batch_id, keys, now, deadline_at, orphans, may_buy=not download
        )
    fetched = database.write_now(commands.fetch_again, batch_id, lost, now)
    return {"pending": pending, "asked_again": resumed, "fetched_again": fetched}


def find_lost(
    database: Database, batch_id: int, manifest: Path, states: Mapping[str, State], ids: Sequence[str]
) -> dict[str, list[int]]:
    """For each job, the numbers of its delivered files that are lost.

    With `ids`, every file of these jobs is read. Without, file sizes of all jobs are compared first; only if all sizes
    fit is every file read. Raises `UsageError` for a job that was typed by its id and whose files are all there.
    """
    numbers: dict[str, list[int]] = {}
    folder = manifest.absolute().parent
    lost = database.read_now(delivery.lost_files, batch_id, folder, list(states) if ids else None, verify=bool(ids))
    if not ids and not lost.files and not lost.unreadable:
        lost = database.read_now(delivery.lost_files, batch_id, folder, verify=True)
    if lost.unreadable:
        raise StorageError(f"delivered files cannot be looked at: {lost.unreadable}. Nothing has been changed.")
    for missing in lost.files:
        numbers.setdefault(missing.file.key, []).append(missing.file.number)
    typed = [key for key in states if key in ids]
    if whole := [key for key in typed if states[key] is State.DONE and key not in numbers]:
        raise UsageError(
            f"{shortened(whole)}: delivered, and the file is there as it was. Nothing has been changed.\n"
            "For another video of the same request, add a job with another id, or `count:`, to the manifest."
        )
    return numbers


def lines_of(
    jobs: Mapping[str, Sequence[str]], rest: list[str], given_up: list[str], *, free_only: bool, are_named: bool
) -> list[str]:
    """What happens to the jobs, of which `rest` and those `given_up` stay as they are."""
    becomes = {
        "pending": " pending again",
        "asked_again": ": the service will be asked again what became of the same request, for nothing",
        "fetched_again": ": the file will be fetched again, for nothing",
    }
    lines = [f"{plural(len(keys), 'job')}{becomes[name]}: {shortened(keys)}" for name, keys in jobs.items() if keys]
    if rest and free_only:
        lines.append(f"{shortened(rest)}: the service has accepted nothing for it that could be fetched")
    elif rest and not lines:
        lines.append(f"{shortened(rest)}: {LEFT_ALONE}")
    if given_up:
        lines.append(f"{shortened(given_up)}: given up by a person, and retried only where the id is typed")
    if not lines:
        subject = "none of these jobs has failed or lost its file" if are_named else "no job has failed"
        lines.append(f"{subject}: there is nothing to retry")
    return lines
