"""The command `batchgen status`."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from batchgen import api, clock
from batchgen.cli import options
from batchgen.report.terminal import print_json, print_lines
from batchgen.report.words import blocker_line, plural, summary_json, summary_line


@click.argument("manifest", type=click.Path(path_type=Path), required=False)
@options.db
@options.json_lines
def command(manifest: Path | None, db: str | None, as_json: bool) -> None:
    """Without a MANIFEST: every batch in the job table that --db names, or in ./batchgen.db."""
    for status in api.status(manifest, db=db):
        batch, summary, blockers = status.batch, status.summary, status.blockers
        if as_json:
            print_json({**summary_json(batch.name, summary, blockers), "runs": status.runs})
            continue
        print_lines(summary_line(batch.name, batch.service, summary))
        lines = [blocker_line(blocker, clock.utcnow()) for blocker in blockers] + status.failures
        if status.runs:
            lines.append(f"{plural(status.runs, 'run')} at work")
        elif len(blockers) > bool(summary.held):  # a run can do nothing for jobs that are held for a person
            command_line = f"batchgen run {shlex.quote(str(manifest or batch.manifest_path))}"
            lines.append(f"no run is at work: `{command_line}` goes on")
        for line in lines:
            print_lines(f"  {line}")
