"""The command `batchgen status`."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path

import click

from batchgen import api, clock
from batchgen.cli import options
from batchgen.errors import ExitCode
from batchgen.report.terminal import print_json, print_lines
from batchgen.report.words import (
    blocker_line,
    local_time,
    lost_json,
    lost_lines,
    plural,
    summary_json,
    summary_line,
    suspect_lines,
    suspects_json,
)

OTHERWISE_SHOWN = (ExitCode.DELIVERED, ExitCode.INCOMPLETE, ExitCode.INTERNAL_ERROR)
"""Endings of a run whose reasons are among what the jobs wait for, and why they failed."""


@click.argument("manifest", type=click.Path(path_type=Path), required=False)
@options.db
@click.option("--verify", is_flag=True, help="Read every delivered file, and compare it with its SHA-256.")
@options.json_lines
def command(manifest: Path | None, db: str | None, verify: bool, as_json: bool) -> None:
    """Without a MANIFEST: every batch in the job table that --db names, or in ./batchgen.db."""
    for status in api.status(manifest, db=db, verify=verify):
        batch, summary, blockers = status.batch, status.summary, status.blockers
        if as_json:
            fields = {"runs": status.runs, "missing": lost_json(status.lost), "remarks": status.remarks}
            fields |= suspects_json(status.suspects)
            last_run = asdict(status.last_run) if status.last_run else None
            print_json({**summary_json(batch.name, summary, blockers), **fields, "last_run": last_run})
            continue
        now, path = clock.utcnow(), shlex.quote(str(manifest or batch.manifest_path))
        print_lines(summary_line(batch.name, batch.service, summary))
        lines = [blocker_line(blocker, now) for blocker in blockers] + status.failures
        lines += lost_lines(status.lost, f"batchgen retry {path}")
        lines += [f"remark: {remark}" for remark in status.remarks]
        lines += suspect_lines(status.suspects, f"batchgen review {path}")
        if status.runs:
            lines.append(f"{plural(status.runs, 'run')} at work")
        elif len(blockers) > bool(summary.held):  # a run can do nothing for jobs that are held for a person
            last = status.last_run
            if last and last.message and last.exit_code not in OTHERWISE_SHOWN:
                lines.append(f"the last run ended {local_time(last.ended_at, now)}: {last.message}")
            lines.append(f"no run is at work: `batchgen run {path}` goes on")
        for line in lines:
            print_lines(f"  {line}")
