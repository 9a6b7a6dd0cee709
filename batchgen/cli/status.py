"""The command `batchgen status`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from batchgen import clock
from batchgen.advice.command_line import options_of
from batchgen.advice.next_step import next_of
from batchgen.api import standing
from batchgen.api.standing import BatchStatus
from batchgen.cli import options
from batchgen.cli.batches import commands_on
from batchgen.errors import ExitCode
from batchgen.jobtable.blockers import RESUME
from batchgen.jobtable.moves import Departure
from batchgen.report import hints
from batchgen.report.formats import local_time, plural
from batchgen.report.settings import in_force_lines, setting_value
from batchgen.report.terminal import print_json, print_lines
from batchgen.report.words import (
    blocker_line,
    lost_json,
    lost_lines,
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
@click.option(
    "-w",
    "--watch",
    is_flag=True,
    help="First show what the run at work does, as the run itself does, until it ends. Ctrl-C ends only the watching.",
)
@options.json_lines
def command(manifest: Path | None, db: str | None, verify: bool, watch: bool, as_json: bool) -> None:
    """Without a MANIFEST: every batch in the job table that --db names, or in ./batchgen.db."""
    code = ExitCode.DELIVERED
    if watch:
        from batchgen.cli.watch import watch as watch_run

        try:
            watch_run(manifest, db, as_json=as_json)
        except KeyboardInterrupt:
            code = ExitCode.INTERRUPTED
    for status in standing.status(manifest, db=db, verify=verify):
        if as_json:
            print_status_json(status, manifest)
        else:
            print_status(status, manifest)
    if code:
        sys.exit(code)


def print_status_json(status: BatchStatus, manifest: Path | None) -> None:
    """Print the event `status`."""
    batch, summary, blockers = status.batch, status.summary, status.blockers
    to_type = commands_on(status.batch, manifest)
    fields: dict[str, Any] = {"runs": status.runs, "missing": lost_json(status.lost), "remarks": status.remarks}
    fields |= suspects_json(status.suspects)
    in_force = status.in_force
    fields["paused_at"] = in_force.pause.set_at if in_force.pause else None
    fields["settings"] = [setting_value(value) for value in in_force.set_values]
    last = status.last_run
    last_run = None
    if last and last.ended_at:
        last_run = {"ended_at": last.ended_at, "exit_code": last.exit_code, "message": last.message}
    if status.move:
        advice = hints.advice(move_line(status.move))
    elif status.runs:
        advice = hints.advice("a run is at work; this shows what it does", to_type("status --watch"))
    else:
        step = next_of(summary, has_lost_files=bool(status.lost.files))
        again = run_again(status, to_type) if step.command == "run" else step.command and to_type(step.command)
        advice = hints.advice(step.hint, again)
    document = summary_json(batch.name, summary, blockers, to_type)
    more = {"last_run": last_run, "moved_to": status.move and status.move.place}
    print_json({"event": "status", **document, **fields, **more, **advice})


def print_status(status: BatchStatus, manifest: Path | None) -> None:
    """Print how a batch stands."""
    batch, summary, blockers = status.batch, status.summary, status.blockers
    now, to_type = clock.utcnow(), commands_on(status.batch, manifest)
    print_lines(summary_line(batch.name, batch.service, summary))
    # The line of the pause says more than what the pending jobs wait for.
    waiting = [blocker for blocker in blockers if not blocker.reason.startswith(RESUME)]
    lines = [blocker_line(blocker, now) for blocker in waiting] + status.failures
    lines += in_force_lines(status.in_force, now, to_type, only_set=True)
    lines += lost_lines(status.lost, to_type("retry"))
    lines += [f"remark: {remark}" for remark in status.remarks]
    lines += suspect_lines(status.suspects, to_type("review"))
    if status.move:
        lines.append(move_line(status.move))
    elif status.runs:
        lines.append(f"{plural(status.runs, 'run')} at work")
    elif len(blockers) > bool(summary.held):  # a run can do nothing for jobs that are held for a person
        last = status.last_run
        if last and last.ended_at and last.message and last.exit_code not in OTHERWISE_SHOWN:
            first, *rest = last.message.split("\n")
            lines += [f"the last run ended {local_time(last.ended_at, now)}: {first}", *rest]
        later = ", once the pause has ended" if status.in_force.pause else ""
        lines.append(f"no run is at work: `{run_again(status, to_type)}` goes on{later}")
    for line in lines:
        print_lines(f"  {line}")


def run_again(status: BatchStatus, to_type: hints.CommandLine) -> str:
    """The command of the last run: without its cap, another would spend more."""
    last = status.last_run
    return to_type("run") + (options_of(last.limits, last.selection) if last else "")


def move_line(move: Departure) -> str:
    """Where a batch goes on that runs here no more."""
    if move.moved_at is None:
        return f"is being moved to {move.place}: the same `batchgen db copy` again goes on, with --abort it is given up"
    return f"moved to {move.place}: `status` there, with --db, shows how it stands by now"
