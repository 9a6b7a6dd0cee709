"""The command `batchgen run`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import click

from batchgen import api, clock
from batchgen.billing.closing import CLOSING_JOBS, ClosingBill, closing_bill
from batchgen.cli import options
from batchgen.cli.plan import show_plan
from batchgen.cli.run_options import run_options
from batchgen.ending import Ending
from batchgen.errors import ExitCode, StorageError
from batchgen.files import safe_open
from batchgen.jobs import State
from batchgen.jobtable import delivery, measuring, statistics
from batchgen.jobtable.blockers import Blocker
from batchgen.jobtable.measuring import SuspectClips
from batchgen.jobtable.statistics import BatchSummary
from batchgen.jobtable.sync import Batch, OnChanged
from batchgen.report.bill import closing_line
from batchgen.report.log import SentenceHandler, log_to_stderr
from batchgen.report.progress import Progress
from batchgen.report.terminal import OutputStream, print_json, print_lines
from batchgen.report.words import (
    blocker_line,
    counts,
    local_time,
    lost_json,
    lost_lines,
    plural,
    summary_json,
    summary_line,
    suspect_lines,
    suspects_json,
)
from batchgen.runner import Runner
from batchgen.stage import RunSpec

FAILURES_SHOWN = 5


@options.manifest
@options.db
@options.simulate
@run_options
@options.validate
@click.option(
    "-n", "--dry-run", is_flag=True, help="Show what would be sent, as `batchgen plan` does, and send nothing."
)
@click.option(
    "--changed",
    type=click.Choice(["keep", "redo"]),
    help="For jobs that were edited after they were sent, or paid for before under another name: keep the paid video,"
    " or pay for a new one as well.",
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
    verify: bool,
    log_file: Path | None,
    as_json: bool,
    dry_run: bool,
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
        "verify": verify,
        **typed,
    }
    if dry_run:
        show_plan(manifest, run_options, as_json=as_json)
        return

    async def run(log: IO[str] | None) -> Ending:
        async with api.open_run(manifest, run_options) as opened:
            announce_warnings(opened.warnings, as_json)
            announce(opened.spec, as_json)
            if opened.database.is_new and opened.database.path and not as_json:
                print_lines(f"new job table: {opened.database.path}", err=True)
            announce_elsewhere(opened.elsewhere, as_json)
            return await run_with_progress(opened, as_json, log, sentences)

    sentences = log_to_stderr(verbose)
    with ExitStack() as stack:
        log = stack.enter_context(open_log(log_file)) if log_file else None
        ending = asyncio.run(run(log))
    sys.exit(ending.exit_code)


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
        notice=lambda: notice_of(runner, with_lock=sentences.is_silent),
        origin=runner.context.service.origin,
    )
    sentences.is_silent = progress.display is not None
    ended, began_at = asyncio.Event(), clock.utcnow()
    following = asyncio.create_task(progress.follow(ended))
    try:
        with signals_handled(runner):
            ending = await runner.run()
    finally:
        ended.set()
        await following
        sentences.is_silent = False
    suspects = await database.read(measuring.suspect_clips, batch_id)
    bill = await bill_of(runner, ending, began_at)
    if as_json:
        result = {"event": "done", "exit_code": ending.exit_code, "message": ending.message}
        remarks = await database.read(delivery.remarks, batch_id)
        more = {"missing": lost_json(ending.lost), "remarks": remarks, **suspects_json(suspects)}
        summary = summary_json(batch.name, ending.batch_summary, ending.blockers)
        print_json({**result, **summary, **more, "bill": bill and asdict(bill)}, is_progress=True)
    else:
        failures = await database.read(statistics.failures, batch_id, FAILURES_SHOWN)
        remarks = await database.read(delivery.remarks, batch_id, FAILURES_SHOWN)
        print_result(batch, ending, failures, remarks, suspects, closing_line(bill, options.next_command))
    return ending


async def bill_of(runner: Runner, ending: Ending, began_at: datetime) -> ClosingBill | None:
    """Whether the account was charged what it should be. A run that was interrupted, or whose key is refused, ends
    without it; so does one that is interrupted now."""
    context, summary = runner.context, ending.batch_summary
    if runner.signal or context.blocked or summary.total > CLOSING_JOBS:
        return None
    with suppress(asyncio.CancelledError):
        return await closing_bill(context.database, context.service, context.batch_id, began_at, clock.utcnow())
    return None


@contextmanager
def signals_handled(runner: Runner) -> Iterator[None]:
    """Let the first signal stop the run in good order, and the second at once. A terminal that hangs up is a signal.

    A hang-up that is ignored stays ignored: `nohup` says that the run is to go on.
    """
    loop = asyncio.get_running_loop()
    numbers = [signal.SIGINT, signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    if hangup and signal.getsignal(hangup) is not signal.SIG_IGN:
        numbers.append(hangup)
    before = {number: signal.getsignal(number) for number in numbers}

    def stop(number: int, _frame: object) -> None:
        stopped_by = signal.SIGTERM if number == hangup else signal.Signals(number)
        loop.call_soon_threadsafe(runner.stop, stopped_by)

    for number in numbers:
        signal.signal(number, stop)
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
            print_json({"event": "warning", "message": warning})
        else:
            print_lines(f"warning: {warning}", err=True)


def announce(spec: RunSpec, as_json: bool) -> None:
    """Say what the manifest has changed in the job table."""
    batch, synced = spec.batch, spec.synced
    if as_json:
        fields = {name: getattr(synced, name) for name in ("new", "edited", "gone", "redone", "unchanged")}
        changed = [change.key for change in synced.changed]
        print_json({"event": "enrolled", "batch": batch.name, **fields, "changed": changed}, is_progress=True)
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
            print_json({"event": "elsewhere", "jobs": blocker.jobs, "origin": blocker.origin}, is_progress=True)
        else:
            print_lines(blocker_line(blocker, clock.utcnow()), err=True)


def notice_of(runner: Runner, *, with_lock: bool) -> str:
    """Why a run is doing less than it could, and what it warns of. `with_lock`: also who has locked the job table."""
    context, reason = runner.context, ""
    lock = runner.database.lock.notice if with_lock else ""
    if runner.signal:
        reason = "stopping: finishing what is on the wire (Ctrl-C again ends at once)"
    elif context.disk:
        reason = f"no more downloads: {context.disk}"
    elif context.blocked:
        reason = f"no more submits: {context.blocked.reason}"
    elif context.hold:
        until = ""
        if context.hold_until:
            then = "the log is read again" if context.awaits_history else "one request tries again"
            until = f", until {local_time(context.hold_until, clock.utcnow())}; then {then}"
        reason = f"no more submits for now: {context.hold}{until}"
    waiting = f"{plural(len(context.obstacles), 'file')} cannot be written now" if context.obstacles else ""
    return "; ".join(filter(None, (lock, reason, waiting, context.warning)))


def print_result(
    batch: Batch, ending: Ending, failures: list[str], remarks: list[str], suspects: SuspectClips, bill: str
) -> None:
    """The result on standard output; on standard error, what a person should know and can do about it."""
    summary = ending.batch_summary
    OutputStream(sys.stdout).write(f"{summary_line(batch.name, batch.service, summary)}; {ending.message}")
    errors, retry = OutputStream(sys.stderr), options.next_command("retry")
    lines = [f"  remark: {remark}" for remark in remarks]
    lines += [f"  {blocker_line(blocker, clock.utcnow())}" for blocker in ending.blockers]
    lines += lost_lines(ending.lost, retry.strip("`"))
    lines += suspect_lines(suspects, options.next_command("review").strip("`"))
    lines += [bill] if bill else []
    if ending.exit_code is ExitCode.INCOMPLETE:
        lines += advice(summary, failures, retry)
    for line in lines:
        errors.write(line)


def advice(summary: BatchSummary, failures: list[str], retry: str) -> list[str]:
    """What a person can do about jobs that are not delivered."""
    lines = [f"  {failure}" for failure in failures]
    failed = summary.counts[State.FAILED]
    if failed > len(failures):
        lines.append(f"  and {failed - len(failures)} more; {options.next_command('status')} lists them")
    if failed:
        it = "it" if failed == 1 else "them"
        lines.append(f"{retry} makes {it} pending again; then run.")
        lines.append("Where a generation may be charged, it asks for that one first, for nothing.")
    if summary.held:
        lines.append(f"{options.next_command('resolve')} shows the jobs that are held for a person.")
    if late := summary.late + summary.stuck:
        lines.append(f"{plural(late, 'job')} may still be delivered: run the same command again later.")
        lines.append(f"{options.next_command('cancel')} with an id gives one up, whatever it waits for.")
    return lines
