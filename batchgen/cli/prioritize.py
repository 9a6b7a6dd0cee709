"""The command `batchgen prioritize`."""

from __future__ import annotations

from pathlib import Path

import click

from batchgen import clock
from batchgen.catalogue.wording import plural
from batchgen.cli import options
from batchgen.cli.batches import open_batch, states_among
from batchgen.cli.steering import show_jobs
from batchgen.errors import UsageError
from batchgen.jobs import State
from batchgen.jobtable import leases, settings
from batchgen.jobtable.selection import matching
from batchgen.report.formats import shortened
from batchgen.report.settings import runs_line


@options.manifest
@click.argument("ids", nargs=-1, metavar="ID...")
@options.batch_table
def command(manifest: Path, ids: tuple[str, ...], db: str | None, simulate: bool, as_json: bool) -> None:
    """They are sent in the order in which they are typed. An ID may be a shell pattern, in quotes: 'hero-*'. With '*',
    all go in the manifest's order again.

    Runs at work take the new order up within two seconds. It stays, also when the manifest is edited.
    """
    if not ids:
        raise UsageError("name at least one job, or a pattern such as 'hero-*'")
    with open_batch(db, manifest, simulate, steers=True) as (database, batch):
        states = states_among(database, batch.id, ids)
        groups = matching(states, ids)
        pending = [key for keys in groups for key in keys if states[key] is State.PENDING]
        message = f"{plural(len(pending), 'job')} {'goes' if len(pending) == 1 else 'go'} first"
        if pending:
            database.write_now(settings.prioritize, batch.id, groups, message, clock.utcnow(), settings.person())
        runs = leases.live_runs(database, batch.id)
    sent = sum(map(len, groups)) - len(pending)
    rest = f" ({sent} more {'does' if sent == 1 else 'do'} not wait to be sent)" if sent else ""
    line = f"{message}: {shortened(pending)}{rest}"
    if not pending:
        message = line = "none of these jobs waits to be sent"
    notes = [runs_line(len(runs))]
    show_jobs({"first": pending}, line, hint=message, next_command="status", notes=notes, as_json=as_json)
