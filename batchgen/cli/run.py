"""`batchgen run`: bring a manifest's videos home."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from batchgen import clock
from batchgen.cli.options import (
    again,
    db_option,
    is_there,
    json_option,
    limits_options,
    manifest_argument,
    place_of,
    simulate_option,
    terms_options,
    validate_option,
)
from batchgen.cli.plan import show_plan
from batchgen.cli.session import batch_of_manifest, read_for, selection_of, service_of, with_limits
from batchgen.ending import Ending
from batchgen.errors import ExitCode, StorageError
from batchgen.jobs import State
from batchgen.jobtable import selection, statistics, sync
from batchgen.jobtable.database import Database
from batchgen.jobtable.sync import Batch, OnChanged, SyncResult
from batchgen.limits.budget import Terms
from batchgen.manifest import Manifest
from batchgen.report.progress import Progress
from batchgen.report.screen import Outlet
from batchgen.report.words import local_time, plural, shortened, standing_json, summary
from batchgen.runner import Runner, RunSpec
from batchgen.services.settings import Settings, read_settings

FAILURES_SHOWN = 5


@click.command(name="run")
@manifest_argument
@db_option
@simulate_option
@limits_options
@terms_options
@validate_option
@click.option("-n", "--dry-run", is_flag=True, help="Show what would be sent, cost and take, as `batchgen plan` does.")
@click.option(
    "--changed",
    type=click.Choice(["keep", "redo"]),
    help="For jobs that were edited after they were sent: keep what was paid for, or pay for a new one as well.",
)
@click.option("--log-file", type=click.Path(dir_okay=False, path_type=Path), help="Append every event to this file.")
@json_option
def command(
    manifest: Path,
    db: str | None,
    simulate: bool,
    validate: bool,
    changed: OnChanged | None,
    log_file: Path | None,
    as_json: bool,
    dry_run: bool,
    **wishes: Any,
) -> None:
    """Bring a manifest's videos home: submit, wait, download.

    Run it again to go on: after Ctrl-C, a crash or a power cut nothing is submitted or downloaded twice. Ctrl-C once
    finishes what is on the wire; twice leaves at once.
    """
    place = place_of(db, manifest)
    if dry_run:
        show_plan(place, manifest, wishes, simulate=simulate, validate=validate, as_json=as_json)
        return
    with ExitStack() as stack:
        database = stack.enter_context(Database(place)) if is_there(place) else None
        asked = read_for(manifest, database, simulate, validate)
        asked = replace(asked, limits=with_limits(asked.limits, wishes))
        settings = None if asked.service == "simulator" else read_settings(asked.folder)
        check_log(log_file)
        database = database or stack.enter_context(Database(place))
        ending = asyncio.run(carry_out(database, asked, settings, changed or "refuse", as_json, log_file, wishes))
    sys.exit(ending.exit_code)


def check_log(log_file: Path | None) -> None:
    """See that the log can be written before anything costs money."""
    try:
        if log_file:
            log_file.open("a").close()
    except OSError as error:
        raise StorageError(f"--log-file {log_file}: {error.strerror}") from error


async def carry_out(
    database: Database,
    manifest: Manifest,
    settings: Settings | None,
    on_changed: OnChanged,
    as_json: bool,
    log_file: Path | None,
    wishes: Mapping[str, Any],
) -> Ending:
    """Enrol, run, and say how it ended."""
    wanted, batch = selection_of(wishes), batch_of_manifest(manifest)
    enrolled = await database.write(sync.sync_manifest, batch, manifest.jobs, clock.utcnow(), on_changed)
    number, models = len(manifest.jobs), tuple(sorted({job.model for job in manifest.jobs}))
    manifest.jobs.clear()  # A run of many hours does not need them: they are rows now.
    if wanted.mark:
        chosen = await database.read(selection.find, enrolled.batch_id, wanted)  # by a connection that cannot write
        await database.write(selection.mark, wanted, chosen)
    terms = Terms(manifest.limits.max_cost, wishes["until"], wanted.mark)
    announce(batch, number, enrolled, as_json)
    after = await database.read(statistics.last_event)
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(service_of(database, settings, manifest.folder))
        spec = RunSpec(enrolled.batch_id, manifest.folder, manifest.limits, models, terms)
        runner = Runner(database, service, spec)
        progress = Progress(
            database,
            enrolled.batch_id,
            batch.name,
            after,
            as_json=as_json,
            log=log_file,
            notice=lambda: notice_of(runner),
        )
        ended = asyncio.Event()
        following = asyncio.create_task(progress.follow(ended))
        try:
            ending = await runner.run()
        finally:
            ended.set()
            await following
    failures = await database.read(statistics.failures, enrolled.batch_id, FAILURES_SHOWN)
    conclude(batch, ending, failures, as_json)
    return ending


def announce(batch: Batch, jobs: int, enrolled: SyncResult, as_json: bool) -> None:
    """What enrolling did."""
    told = {
        "new": enrolled.new,
        "as the manifest has them now": enrolled.edited,
        "gone from the manifest and cancelled": enrolled.gone,
        "to be made anew": enrolled.redone,
        "changed after they were sent and kept as they were": len(enrolled.changed) - enrolled.redone,
    }
    if as_json:
        names = ("new", "edited", "gone", "redone", "unchanged")
        numbers = {name: getattr(enrolled, name) for name in names}
        changed = [change.key for change in enrolled.changed]
        begun = {"event": "enrolled", "batch": batch.name, **numbers, "changed": changed}
        Outlet(sys.stdout).say(json.dumps(begun, ensure_ascii=False))
        return
    parts = ", ".join(f"{number} {what}" for what, number in told.items() if number)
    click.echo(f"{batch.name}: {plural(jobs, 'job')}{f' ({parts})' if parts else ''}", err=True)
    if enrolled.occupied:
        click.echo(
            f"Already there, and not made by this job table: {shortened(enrolled.occupied, 5)}."
            "\nThey stay as they are; new videos get a name beside theirs. If they were paid for under another job"
            " table, stop now (Ctrl-C) and name it with --db.",
            err=True,
        )


def notice_of(runner: Runner) -> str:
    """What a person should know of a run that is doing less than it could, or soon will."""
    context, told = runner.context, ""
    if runner.signal:
        told = "stopping: finishing what is on the wire (once more leaves at once)"
    elif context.disk:
        told = f"no more downloads: {context.disk}"
    elif context.blocked:
        told = f"no more submits: {context.blocked.reason}"
    elif context.hold:
        until = f", until {local_time(context.hold_until, clock.utcnow())}" if context.hold_until else ""
        told = f"no more submits for now: {context.hold}{until}"
    return "; ".join(filter(None, (told, context.warning)))


def conclude(batch: Batch, ending: Ending, failures: list[str], as_json: bool) -> None:
    """The result, on standard output; beside it, what a person can do about what is missing."""
    batch_summary, results = ending.batch_summary, Outlet(sys.stdout)
    if as_json:
        closing = {"event": "done", "exit_code": ending.exit_code, "message": ending.message}
        results.say(json.dumps({**closing, **standing_json(batch.name, batch_summary)}, ensure_ascii=False))
        return
    results.say(f"{summary(batch.name, batch.service, batch_summary)}; {ending.message}")
    if ending.exit_code is not ExitCode.INCOMPLETE:
        return
    advice = Outlet(sys.stderr)
    for line in failures:
        advice.say(f"  {line}")
    if (more := batch_summary.counts[State.FAILED] - len(failures)) > 0:
        advice.say(f"  and {more} more; {again('status')} lists them")
    if number := batch_summary.counts[State.FAILED]:
        advice.say(f"{again('retry')} makes {'it' if number == 1 else 'them'} pending again; then run.")
    if batch_summary.held:
        advice.say(f"{again('resolve')} shows what waits for a person.")
    if batch_summary.late or batch_summary.stuck:
        advice.say(
            f"{plural(batch_summary.late + batch_summary.stuck, 'job')} may still come: the same command looks again."
        )
