"""`batchgen retry`: failed jobs become pending."""

from __future__ import annotations

from pathlib import Path

import click

from batchgen import clock
from batchgen.cli.options import again, db_option, manifest_argument, simulate_option
from batchgen.cli.session import batch_of, chosen_keys, table_of
from batchgen.jobs import State
from batchgen.jobtable import commands
from batchgen.report.words import plural, shortened


@click.command(name="retry")
@manifest_argument
@click.argument("ids", nargs=-1)
@db_option
@simulate_option
def command(manifest: Path, ids: tuple[str, ...], db: str | None, simulate: bool) -> None:
    """Make failed jobs pending again; `batchgen run` then submits them. Their attempts stay in the ledger.

    Without IDS: every failed job. A cancelled job is retried when it is named.
    """
    with table_of(db, manifest) as database:
        batch_id = batch_of(database, manifest, simulate)
        keys = chosen_keys(
            database,
            batch_id,
            ids,
            default={State.FAILED},
            allowed={State.FAILED, State.CANCELLED},
            order="tried again",
        )
        retried = database.change(commands.retry, batch_id, keys, clock.utcnow())
    if not retried:
        click.echo("no job has failed: there is nothing to try again")
        return
    click.echo(f"{plural(len(retried), 'job')} pending again: {shortened(retried)}")
    click.echo(f"Next: {again('run')}", err=True)
