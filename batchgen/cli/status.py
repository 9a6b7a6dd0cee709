"""The command `batchgen status`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import click

from batchgen import clock
from batchgen.advice.command_line import options_of
from batchgen.advice.next_step import BY_THE_MANIFEST, NextStep, next_of, step_after
from batchgen.api import standing
from batchgen.api.standing import BatchStatus
from batchgen.catalogue.wording import plural
from batchgen.cli import options
from batchgen.cli.batches import commands_on
from batchgen.errors import ExitCode, UsageError
from batchgen.jobs import State
from batchgen.jobtable import leases, statistics
from batchgen.jobtable.batches import StoredBatch, chosen_batches, made_by, open_table, table_location
from batchgen.jobtable.database import Database
from batchgen.jobtable.delivery import REMARKS_READ
from batchgen.jobtable.kinds import Hold
from batchgen.jobtable.moves import Departure
from batchgen.limits.blockers import WaitKind
from batchgen.limits.budget import SETTING_OF
from batchgen.report import hints, words
from batchgen.report.formats import local_time
from batchgen.report.settings import in_force_lines, setting_values
from batchgen.report.terminal import print_json, print_lines

CHECK_SECONDS = 1.0  # between two checks of --watch whether a run is at work
OTHERWISE_SHOWN = (ExitCode.DELIVERED, ExitCode.INCOMPLETE, ExitCode.INTERNAL_ERROR)
"""Endings of a run whose reasons are among what the jobs wait for, and why they failed."""

BY_A_PERSON = ("resolve", "retry")
"""Commands for jobs that no run goes on with."""


@click.argument("manifest", type=click.Path(path_type=Path), required=False)
@options.db
@click.option("--simulate", is_flag=True, help="Show only the simulation, and not the real batch beside it.")
@click.option("--verify", is_flag=True, help="Read every delivered file, and compare it with its SHA-256.")
@click.option(
    "-w",
    "--watch",
    is_flag=True,
    help="First show what the run at work does, as the run itself does, until it ends. Ctrl-C ends only the watching.",
)
@options.json_lines
def command(manifest: Path | None, db: str | None, simulate: bool, verify: bool, watch: bool, as_json: bool) -> None:
    """Without a MANIFEST: every batch in the job table."""
    code = ExitCode.DELIVERED
    if watch:
        try:
            watch_runs(manifest, db, simulate=simulate, as_json=as_json)
        except KeyboardInterrupt:
            code = ExitCode.INTERRUPTED
    for status in standing.status(manifest, db=db, simulate=simulate, verify=verify):
        if as_json:
            print_status_json(status, manifest)
        else:
            print_status(status, manifest)
    if code:
        sys.exit(code)


def watch_runs(manifest: Path | None, db: str | None, *, simulate: bool, as_json: bool) -> None:
    """Show the events of a batch until no run is at work on it, or Ctrl-C. Raises `UsageError`, `KeyboardInterrupt`."""
    with open_table(db, manifest) as database:
        candidates = chosen_batches(database, manifest, simulate=simulate)
        at_work = [batch for batch in candidates if leases.live_runs(database, batch.id)]
        if len(at_work) > 1:
            raise UsageError(
                f"--watch shows one batch, and runs are at work on {' and '.join(batch.name for batch in at_work)}."
                " Name a manifest whose batch is the only one, or add --simulate for the simulation"
            )
        if at_work:
            asyncio.run(show_run(database, at_work[0], manifest, as_json=as_json))
        else:
            names = " or ".join(batch.name for batch in candidates) or "any batch"
            print_lines(f"no run is at work on {names}: there is nothing to watch", err=True)


async def show_run(database: Database, batch: StoredBatch, manifest: Path | None, *, as_json: bool) -> None:
    from batchgen.report.progress import RunProgress  # Imported here: only --watch needs it.

    standstill = ""
    progress = RunProgress(
        *(database, batch.id, batch.name, await database.read(statistics.last_event), commands_on(batch, manifest)),
        lambda: (standstill and f"no more submits for now: {standstill}", hints.advice("")),
        as_json=as_json,
        stream=sys.stderr if as_json else sys.stdout,
    )
    async with progress.following() as task:
        while (alive := await asyncio.to_thread(leases.live_runs, database, batch.id)) and not task.done():
            standstill = await database.read(statistics.standstill, alive)
            await asyncio.wait([task], timeout=CHECK_SECONDS)


def print_status_json(status: BatchStatus, manifest: Path | None) -> None:
    summary, in_force, last = status.summary, status.in_force, status.last_run
    to_type = commands_after(status, manifest)
    fields: dict[str, Any] = {"runs": status.runs, "missing": words.lost_json(status.lost), "remarks": status.remarks}
    fields |= words.suspects_json(status.suspects)
    fields["paused_at"] = in_force.pause.set_at if in_force.pause else None
    fields["settings"] = setting_values(in_force.set_values)
    last_run = None
    if last and last.ended_at:
        last_run = {"ended_at": last.ended_at, "exit_code": last.exit_code, "message": last.message}
    away = elsewhere(status, manifest)
    if away:
        advice = hints.advice(away)
    elif status.runs:
        advice = hints.advice(f"{at_work(status)}; this shows what it does", to_type("status --watch"))
    else:
        step = step_of_status(status)
        advice = hints.advice(step.hint, step.command and to_type(step.command))
    document = words.summary_json(status.batch.name, summary, status.blockers, to_type)
    for wait, blocker in zip(document["waits"], status.blockers, strict=True):
        if away or (blocker.kind is WaitKind.RUN and step_again(status)):  # the same run would end so again
            wait["hint"], wait["next"] = advice["hint"], advice["next"]
    more = {"last_run": last_run, "moved_to": status.move and status.move.place}
    print_json({"event": "status", **document, **fields, **more, **advice})


def print_status(status: BatchStatus, manifest: Path | None) -> None:
    batch, summary, blockers = status.batch, status.summary, status.blockers
    now, to_type = clock.utcnow(), commands_after(status, manifest)
    reasons = partial(words.reasons_command, to_type("sql"), batch.name)
    print_lines(words.summary_line(batch.name, batch.service, summary))
    # The line of the pause, or of the run at work, says more than what the pending jobs wait for.
    waiting = [
        wait
        for wait in blockers
        if wait.kind is not WaitKind.RESUME and not (wait.kind is WaitKind.PLACE and wait.cause)
    ]
    lines = [words.blocker_line(blocker, now) for blocker in waiting]
    lines += words.failure_lines(status.failures, summary.counts[State.FAILED], reasons(State.FAILED))
    lines += in_force_lines(status.in_force, now, to_type, only_set=True)
    away = elsewhere(status, manifest)
    lines += words.lost_lines(status.lost, "" if away else to_type("retry"))
    lines += words.remark_lines(status.remarks, REMARKS_READ, reasons(State.DONE))
    lines += words.suspect_lines(status.suspects, to_type("review"))
    step = step_of_status(status)
    if (step.command in BY_A_PERSON or step is BY_THE_MANIFEST) and not (away or status.runs):
        lines.append(hints.next_line(step.hint, to_type(step.command)))
    if away:
        lines.append(away)
    elif status.runs:
        lines.append(at_work(status))
    elif len(blockers) > bool(summary.held):  # a run can do nothing for jobs that are held for a person
        lines += standstill_lines(status, now, to_type)
    for line in lines:
        print_lines(f"  {line}")


def at_work(status: BatchStatus) -> str:
    """How many runs are at work, and why they submit nothing for now."""
    reason = f"; no more submits for now: {status.standstill}" if status.standstill else ""
    return f"{plural(status.runs, 'run')} at work{reason}"


def standstill_lines(status: BatchStatus, now: datetime, to_type: hints.ToType) -> Iterator[str]:
    """How the last run ended, unless a person has changed that since, and what another one does."""
    last = status.last_run
    is_mended = last and last.exit_code == ExitCode.LIMIT_REACHED and not step_again(status)
    if last and last.ended_at and last.message and last.exit_code not in OTHERWISE_SHOWN and not is_mended:
        yield from f"the last run ended {local_time(last.ended_at, now)}: {last.message}".split("\n")
    step, run = step_before_run(status), to_type("run")
    if status.in_force.pause or not step:
        yield f"no run is at work: `{run}` goes on{', once the pause has ended' if status.in_force.pause else ''}"
    else:
        yield f"no run is at work; {step.hint}: `{to_type(step.command) if step.command else run}`"


def commands_after(status: BatchStatus, manifest: Path | None) -> hints.ToType:
    """A function from the name of a command to its text. `run` is the last one: without its cap it would spend more."""
    to_type, last = commands_on(status.batch, manifest), status.last_run
    if not last:
        return to_type
    reached = SETTING_OF.get(last.hold) if last.hold and step_again(status) else None
    options = options_of(last.limits, None if is_selection_sent(status) else last.selection, reached=reached)
    return lambda name: to_type(name) + (options if name.startswith("run") else "")


def is_selection_sent(status: BatchStatus) -> bool:
    """Whether nothing is left for the last run but jobs that it did not select: the same command would send nothing."""
    return bool(status.left_out) and status.left_out == status.summary.waiting


def step_again(status: BatchStatus) -> NextStep | None:
    """What a person does about what ended the last run, and would end the next one."""
    last, values = status.last_run, status.in_force.set_values
    if not last or not last.ended_at or last.exit_code not in [code for code in ExitCode if code.recurs]:
        return None
    is_changed = any(value.set_at and value.set_at > last.ended_at for value in values)
    is_charged = last.hold is Hold.PRICE and not status.summary.unpriced
    if is_charged or (is_changed and last.exit_code == ExitCode.LIMIT_REACHED):
        return None
    is_limit_set = last.hold is not None and any(value.name is SETTING_OF.get(last.hold) for value in values)
    return step_after(ExitCode(last.exit_code), last.hold, is_limit_set)


def step_of_status(status: BatchStatus) -> NextStep:
    """What a person does, where no run is at work."""
    lost, last = bool(status.lost.files), step_before_run(status)
    return next_of(status.summary, has_lost_files=lost, outdated=status.outdated, given_up=status.given_up, last=last)


def step_before_run(status: BatchStatus) -> NextStep | None:
    """What keeps the next run from going on, and what a person does about it."""
    if step := step_again(status):
        return step
    if is_selection_sent(status):
        sent = "all that the last run selected has been sent"
        return NextStep(f"{sent}; a run without the selection sends the rest", "run")
    return None


def elsewhere(status: BatchStatus, manifest: Path | None) -> str:
    """Where a batch goes on whose run and `retry` are refused here; "" for any other."""
    if status.move:
        return move_line(status.move)
    table = Path(table_location(options.db_option_as_typed(), manifest or Path("batchgen.db")))
    beside = manifest or table.with_name(Path(status.batch.manifest_path).name)
    if manifest is None and not beside.exists():
        return ""
    # Only with the table that has it is a copy taken for the original.
    is_copy = made_by([status.batch], beside, table) and not made_by([status.batch], beside)
    origin = f"this is a copy: the batch goes on where it was copied from, {status.batch.manifest_path}"
    return origin if is_copy else ""


def move_line(move: Departure) -> str:
    """Where a batch goes on that runs here no more."""
    if move.moved_at is None:
        return f"is being moved to {move.place}: the same `batchgen db copy` again goes on, with --abort it is given up"
    return f"moved to {move.place}: `status` there, with --db, shows how it stands by now"
