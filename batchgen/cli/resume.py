"""The command `batchgen resume`."""

from __future__ import annotations

from pathlib import Path

from batchgen import clock
from batchgen.cli import options
from batchgen.cli.batches import open_batch
from batchgen.cli.steering import show_change
from batchgen.jobtable.settings import person
from batchgen.limits import steering
from batchgen.report.formats import local_time
from batchgen.report.terminal import print_lines


@options.batch
@options.json_lines
def command(manifest: Path, db: str | None, simulate: bool, as_json: bool) -> None:
    """Runs that wait go on within two seconds. Where none is at work, `batchgen run` goes on."""
    now = clock.utcnow()
    with open_batch(db, manifest, simulate, steers=True) as (database, batch):
        pause = database.write_now(steering.resume, batch.id, now, person())
        if pause or as_json:
            line = f"resumed: it was paused at {local_time(pause.set_at, now)} by {pause.set_by}" if pause else ""
            show_change(database, batch, line, as_json=as_json)
        else:
            run = options.quoted_command("run")
            print_lines(f"the batch is not paused; {run} goes on with it where no run is at work")
