"""`batchgen run`: bring a manifest's videos home."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from batchgen import clock
from batchgen.cli.options import db_option, json_option, manifest_argument, place_of, simulate_option
from batchgen.cli.session import service_of, simulated
from batchgen.database import Database
from batchgen.errors import StorageError
from batchgen.jobtable import counts, enrolment
from batchgen.jobtable.enrolment import Batch, Enrolment, OnChanged
from batchgen.manifest import Manifest, read
from batchgen.report.progress import Progress
from batchgen.report.words import counted, dollars, size, standing_json
from batchgen.runner import Ending, Plan, Runner
from batchgen.service.settings import Settings, read_settings


@click.command(name="run")
@manifest_argument
@db_option
@simulate_option
@click.option("--submits-per-minute", type=click.FloatRange(min=0, min_open=True), help="Instead of the manifest's.")
@click.option(
    "-j", "--in-flight", type=click.IntRange(1, 1000), help="Videos generated at once, instead of the manifest's."
)
@click.option("--downloads", type=click.IntRange(1, 32), help="Files downloaded at once, instead of the manifest's.")
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
    changed: OnChanged | None,
    log_file: Path | None,
    as_json: bool,
    **limits: Any,
) -> None:
    """Bring a manifest's videos home: submit, wait, download.

    Run it again to go on: after Ctrl-C, a crash or a power cut nothing is submitted or downloaded twice. Ctrl-C once
    finishes what is on the wire; twice leaves at once.
    """
    asked = read(manifest)
    asked = simulated(asked) if simulate else asked
    chosen = {name: value for name, value in limits.items() if value is not None}
    asked = replace(asked, limits=replace(asked.limits, **chosen))
    settings = None if asked.service == "simulator" else read_settings(asked.folder)
    check_log(log_file)
    with Database(place_of(db, manifest)) as database:
        ending = asyncio.run(carry_out(database, asked, settings, changed or "refuse", as_json, log_file))
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
) -> Ending:
    """Enrol, run, and say how it ended."""
    batch = Batch(manifest.batch, manifest.service, manifest.path.absolute(), manifest.sha256)
    enrolled = await database.write(enrolment.enrol, batch, manifest.jobs, clock.utcnow(), on_changed)
    announce(manifest, enrolled, as_json)
    after = await database.read(counts.last_event)
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(service_of(database, settings, manifest.folder))
        models = sorted({job.model for job in manifest.jobs})
        runner = Runner(database, service, Plan(enrolled.batch_id, manifest.folder, manifest.limits, models))
        progress = Progress(database, enrolled.batch_id, manifest.batch, after, as_json=as_json, log=log_file)
        ended = asyncio.Event()
        following = asyncio.create_task(progress.follow(ended))
        try:
            ending = await runner.run()
        finally:
            ended.set()
            await following
    conclude(manifest, ending, as_json)
    return ending


def announce(manifest: Manifest, enrolled: Enrolment, as_json: bool) -> None:
    """What enrolling did, where it did anything but add or find jobs."""
    told = {
        "new": enrolled.new,
        "followed the manifest": enrolled.edited,
        "gone from the manifest, cancelled": enrolled.gone,
        "to be made anew": enrolled.redone,
        "changed after they were sent, kept as they were": len(enrolled.changed) - enrolled.redone,
        "unchanged": enrolled.unchanged,
    }
    parts = ", ".join(f"{number} {what}" for what, number in told.items() if number)
    if not as_json:
        click.echo(f"{manifest.batch}: {parts or 'no jobs'}", err=True)


def conclude(manifest: Manifest, ending: Ending, as_json: bool) -> None:
    """The result, on standard output."""
    standing = ending.standing
    if as_json:
        closing = {"event": "done", "exit_code": ending.exit_code, "told": ending.told}
        click.echo(json.dumps({**closing, **standing_json(manifest.batch, standing)}, ensure_ascii=False))
        return
    cost = f"{dollars(standing.cost_usd)}{' (simulated)' if manifest.service == 'simulator' else ''}"
    click.echo(f"{manifest.batch}: {counted(standing)}; {size(standing.bytes)}, {cost}; {ending.told}")
