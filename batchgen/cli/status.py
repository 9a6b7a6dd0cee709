"""`batchgen status`: how batches stand."""

from __future__ import annotations

import json
from pathlib import Path

import click

from batchgen import clock
from batchgen.cli.options import db_option, json_option
from batchgen.cli.session import batches_of, table_of
from batchgen.errors import UsageError
from batchgen.jobtable import counts
from batchgen.report.words import counted, dollars, size, standing_json, waiting


@click.command(name="status")
@click.argument("manifest", type=click.Path(path_type=Path), required=False)
@db_option
@json_option
def command(manifest: Path | None, db: str | None, as_json: bool) -> None:
    """Show how a batch stands, what it has cost and what it waits for.

    Without a MANIFEST: every batch in the job table given by --db, or in ./batchgen.db.
    """
    with table_of(db, manifest or Path("manifest.yaml")) as database:
        found = database.look(batches_of, manifest)
        if manifest is not None and not found:
            raise UsageError(f"{manifest}: not in this job table; `batchgen run {manifest}` enrols it")
        for batch_id, name, service in found:
            now = clock.utcnow()
            standing = database.look(counts.standing, batch_id, now)
            waits = database.look(counts.waits, batch_id, now)
            if as_json:
                click.echo(json.dumps(standing_json(name, standing, waits), ensure_ascii=False))
                continue
            cost = f"{dollars(standing.cost_usd)}{' (simulated)' if service == 'simulator' else ''}"
            click.echo(f"{name}: {counted(standing)}; {size(standing.bytes)}, {cost}")
            for wait in waits:
                click.echo(f"  {waiting(wait, now)}")
            for failure in database.look(counts.failures, batch_id):
                click.echo(f"  {failure}")
