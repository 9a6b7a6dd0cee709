"""The command `batchgen retry`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from batchgen import clock
from batchgen.catalogue.wording import plural
from batchgen.cli import options
from batchgen.cli.batches import job_keys, open_batch
from batchgen.cli.changes import print_changed
from batchgen.cli.steering import notify_runs
from batchgen.errors import StorageError, UsageError
from batchgen.jobs import State
from batchgen.jobtable import commands, delivery
from batchgen.jobtable.database import Database
from batchgen.jobtable.kinds import SettingName
from batchgen.limits.steering import deadline_after
from batchgen.report.formats import shortened
from batchgen.report.settings import runs_line
from batchgen.report.terminal import print_lines


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
    """Runs at work take them up within two seconds; otherwise, `batchgen run` goes on with them.

    A generation that may have been charged is asked for again first, for nothing. A job that was certainly not charged
    is submitted again. Without IDS: every failed job, with --download also every delivered one whose file is lost. A
    cancelled job is retried only if its id is typed, or a shell pattern that fits it, in quotes: 'hero-*'.
    """
    if download and new:
        raise UsageError("--download and --new exclude one another")
    retriable = {state for state in State if state.is_retriable}
    now = clock.utcnow()
    with open_batch(db, manifest, simulate) as (database, batch):
        allowed = {*retriable, State.DONE}
        by_pattern = allowed if download else retriable
        keys = job_keys(
            *(database, batch.id, ids), default={State.FAILED}, by_pattern=by_pattern, allowed=allowed, verb="retried"
        )
        lost = find_lost(database, batch.id, manifest, keys, ids) if ids or download else {}
        states = database.read_now(commands.states_of, batch.id, keys)
        keys = [key for key in keys if key in lost or states[key] is not State.DONE]
        pending: list[str] = []
        resumed: list[str] = []
        if new:
            pending = database.write_now(commands.retry, batch.id, keys, now)
        else:
            deadline_at = database.read_now(deadline_after, batch.id, now)
            resumed, pending = database.write_now(
                commands.retry_for_nothing, batch.id, keys, now, deadline_at, may_buy=not download
            )
        fetched = database.write_now(commands.fetch_again, batch.id, lost, now)
        number = len({*pending, *resumed, *fetched})
        runs = notify_runs(database, batch.id, SettingName.RETRIED, number)
    if as_json:
        hint = runs_line(runs) if number else "there is nothing to retry"
        following = "status" if runs or not number else "run"
        print_changed({"pending": pending, "asked_again": resumed, "fetched_again": list(fetched)}, hint, following)
    else:
        report(keys, resumed, pending, fetched, free_only=download, runs=runs, are_named=bool(ids))


def find_lost(
    database: Database, batch_id: int, manifest: Path, keys: Sequence[str], ids: Sequence[str]
) -> dict[str, list[int]]:
    """The numbers of the delivered files that are lost, by job: of these jobs, or where no `ids` were typed, of all.

    Of all jobs, those whose size is another are lost. Only where there is none, every file is read: one of them may
    have another content. Raises `UsageError` for a job that was typed by its id and whose files are all there.
    """
    numbers: dict[str, list[int]] = {}
    folder = manifest.absolute().parent
    lost = database.read_now(delivery.lost_files, batch_id, folder, keys if ids else None, verify=bool(ids))
    if not ids and not lost.files and not lost.obstacle:
        lost = database.read_now(delivery.lost_files, batch_id, folder, verify=True)
    if lost.obstacle:
        raise StorageError(f"delivered files cannot be looked at: {lost.obstacle}. Nothing has been changed.")
    for missing in lost.files:
        numbers.setdefault(missing.file.key, []).append(missing.file.number)
    states = database.read_now(commands.states_of, batch_id, ids)
    if whole := [key for key, state in states.items() if state is State.DONE and key not in numbers]:
        raise UsageError(
            f"{shortened(whole)}: delivered, and the file is there as it was. Nothing has been changed.\n"
            "For another video of the same request, add a job with another id, or `count:`, to the manifest."
        )
    return numbers


def report(
    keys: Sequence[str],
    resumed: Sequence[str],
    pending: Sequence[str],
    fetched: Sequence[str],
    *,
    free_only: bool,
    runs: int,
    are_named: bool,
) -> None:
    """Say what happens to the jobs, what it costs, and what comes next."""
    if pending:
        print_lines(f"{plural(len(pending), 'job')} pending again: {shortened(pending)}")
    if resumed:
        print_lines(
            f"{plural(len(resumed), 'job')}: the same generation is asked for again, for nothing: {shortened(resumed)}"
        )
    if fetched:
        print_lines(f"{plural(len(fetched), 'job')}: the file is fetched again, for nothing: {shortened(fetched)}")
    moved = {*pending, *resumed, *fetched}
    rest = [key for key in keys if key not in moved]
    if rest and free_only:
        print_lines(f"{shortened(rest)}: the service has accepted nothing for it that could be fetched")
    if not moved and not rest:
        subject = "none of these jobs has failed or lost its file" if are_named else "no job has failed"
        print_lines(f"{subject}: there is nothing to retry")
    if runs:
        print_lines(runs_line(runs), err=True)
    elif moved:
        print_lines(f"Next: {options.quoted_command('run')}", err=True)
    if resumed:
        print_lines("Where the service has nothing any more: --new pays for a new generation.", err=True)
