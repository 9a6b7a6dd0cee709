"""The command `batchgen cancel`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from batchgen import clock
from batchgen.api.event_loop import complete
from batchgen.catalogue.wording import plural
from batchgen.cli import options
from batchgen.cli.batches import job_keys, open_batch
from batchgen.cli.steering import notify_runs, show_jobs
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
    """Runs at work leave cancelled jobs alone within two seconds. Without IDS: every job that has not been sent. An ID
    may be a shell pattern in quotes, 'hero-*': it names those of these jobs that it fits.

    A job that was sent is cancelled only if its id is typed. The service is asked to end its generation, where it can;
    otherwise it may be finished and charged all the same. `batchgen retry MANIFEST ID` takes up a cancelled job again:
    what was paid for is asked for first; what the service has ended is then a new generation.
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
    hint = "`retry` with an id takes up a cancelled job again, and asks for what was paid first"
    hint += f"; {PAID_AGAIN}" if ended else ""
    lines = lines_of(cancelled, ended)
    if not cancelled:
        hint = "there is nothing to cancel"
        lines = [f"every job has been sent or has ended: {hint} without an id"]
    jobs = {"cancelled": list(cancelled), "ended_at_service": ended}
    notes = [*([runs_line(runs)] if runs else []), *([PAID_AGAIN] if ended else [])]
    if any(state is not State.PENDING and key not in ended for key, state in cancelled.items()):
        notes.append(f"{options.quoted_command('retry')} with an id asks for its generation again, for nothing.")
    keys_typed = list(cancelled)[:IDS_TYPED]
    show_jobs(jobs, *lines, hint=hint, next_command="retry", keys=keys_typed, notes=notes, as_json=as_json)


def lines_of(cancelled: Mapping[str, State], ended: Sequence[str]) -> list[str]:
    """What becomes of the jobs, which have left these states."""
    lines = [f"{plural(len(cancelled), 'job')} cancelled:"]
    for state in State:
        of_state = [key for key, left in cancelled.items() if left is state and key not in ended]
        lines += [f"  {shortened(of_state)}: {CHARGES[state]}"] if of_state else []
    return lines + ([f"  {shortened(ended)}: the service has ended the generation"] if ended else [])


def tell_service(database: Database, batch: StoredBatch, manifest: Path, cancelled: Mapping[str, State]) -> list[str]:
    """Ask the service to end the generations. Returns the jobs whose generation it has ended."""
    at_work = [key for key, left in cancelled.items() if left is State.GENERATING]
    if not at_work:
        return []
    from batchgen.api.cancelling import cancel_at_service  # Imported here: most commands ask no service.

    try:
        return complete(cancel_at_service(database, batch, manifest.absolute().parent, at_work))
    except BatchgenError as error:
        print_lines(f"the service was not asked to end a generation: {error}", err=True)
        return []
