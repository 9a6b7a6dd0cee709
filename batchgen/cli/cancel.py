"""The command `batchgen cancel`."""

from __future__ import annotations

from pathlib import Path

from batchgen import clock
from batchgen.cli import options
from batchgen.cli.batches import job_keys, open_batch
from batchgen.jobs import State
from batchgen.jobtable import commands
from batchgen.report.terminal import print_lines
from batchgen.report.words import plural, shortened


@options.jobs_of_batch
def command(manifest: Path, ids: tuple[str, ...], db: str | None, simulate: bool) -> None:
    """What was sent is paid for, and is still downloaded. Without IDS: every job that has not been sent.

    `batchgen retry MANIFEST ID` makes a cancelled job pending again.
    """
    cancellable = {state for state in State if state.is_cancellable}
    with open_batch(db, manifest, simulate) as (database, batch_id):
        keys = job_keys(database, batch_id, ids, default=cancellable, allowed=cancellable, verb="cancelled")
        cancelled = database.write_now(commands.cancel, batch_id, keys, clock.utcnow())
    if not cancelled:
        print_lines("every job has been sent or has ended: there is nothing to cancel")
        return
    print_lines(f"{plural(len(cancelled), 'job')} cancelled: {shortened(cancelled)}")
