"""The command `batchgen run`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import IO, Any

import click
from click.core import ParameterSource

from batchgen import clock
from batchgen.api.event_loop import complete
from batchgen.api.opening import OpenRun, enroll_only, open_run
from batchgen.catalogue.wording import plural
from batchgen.cli import options
from batchgen.cli.closing import show_result
from batchgen.cli.notices import notice_of
from batchgen.cli.plan import show_plan
from batchgen.cli.signals import interrupts_end, signals_handled
from batchgen.context import RunSpec
from batchgen.errors import StorageError, UsageError, os_reason
from batchgen.files import safe_open
from batchgen.jobtable import batches
from batchgen.limits.blockers import Blocker
from batchgen.limits.steering import read_in_force
from batchgen.manifest.limits import NAMES
from batchgen.report import hints
from batchgen.report.formats import counts
from batchgen.report.log import LineHandler, log_to_stderr
from batchgen.report.progress import RunProgress
from batchgen.report.run_events import Elsewhere, Enrolled, Warned
from batchgen.report.settings import in_force_lines, settings_json
from batchgen.report.terminal import UnawaitedLines, print_lines, show
from batchgen.report.words import blocker_hint, blocker_line
from batchgen.runs.ending import Ending
from batchgen.services.registry import SIMULATOR
from batchgen.services.text import shell_word

ENROLL_TAKES = ("db", "simulate", "validate", "changed", "notify")
"""Options that do not need a run; BATCHGEN_NOTIFY may be there for others."""


@options.manifest
@options.db
@options.with_simulator
@options.limits_and_selection
@click.option(
    "--notify",
    multiple=True,
    envvar="BATCHGEN_NOTIFY",
    metavar="URL",
    help="Notify by mail, Slack, Telegram, … (an Apprise URL, such as mailto://user:password@example.com) at the"
    " end, when something stops the run, and when nothing has moved for 30 minutes. Repeatable. In the environment,"
    " where other users cannot read it, several are separated by blanks.  [env: BATCHGEN_NOTIFY]",
)
@click.option(
    "--exec",
    metavar="COMMAND",
    help="Start this command once for each delivered file, in order of delivery, four at a time, in the manifest's"
    " folder, without a shell. {path} (or {}), {id}, {batch}, {model} and {url} stand for arguments:"
    " 'rclone copy -- {path} b2:clips'. The environment has them as BATCHGEN_PATH, …; it lacks the API key."
    " Put -- before {id}: it may begin with a dash. What failed, or was killed, is started again by the next run.",
)
@click.option(
    "--metrics",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Serve metrics for Prometheus on http://127.0.0.1:PORT/metrics; 0: any port that is free.",
)
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
@click.option("--log-file", type=options.FilePath("run.log"), help="Append every event to this file.")
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
            if opened.spec.batch.service == SIMULATOR:
                options.name_simulation()
            announce_warnings(opened.warnings, as_json)
            announce(opened.spec, as_json)
            if opened.database.is_new and opened.database.path and not as_json:
                print_lines(f"new job table: {opened.database.path}", err=True)
            announce_elsewhere(opened.elsewhere, as_json)
            announce_settings(opened, as_json)
            if opened.hooks.metrics and not as_json:
                print_lines(f"metrics: {opened.hooks.metrics.url}", err=True)
            return await run_with_progress(opened, as_json, log, sentences)

    sentences = log_to_stderr(verbose, UnawaitedLines())
    with open_log(log_file) if log_file else nullcontext() as log, interrupts_end():
        ending = complete(run(log))
    sys.exit(ending.exit_code)


def announce_warnings(warnings: Sequence[str], as_json: bool) -> None:
    """Say what may go wrong although the manifest is valid, before anything is sent."""
    for warning in warnings:
        show(Warned(event="warning", message=warning), f"warning: {warning}", as_json=as_json, err=True)


def announce(spec: RunSpec, as_json: bool) -> None:
    """Say what the manifest has changed in the job table."""
    batch, synced = spec.batch, spec.synced
    enrolled: Enrolled = {
        "event": "enrolled",
        "batch": batch.name,
        "new": synced.new,
        "edited": synced.edited,
        "gone": synced.gone,
        "redone": synced.redone,
        "unchanged": synced.unchanged,
        "changed": [change.key for change in synced.changed],
    }
    changes = counts(
        [
            ("new", synced.new),
            ("edited", synced.edited),
            ("no longer in the manifest and cancelled", synced.gone),
            ("changed after being sent: to be made again", synced.redone),
            ("changed after being sent: kept as sent", len(synced.changed) - synced.redone),
        ]
    )
    line = f"{batch.name}: {plural(spec.jobs, 'job')}{f' ({changes})' if changes else ''}"
    show(enrolled, line, as_json=as_json, err=True)


def announce_elsewhere(blockers: list[Blocker], as_json: bool) -> None:
    """Say which jobs were sent to another address: the run does not ask for them."""
    for blocker in blockers:
        advice = hints.advice(blocker_hint(blocker)[0])
        elsewhere = Elsewhere(event="elsewhere", jobs=blocker.jobs, origin=blocker.origin or "", **advice)
        show(elsewhere, blocker_line(blocker, clock.utcnow()), as_json=as_json, err=True)


def announce_settings(opened: OpenRun, as_json: bool) -> None:
    """Say what a person has set for the batch: it goes before the options and the manifest of this run."""
    database, batch_id, now = opened.database, opened.spec.synced.batch_id, clock.utcnow()
    in_force = database.read_now(read_in_force, batch_id)
    if not (in_force.pause or in_force.set_values):
        return
    hint = f"what is set goes before options and manifest; `{options.command_to_type('set')} NAME=` ends it"
    lines = in_force_lines(in_force, now, options.command_to_type, only_set=True)
    lines += [hint] if in_force.set_values else []
    show(settings_json(opened.spec.batch.name, in_force, 0, hint, None), *lines, as_json=as_json, err=True)


def enroll_for_workers(manifest: Path, run_options: Any, log_file: Path | None, as_json: bool) -> None:
    """Write the jobs into the table, and say what sends them."""
    typed = {**run_options, "log_file": log_file}
    if wrong := [name for name, value in typed.items() if name not in ENROLL_TAKES and value not in (None, False, ())]:
        names = " and ".join(f"--{name.replace('_', '-')}" for name in wrong)
        is_limit = not {*NAMES, "until"}.isdisjoint(wrong)
        hint = "write limits into the manifest, or use `batchgen set`" if is_limit else "a run without --enroll does"
        raise UsageError(f"--enroll starts no run for {names}: {hint}")
    with interrupts_end():
        spec = complete(enroll_only(manifest, run_options))
    announce(spec, as_json)
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
        raise StorageError(f"--log-file {path}: {os_reason(error)}") from error


async def run_with_progress(opened: OpenRun, as_json: bool, log: IO[str] | None, sentences: LineHandler) -> Ending:
    database, spec, runner = opened.database, opened.spec, opened.runner
    progress = RunProgress(
        *(database, spec.synced.batch_id, spec.batch.name, opened.last_event, options.command_to_type),
        lambda: notice_of(runner, opened.hooks.commands_left, with_lock=sentences.is_silent),
        as_json=as_json,
        log=log,
        runner=runner,
    )
    opened.hooks.report = partial(progress.add_hook, options.same_command())
    sentences.is_silent = progress.display is not None
    began_at = clock.utcnow()
    try:
        async with progress.following():
            with signals_handled(runner.stop):
                ending = await opened.run()
    finally:
        sentences.is_silent = False
    await show_result(opened, ending, began_at, as_json=as_json)
    return ending
