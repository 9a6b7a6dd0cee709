"""The command `batchgen cancel`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from batchgen import clock
from batchgen.catalogue.wording import plural
from batchgen.cli import options
from batchgen.cli.batches import job_keys, open_batch
from batchgen.cli.steering import notify_runs, print_changed
from batchgen.errors import BatchgenError
from batchgen.jobs import CHARGES, State
from batchgen.jobtable import commands
from batchgen.jobtable.batches import StoredBatch
from batchgen.jobtable.database import Database
from batchgen.jobtable.kinds import SettingName
from batchgen.report.formats import shortened
from batchgen.report.settings import runs_line
from batchgen.report.terminal import print_lines

IDS_TYPED = 20  # in the command that takes them up again
PAID_AGAIN = "a retry of what the service has ended is a new generation, which is paid for"


@options.jobs_of_batch
def command(manifest: Path, ids: tuple[str, ...], db: str | None, simulate: bool, as_json: bool) -> None:
    """Runs leave them alone from now on. Without IDS: every job that has not been sent. An ID may be a shell pattern,
    in quotes, for those of them that it fits: 'hero-*'.

    A job that was sent is cancelled only if its id is typed. The service is asked to end its generation where it can
    be; the others may be finished and charged all the same. Runs at work act on it within two seconds.
    `batchgen retry MANIFEST ID` takes up a cancelled job again, and asks for what was paid first; what the service has
    ended is a new generation then.
    """
    cancellable = {state for state in State if state.is_cancellable}
    with open_batch(db, manifest, simulate, steers=True) as (database, batch):
        pending = {State.PENDING}
        keys = job_keys(
            *(database, batch.id, ids), default=pending, by_pattern=pending, allowed=cancellable, verb="cancelled"
        )
        cancelled = database.write_now(commands.cancel, batch.id, keys, clock.utcnow())
        ended = tell_service(database, batch, manifest, cancelled) if cancelled else []
        runs = notify_runs(database, batch.id, SettingName.CANCELLED, len(cancelled))
    if as_json:
        hint = "`retry` with an id takes up a cancelled job again, and asks for what was paid first"
        hint += f"; {PAID_AGAIN}" if ended else ""
        jobs = {"cancelled": list(cancelled), "ended_at_service": ended}
        hint = hint if cancelled else "there is nothing to cancel"
        print_changed(jobs, hint, "retry", list(cancelled)[:IDS_TYPED])
        return
    if not cancelled:
        print_lines("every job has been sent or has ended: there is nothing to cancel without an id")
        return
    report(cancelled, ended, runs)


def report(cancelled: Mapping[str, State], ended: Sequence[str], runs: int) -> None:
    """Say what becomes of the jobs, which have left these states, and what a retry does with them."""
    print_lines(f"{plural(len(cancelled), 'job')} cancelled:")
    for state in State:
        of_state = [key for key, left in cancelled.items() if left is state and key not in ended]
        if of_state:
            print_lines(f"  {shortened(of_state)}: {CHARGES[state]}")
    if ended:
        print_lines(f"  {shortened(ended)}: the service has ended the generation")
    if runs:
        print_lines(runs_line(runs), err=True)
    if ended:
        print_lines(PAID_AGAIN, err=True)
    if any(state is not State.PENDING and key not in ended for key, state in cancelled.items()):
        print_lines(
            f"{options.quoted_command('retry')} with an id asks for its generation again, for nothing.", err=True
        )


def tell_service(database: Database, batch: StoredBatch, manifest: Path, cancelled: Mapping[str, State]) -> list[str]:
    """Ask the service to end the generations. Returns the jobs whose generation it has ended."""
    at_work = [key for key, left in cancelled.items() if left is State.GENERATING]
    if not at_work:
        return []
    from batchgen.api.cancelling import cancel_at_service  # Imported here: most commands ask no service.

    try:
        return asyncio.run(cancel_at_service(database, batch, manifest.absolute().parent, at_work))
    except BatchgenError as error:
        print_lines(f"the service was not asked to end a generation: {error}", err=True)
        return []
