"""`batchgen status`: how batches stand."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click

from batchgen import clock
from batchgen.cli.options import db_option, json_option
from batchgen.cli.session import batches_of, known_batches, table_of
from batchgen.files import liveness
from batchgen.jobtable import leases, statistics
from batchgen.jobtable.database import Database
from batchgen.report.words import plural, standing_json, summary, waiting


@click.command(name="status")
@click.argument("manifest", type=click.Path(path_type=Path), required=False)
@db_option
@json_option
def command(manifest: Path | None, db: str | None, as_json: bool) -> None:
    """Show how a batch stands, what it has cost and what it waits for.

    Without a MANIFEST: every batch in the job table given by --db, or in ./batchgen.db.
    """
    with table_of(db, manifest) as database:
        found = known_batches(database, manifest) if manifest else database.look(batches_of, None)
        for batch in found:
            now = clock.utcnow()
            batch_summary = database.look(statistics.batch_summary, batch.id, now)
            blockers = database.look(statistics.blockers, batch.id, now)
            working = at_work(database, batch.id)
            if as_json:
                told = standing_json(batch.name, batch_summary, blockers)
                click.echo(json.dumps({**told, "runs": working}, ensure_ascii=False))
                continue
            click.echo(summary(batch.name, batch.service, batch_summary))
            for wait in blockers:
                click.echo(f"  {waiting(wait, now)}")
            for failure in database.look(statistics.failures, batch.id):
                click.echo(f"  {failure}")
            if working:
                click.echo(f"  {plural(working, 'run')} at work")
            elif len(blockers) > bool(batch_summary.held):
                click.echo(
                    f"  no run is at work: `batchgen run {shlex.quote(str(manifest or batch.manifest))}` goes on"
                )


def at_work(database: Database, batch_id: int) -> int:
    """How many runs are at work on a batch, as far as can be seen from this machine."""
    unended = database.look(leases.unended, batch_id)
    return len(unended) - len(liveness.dead(database.path, unended))
