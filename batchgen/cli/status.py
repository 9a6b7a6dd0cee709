"""The command `batchgen status`."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from batchgen import clock
from batchgen.cli import options
from batchgen.cli.batches import batches_from, open_table, stored_batches
from batchgen.files import liveness
from batchgen.jobtable import leases, statistics
from batchgen.jobtable.database import Database
from batchgen.report.terminal import print_json
from batchgen.report.words import blocker_line, plural, summary_json, summary_line


@click.argument("manifest", type=click.Path(path_type=Path), required=False)
@options.db
@options.json_lines
def command(manifest: Path | None, db: str | None, as_json: bool) -> None:
    """Without a MANIFEST: every batch in the job table that --db names, or in ./batchgen.db."""
    with open_table(db, manifest) as database:
        for batch in batches_from(database, manifest) if manifest else database.read_now(stored_batches):
            now = clock.utcnow()
            summary = database.read_now(statistics.batch_summary, batch.id, now)
            blockers = database.read_now(statistics.blockers, batch.id, now)
            runs = live_runs(database, batch.id)
            if as_json:
                print_json({**summary_json(batch.name, summary, blockers), "runs": runs})
                continue
            click.echo(summary_line(batch.name, batch.service, summary))
            lines = [blocker_line(blocker, now) for blocker in blockers]
            lines += database.read_now(statistics.failures, batch.id)
            if runs:
                lines.append(f"{plural(runs, 'run')} at work")
            elif len(blockers) > bool(summary.held):  # a run can do nothing for jobs that are held for a person
                command_line = f"batchgen run {shlex.quote(str(manifest or batch.manifest_path))}"
                lines.append(f"no run is at work: `{command_line}` goes on")
            for line in lines:
                click.echo(f"  {line}")


def live_runs(database: Database, batch_id: int) -> int:
    """How many runs work on a batch now, as far as this machine can see."""
    unended = database.read_now(leases.unended, batch_id)
    return len(unended) - len(liveness.dead(database.path, unended))
