"""The command `batchgen retry`."""

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
    """`batchgen run` then submits them again.

    Without IDS: every failed job. A cancelled job is retried only if its id is typed.
    """
    retriable = {state for state in State if state.is_retriable}
    with open_batch(db, manifest, simulate) as (database, batch_id):
        keys = job_keys(database, batch_id, ids, default={State.FAILED}, allowed=retriable, verb="retried")
        retried = database.write_now(commands.retry, batch_id, keys, clock.utcnow())
    if not retried:
        print_lines("no job has failed: there is nothing to retry")
        return
    print_lines(f"{plural(len(retried), 'job')} pending again: {shortened(retried)}")
    print_lines(f"Next: {options.next_command('run')}", err=True)
