"""The command `batchgen run`."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from signal import Signals
from typing import IO, Any, Protocol

import click
from click.core import ParameterSource

from batchgen import api, clock
from batchgen.cli import options
from batchgen.cli.closing import show_result
from batchgen.cli.hook_options import hook_options
from batchgen.cli.plan import show_plan
from batchgen.cli.run_options import run_options
from batchgen.ending import Ending
from batchgen.errors import StorageError, UsageError
from batchgen.files import safe_open
from batchgen.hooks.advice import stop_of
from batchgen.jobtable import batches
from batchgen.jobtable.blockers import Blocker
from batchgen.jobtable.sync import OnChanged
from batchgen.limits.in_force import read_in_force
from batchgen.report import hints
from batchgen.report.events import Advice, Elsewhere, Enrolled, Warned
from batchgen.report.hints import CommandLine
from batchgen.report.log import SentenceHandler, log_to_stderr
from batchgen.report.progress import Progress
from batchgen.report.settings import in_force_lines, pause_notice, settings_json
from batchgen.report.terminal import print_json, print_lines
from batchgen.report.words import (
    blocker_hint,
    blocker_line,
    counts,
    local_time,
    plural,
)
from batchgen.runner import Runner
from batchgen.stage import RunSpec


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
    manifest: Path,
    db: str | None,
    simulate: bool,
    validate: bool,
    changed: OnChanged | None,
    wait_for_credits: bool,
    verify: bool,
    log_file: Path | None,
    as_json: bool,
    dry_run: bool,
    enroll: bool,
    verbose: int,
    **typed: Any,
) -> None:
    """After Ctrl-C, a crash or a power cut, run it again: nothing is submitted or downloaded twice.

    The first Ctrl-C waits for create requests on the wire and ends; the second ends at once.
    """
    run_options: Any = {
        "db": db,
        "simulate": simulate,
        "validate": validate,
        "changed": changed,
        "wait_for_credits": wait_for_credits,
        "verify": verify,
        **typed,
    }
    if dry_run:
        show_plan(manifest, run_options, as_json=as_json)
        return

    if enroll:
        enroll_for_workers(manifest, run_options, as_json)
        return

    async def run(log: IO[str] | None) -> Ending:
        async with api.open_run(manifest, run_options) as opened:
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
    with ExitStack() as stack:
        log = stack.enter_context(open_log(log_file)) if log_file else None
        ending = asyncio.run(run(log))
    sys.exit(ending.exit_code)


def enroll_for_workers(manifest: Path, run_options: Any, as_json: bool) -> None:
    """Write the jobs into the table, and say what sends them."""
    options_of_runs = ("max_cost", "in_flight", "submits_per_minute", "downloads", "until", "only", "where", "sample")
    if wrong := [name for name in (*options_of_runs, "limit") if run_options.get(name)]:
        names = " and ".join(f"--{name.replace('_', '-')}" for name in wrong)
        raise UsageError(f"--enroll starts no run for {names}: write limits into the manifest, or use `batchgen set`")
    announce(asyncio.run(api.enroll_only(manifest, run_options)), as_json)
    if not as_json:
        location = batches.table_location(run_options["db"], manifest)
        place = " --db " + ("URL" if "://" in str(location) else shlex.quote(os.path.relpath(location)))
        if click.get_current_context().get_parameter_source("db") is ParameterSource.ENVIRONMENT:
            place = ""
        print_lines(f"Next: `batchgen worker{place}`, on as many machines as you like", err=True)


def open_log(path: Path) -> IO[str]:
    """Open the log file, before anything costs money. Raises `StorageError`."""
    try:
        return os.fdopen(safe_open.open_log(path), "a", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"--log-file {path}: {error.strerror}") from error


async def run_with_progress(
    opened: api.OpenRun, as_json: bool, log: IO[str] | None, sentences: SentenceHandler
) -> Ending:
    """Run the batch to its end, showing its progress, and print the result."""
    database, spec, runner = opened.database, opened.spec, opened.runner
    batch_id, batch, after = spec.synced.batch_id, spec.batch, opened.last_event
    progress = Progress(
        database,
        batch_id,
        batch.name,
        after,
        as_json=as_json,
        log=log,
        notice=lambda: notice_of(runner, opened.hooks.commands_left, with_lock=sentences.is_silent),
        notice_advice=lambda: notice_advice(runner, options.same_command()),
        command_line=options.typed,
        same_command=options.same_command(),
        origin=runner.context.service.origin,
    )
    opened.hooks.report = progress.write_hook
    sentences.is_silent = progress.display is not None
    ended, began_at = asyncio.Event(), clock.utcnow()
    following = asyncio.create_task(progress.follow(ended))
    try:
        with signals_handled(runner):
            ending = await opened.run()
    finally:
        ended.set()
        await following
        sentences.is_silent = False
    await show_result(opened, ending, began_at, as_json=as_json)
    return ending


class Stoppable(Protocol):
    """A run, or a worker with several."""

    signal: Signals | None

    def stop(self, number: Signals) -> None: ...


@contextmanager
def signals_handled(runner: Stoppable) -> Iterator[None]:
    """Let the first signal stop the run in good order, and the second at once. A terminal that hangs up is a signal.

    A hang-up that is ignored stays ignored: `nohup` says that the run is to go on.
    """
    loop = asyncio.get_running_loop()
    numbers = [signal.SIGINT, signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    if hangup and signal.getsignal(hangup) is not signal.SIG_IGN:
        numbers.append(hangup)
    before = {number: signal.getsignal(number) for number in numbers}

    def handle(number: int, _frame: object) -> None:
        stopped_by = signal.SIGTERM if number == hangup else signal.Signals(number)
        loop.call_soon_threadsafe(runner.stop, stopped_by)

    for number in numbers:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            # After a first signal only the summary is left; a second one must not cut off how to go on.
            signal.signal(number, signal.SIG_IGN if runner.signal else handler)


def announce_warnings(warnings: Sequence[str], as_json: bool) -> None:
    """Say what may go wrong although the manifest is valid, before anything is sent."""
    for warning in warnings:
        if as_json:
            warned: Warned = {"event": "warning", "message": warning}
            print_json(warned)
        else:
            print_lines(f"warning: {warning}", err=True)


def announce(spec: RunSpec, as_json: bool) -> None:
    """Say what the manifest has changed in the job table."""
    batch, synced = spec.batch, spec.synced
    if as_json:
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
        print_json(enrolled, is_progress=True)
        return
    changes = counts(
        [
            ("new", synced.new),
            ("edited", synced.edited),
            ("no longer in the manifest and cancelled", synced.gone),
            ("changed after they were sent: to be made again", synced.redone),
            ("changed after they were sent: kept as they are", len(synced.changed) - synced.redone),
        ]
    )
    print_lines(f"{batch.name}: {plural(spec.jobs, 'job')}{f' ({changes})' if changes else ''}", err=True)


def announce_elsewhere(blockers: list[Blocker], as_json: bool) -> None:
    """Say which jobs were sent to another address: the run does not ask for them."""
    for blocker in blockers:
        if as_json:
            elsewhere: Elsewhere = {
                "event": "elsewhere",
                "jobs": blocker.jobs,
                "origin": blocker.origin or "",
                **hints.advice(blocker_hint(blocker)[0]),
            }
            print_json(elsewhere, is_progress=True)
        else:
            print_lines(blocker_line(blocker, clock.utcnow()), err=True)


def announce_settings(opened: api.OpenRun, as_json: bool) -> None:
    """Say what a person has set for the batch: it goes before the options and the manifest of this run."""
    database, batch_id, now = opened.database, opened.spec.synced.batch_id, clock.utcnow()
    in_force = database.read_now(read_in_force, batch_id)
    if not (in_force.pause or in_force.set_values):
        return
    if as_json:
        hint = f"settings go before options and manifest until `{options.typed('set')} --unset NAME`"
        print_json(settings_json(opened.spec.batch.name, in_force, 0, hint, None), is_progress=True)
        return
    lines = in_force_lines(in_force, now, options.typed, only_set=True)
    if in_force.set_values:
        lines.append(f"What is set goes before options and manifest; `{options.typed('set')} --unset NAME` ends it")
    print_lines(*lines, err=True)


def notice_of(
    runner: Runner, commands_left: int = 0, *, with_lock: bool, command_line: CommandLine = options.typed
) -> str:
    """Why a run is doing less than it could, and what it warns of. `with_lock`: also who has locked the job table.

    `commands_left` is how many commands of `--exec` its end waits for.
    """
    context, reason = runner.context, ""
    lock = runner.database.lock.notice if with_lock else ""
    if commands_left:
        reason = f"waiting for {plural(commands_left, 'command')} of --exec to end (Ctrl-C ends it soon)"
    elif runner.signal:
        reason = "stopping: finishing what is on the wire (Ctrl-C again ends at once)"
    elif context.disk:
        reason = f"no more downloads: {context.disk}"
    elif context.blocked:
        reason = f"no more submits: {context.blocked.reason}"
    elif (pause := context.steering.pause) and context.in_flight_at_pause is not None:
        reason = pause_notice(pause, context.in_flight_at_pause, clock.utcnow(), command_line)
    elif context.credit_wait.refusal and context.credit_wait.next_at:
        at = local_time(context.credit_wait.next_at, clock.utcnow())
        reason = f"no more submits until the account is topped up: {context.credit_wait}; its balance is asked at {at}"
    elif context.hold:
        until = ""
        if context.hold_until:
            then = "the log is read again" if context.awaits_history else "one request tries again"
            until = f", until {local_time(context.hold_until, clock.utcnow())}; then {then}"
        reason = f"no more submits for now: {context.hold}{until}"
    waiting = f"{plural(len(context.obstacles), 'file')} cannot be written now" if context.obstacles else ""
    return "; ".join(filter(None, (lock, reason, waiting, context.warning)))


def notice_advice(runner: Runner, same_command: str, command_line: CommandLine = options.typed) -> Advice:
    """What a person does about why a run is doing less than it could."""
    if stop := stop_of(runner.context, clock.utcnow()):
        return hints.advice(stop.hint, same_command)
    if runner.context.steering.pause and not runner.signal:
        return hints.advice("resume the batch", command_line("resume"))
    return hints.advice("the same command goes on" if runner.signal else "", same_command if runner.signal else None)
