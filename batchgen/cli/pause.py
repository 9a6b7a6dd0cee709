"""The command `batchgen pause`."""

from __future__ import annotations

from pathlib import Path

from batchgen import clock
from batchgen.cli import options
from batchgen.cli.batches import open_batch
from batchgen.cli.steering import show_change
from batchgen.jobtable.settings import person
from batchgen.limits import steering
from batchgen.report.formats import local_time


@options.batch
@options.json_lines
def command(manifest: Path, db: str | None, simulate: bool, as_json: bool) -> None:
    """Every run at work on the batch, on whatever machine, submits nothing more from now on; what was sent goes on to
    its end and is downloaded. Paused runs wait, and so does a new one, until `batchgen resume`.
    """
    now = clock.utcnow()
    with open_batch(db, manifest, simulate, steers=True) as (database, batch):
        pause, is_new = database.write_now(steering.pause, batch.id, now, person())
        line = "paused" if is_new else f"paused already, at {local_time(pause.set_at, now)} by {pause.set_by}"
        line += f": nothing is sent; what is in flight goes on. {options.quoted_command('resume')} ends the pause"
        show_change(database, batch, line, as_json=as_json)
