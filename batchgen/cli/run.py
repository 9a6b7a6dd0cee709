"""The command `batchgen run`."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any

import click
from click.core import ParameterSource

from batchgen import clock
from batchgen.api.opening import OpenRun, enroll_only, open_run
from batchgen.cli import options
from batchgen.cli.announcements import announce, announce_elsewhere, announce_settings, announce_warnings
from batchgen.cli.closing import show_result
from batchgen.cli.notices import notice_advice, notice_of
from batchgen.cli.plan import show_plan
from batchgen.cli.run_options import hook_options, run_options
from batchgen.cli.signals import signals_handled
from batchgen.errors import StorageError, UsageError
from batchgen.files import safe_open
from batchgen.jobtable import batches
from batchgen.report.log import SentenceHandler, log_to_stderr
from batchgen.report.progress import Progress
from batchgen.report.terminal import print_lines
from batchgen.runs.ending import Ending
from batchgen.services.text import shell_word


@options.manifest
@options.db
@options.simulate
@run_options
@hook_options
@options.validate
@click.option(
    "-n", "--dry-run", is_flag=True, help="Show what would be sent, as `batchgen plan` does, and send nothing."
)
@click.option("--enroll", is_flag=True, help="Only write the jobs into the table: `batchgen worker` sends them.")
@click.option(
    "--changed",
    type=click.Choice(["keep", "redo"]),
    help="For jobs that were edited after they were sent, or paid for before under another name: keep the paid video,"
    " or pay for a new one as well.",
)
@click.option(
    "--wait-for-credits",
    is_flag=True,
    help="Where the account has no credits left: ask for its balance every 30 s to 5 minutes, and go on by itself once"
    " it is enough for the next job. Otherwise the run ends when all that is paid is there.",
)
@click.option("--verify", is_flag=True, help="At the end, read every delivered file and compare it with its SHA-256.")
@click.option("--log-file", type=click.Path(dir_okay=False, path_type=Path), help="Append every event to this file.")
@click.option("-v", "--verbose", count=True, help="Log what the service is asked and answers; -vv: every request.")
@options.json_lines
def command(
    manifest: Path, log_file: Path | None, as_json: bool, dry_run: bool, enroll: bool, verbose: int, **typed: Any
) -> None:
    """After Ctrl-C, a crash or a power cut, run it again: nothing is submitted or downloaded twice.

    The first Ctrl-C waits for create requests on the wire and ends; the second ends at once.
    """
    run_options: Any = typed  # the others have the names and the values of `RunOptions`
    if dry_run:
        show_plan(manifest, run_options, as_json=as_json)
        return
    if enroll:
        enroll_for_workers(manifest, run_options, log_file, as_json)
        return

    async def run(log: IO[str] | None) -> Ending:
        async with open_run(manifest, run_options) as opened:
            announce_warnings(opened.warnings, as_json)
            announce(opened.spec, as_json)
            if opened.database.is_new and opened.database.path and not as_json:
                print_lines(f"new job table: {opened.database.path}", err=True)
            announce_elsewhere(opened.elsewhere, as_json)
            announce_settings(opened, as_json)
            if opened.hooks.metrics and not as_json:
                print_lines(f"metrics: {opened.hooks.metrics.url}", err=True)
            return await run_with_progress(opened, as_json, log, sentences)

    sentences = log_to_stderr(verbose)
    with open_log(log_file) if log_file else nullcontext() as log:
        ending = asyncio.run(run(log))
    sys.exit(ending.exit_code)


def enroll_for_workers(manifest: Path, run_options: Any, log_file: Path | None, as_json: bool) -> None:
    """Write the jobs into the table, and say what sends them."""
    limits = ("max_cost", "in_flight", "submits_per_minute", "downloads", "until", "only", "where", "sample", "limit")
    others = ("wait_for_credits", "verify", "exec", "metrics", "log_file")
    typed = {**run_options, "log_file": log_file}
    if wrong := [name for name in (*limits, *others) if typed.get(name) not in (None, False, ())]:
        names = " and ".join(f"--{name.replace('_', '-')}" for name in wrong)
        raise UsageError(f"--enroll starts no run for {names}: write limits into the manifest, or use `batchgen set`")
    announce(asyncio.run(enroll_only(manifest, run_options)), as_json)
    if not as_json:
        location = batches.table_location(run_options["db"], manifest)
        place = " --db " + ("URL" if "://" in str(location) else shell_word(os.path.relpath(location)))
        if click.get_current_context().get_parameter_source("db") is ParameterSource.ENVIRONMENT:
            place = ""
        reach = "on as many machines as you like" if "://" in str(location) else "as often as you like, on this machine"
        print_lines(f"Next: `batchgen worker{place}`, {reach}", err=True)


def open_log(path: Path) -> IO[str]:
    """Open the log file, before anything costs money. Raises `StorageError`."""
    try:
        return os.fdopen(safe_open.open_log(path), "a", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"--log-file {path}: {error.strerror}") from error


async def run_with_progress(opened: OpenRun, as_json: bool, log: IO[str] | None, sentences: SentenceHandler) -> Ending:
    database, spec, runner = opened.database, opened.spec, opened.runner
    progress = Progress(
        *(database, spec.synced.batch_id, spec.batch.name, opened.last_event),
        as_json=as_json,
        log=log,
        notice=lambda: notice_of(runner, opened.hooks.commands_left, with_lock=sentences.is_silent),
        notice_advice=lambda: notice_advice(runner, options.same_command()),
        command_line=options.command_to_type,
        same_command=options.same_command(),
        origin=runner.context.service.origin,
    )
    opened.hooks.report = progress.write_hook
    sentences.is_silent = progress.display is not None
    began_at = clock.utcnow()
    try:
        async with progress.following():
            with signals_handled(runner):
                ending = await opened.run()
    finally:
        sentences.is_silent = False
    await show_result(opened, ending, began_at, as_json=as_json)
    return ending
