"""`batchgen cancel`: unsent jobs leave the batch."""

from __future__ import annotations

from pathlib import Path

import click

from batchgen import clock
from batchgen.cli.options import db_option, manifest_argument, simulate_option
from batchgen.cli.session import batch_of, chosen_keys, table_of
from batchgen.jobs import State
from batchgen.jobtable import commands
from batchgen.report.words import plural, shortened


@click.command(name="cancel")
@manifest_argument
@click.argument("ids", nargs=-1)
@db_option
@simulate_option
def command(manifest: Path, ids: tuple[str, ...], db: str | None, simulate: bool) -> None:
    """Take unsent jobs out of the batch. What was sent is paid for, and is still collected.

    Without IDS: every job that has not been sent. `batchgen retry MANIFEST ID` brings one back.
    """
    with table_of(db, manifest) as database:
        batch_id = batch_of(database, manifest, simulate)
        keys = chosen_keys(database, batch_id, ids, default={State.PENDING}, allowed={State.PENDING}, order="cancelled")
        cancelled = database.change(commands.cancel, batch_id, keys, clock.utcnow())
    if not cancelled:
        click.echo("every job has been sent or has ended: there is nothing to cancel")
        return
    click.echo(f"{plural(len(cancelled), 'job')} cancelled: {shortened(cancelled)}")
